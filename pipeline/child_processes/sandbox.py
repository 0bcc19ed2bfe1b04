"""Takes rights from a decode worker before it opens its first file.

It gives up network, new files, core dumps, much memory and a life after its parent. Each layer is
used where the kernel offers it. The active layers are reported, never assumed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from dataclasses import dataclass

OPEN_FILES = 64
"""A video, its pipes, its shared memory, and what libraries keep open."""
DATA_FACTOR = 2
"""The kernel's limit of memory as a multiple of the parent's limit.

The kernel counts memory that was asked for, even if it is not used.
"""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


@dataclass(frozen=True)
class SandboxLayers:
    """Which layers are active in one child."""

    no_network: bool
    """It has a network namespace of its own, with nothing in it."""
    no_new_files: bool
    """No byte can be written to any file."""
    no_core: bool
    few_open_files: bool
    bounded_memory: bool
    no_new_privileges: bool
    dies_with_parent: bool
    """The kernel kills it, even if it hangs. Otherwise it ends when it next reads its pipe."""

    @property
    def are_enough_for_old_code(self) -> bool:
        """Whether code with known holes could neither write a file nor gain rights."""
        return self.no_new_files and self.no_new_privileges and self.bounded_memory

    def __str__(self) -> str:
        """`6 of 7 layers: no_network, ...; without dies_with_parent`."""
        active: list[str] = []
        missing: list[str] = []
        for name, is_active in vars(self).items():
            (active if is_active else missing).append(name)
        text = f"{len(active)} of {len(vars(self))} layers: {', '.join(active)}"
        if missing:
            text += f"; without {', '.join(missing)}"
        return text


def enter(max_memory_bytes: int, parent_pid: int | None) -> SandboxLayers:
    """Give up for good what no decoder needs. Call it before any thread starts.

    Args:
        max_memory_bytes: what the parent allows; the kernel's limit is `DATA_FACTOR` times that.
        parent_pid: die with the thread that started us. Only for a parent that started us from its
            main thread; else None.
    """
    return SandboxLayers(
        no_network=_leave_network(),
        # A size of 0: files can be created, but nothing can be written to them.
        no_new_files=_limit(resource.RLIMIT_FSIZE, 0),
        no_core=_limit(resource.RLIMIT_CORE, 0),
        few_open_files=_limit(resource.RLIMIT_NOFILE, OPEN_FILES),
        bounded_memory=_limit(resource.RLIMIT_DATA, DATA_FACTOR * max_memory_bytes),
        # Programs with setuid could otherwise undo the other layers.
        no_new_privileges=_prctl(_PR_SET_NO_NEW_PRIVS, 1),
        dies_with_parent=parent_pid is not None and _die_with(parent_pid),
    )


def _limit(kind: int, value: int) -> bool:
    try:
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):
        return False
    return True


def _leave_network() -> bool:
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    # Root may leave at once; a user needs a user namespace around it, where the kernel allows one.
    attempts = (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    return any(libc.unshare(flags) == 0 for flags in attempts)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _die_with(parent_pid: int) -> bool:
    is_active = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # If the parent ended before that call, the signal never comes.
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")
    return is_active
