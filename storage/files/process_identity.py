"""The identity of a process, and whether it is certainly dead.

A process is identified by its host, the host's boot, its pid namespace, its pid and its start time,
so neither a reused pid nor a reboot misleads. No clock and no file time is used. Processes of other
boots are never declared dead: two virtual machines may have one name, and even one machine id.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TOKEN = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})-([0-9]+)-([1-9][0-9]*)-([0-9]+)")
_TEMPORARY = re.compile(rf"\..+\.tmp-({TOKEN.pattern})-[0-9a-f]{{8}}(\..*)?", re.DOTALL)
_UNKNOWN_TAG = "00000000"


@dataclass(frozen=True)
class Owner:
    """The identity of one process, safe to put into a file name."""

    host_tag: str
    """First 8 hex digits of the sha256 of the host's name."""
    boot_tag: str
    """The same of the kernel's boot id; zeros where the system has none."""
    namespace: str
    """Number of the pid namespace, different in each container; `0` where the system has none."""
    pid: int
    started: str
    """Start time in the kernel's own ticks since boot; `0` where unknown."""

    @property
    def token(self) -> str:
        """The owner as text; `parse_owner` reads it back."""
        return f"{self.host_tag}-{self.boot_tag}-{self.namespace}-{self.pid}-{self.started}"

    def is_dead(self) -> bool:
        """True only if it ran on this boot, in our pid namespace, and does not run any more.

        False for a live process, and for any process of another boot, host or container, about
        which nothing can be known here.
        """
        here = current_process()
        is_boot_known = here.boot_tag != _UNKNOWN_TAG
        is_observable = is_boot_known and self._place() == here._place()
        return is_observable and not _is_running(self.pid, self.started)

    def is_of_other_boot(self) -> bool:
        """Whether it ran on a machine with our name under another boot.

        That is an earlier boot of this machine, or another machine with the same name.
        """
        here = current_process()
        return self.host_tag == here.host_tag and self.boot_tag != here.boot_tag

    def _place(self) -> tuple[str, str, str]:
        return self.host_tag, self.boot_tag, self.namespace


def parse_owner(token: str) -> Owner | None:
    """The owner that a token names, or None for any other text."""
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    host_tag, boot_tag, namespace, pid, started = match.groups()
    return Owner(host_tag, boot_tag, namespace, int(pid), started)


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of `path` that names its owner. A program may append a suffix."""
    return path.with_name(f".{path.name}.tmp-{current_process().token}-{secrets.token_hex(4)}")


def owner_of_temporary(path: Path) -> Owner | None:
    """The owner in a temporary file's name; None for any other file."""
    match = _TEMPORARY.fullmatch(path.name)
    return parse_owner(match.group(1)) if match else None


def current_process() -> Owner:
    """The calling process; correct in a forked child too."""
    # Asked each time, since a fork changes it; the cache is by pid.
    return _owner_of(os.getpid())


@lru_cache(maxsize=2)
def _owner_of(pid: int) -> Owner:
    # Differs after every boot, also where pids and start times repeat.
    boot_id = _text(Path("/proc/sys/kernel/random/boot_id"))
    boot_tag = _tag(boot_id) if boot_id else _UNKNOWN_TAG
    state = _state_and_start(pid)
    return Owner(
        _tag(socket.gethostname()), boot_tag, _namespace(), pid, state[1] if state else "0"
    )


def _tag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        link = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "0"
    number = re.search(r"[0-9]+", link)  # the link is `pid:[4026531836]`
    return number[0] if number else "0"


def _state_and_start(pid: int) -> tuple[str, str] | None:
    # The command's name is in brackets and may itself have brackets and blanks, so count from the
    # last bracket: the state is field 3 of the file, the start time field 22.
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else None


def _is_running(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        # It exists and is another user's; or no pid is that large, and /proc has none below.
        pass
    state = _state_and_start(pid)
    if state is None:
        return pid < 2**31  # no /proc, or hidden from us: the signal's answer stands
    run_state, start_time = state
    is_zombie = run_state in "ZX"
    return not is_zombie and started in ("0", start_time)
