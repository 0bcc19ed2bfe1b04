"""What a decode child gives up before it opens its first file: network, new files, core dumps, much
memory, long life.

Each layer is taken where the kernel offers it; what is active is said, never assumed. Refuses to
know decoders.
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
"""The kernel counts memory asked for, not used: it stops a child at this many times what the parent
allows.
"""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


@dataclass(frozen=True)
class SandboxLayers:
    """Which layers hold in one child."""

    no_network: bool
    """It has a network namespace of its own, with nothing in it."""
    no_new_files: bool
    """No byte can be written to any file."""
    no_core: bool
    few_open_files: bool
    bounded_memory: bool
    no_new_privileges: bool
    dies_with_parent: bool
    """By the kernel's hand, even when it hangs. Otherwise it ends when it next reads its pipe."""

    def __str__(self) -> str:
        """`6 of 7 layers: no_network, ...; without dies_with_parent`."""
        active = [name for name, holds in vars(self).items() if holds]
        missing = [name for name, holds in vars(self).items() if not holds]
        without = f"; without {', '.join(missing)}" if missing else ""
        return f"{len(active)} of {len(vars(self))} layers: {', '.join(active)}{without}"


def enter(max_memory_bytes: int, parent_pid: int | None) -> SandboxLayers:
    """Give up for good what no decoder needs; call before any thread starts.

    `parent_pid` asks to die with the thread that started us: for parents that started us from their
    main thread.
    """
    return SandboxLayers(
        no_network=_leave_network(),
        no_new_files=_limit(resource.RLIMIT_FSIZE, 0),
        no_core=_limit(resource.RLIMIT_CORE, 0),
        few_open_files=_limit(resource.RLIMIT_NOFILE, OPEN_FILES),
        bounded_memory=_limit(resource.RLIMIT_DATA, DATA_FACTOR * max_memory_bytes),
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
    """As root at once; as a user with a user namespace around it, where the kernel allows that."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    return any(
        libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
    )


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _die_with(parent_pid: int) -> bool:
    holds = _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before we asked
        sys.exit("the parent is gone")
    return holds
