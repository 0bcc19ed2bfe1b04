"""Which process made a file, and whether it is surely dead.

A process is known by its host, the host's boot, its pid namespace, its pid and its start time, so
that neither a reused pid nor a reboot fools anybody. No clock and no file time is consulted.
Refuses to judge processes of other boots: two virtual machines may have one name, and even one
machine id.
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
    """Number of the pid namespace; `0` where the system has none. Containers of one host have
    different ones.
    """
    pid: int
    started: str
    """Start time in the kernel's own ticks since boot; `0` where unknown."""

    @property
    def token(self) -> str:
        """The one spelling of an owner; `parse` reads it back."""
        return f"{self.host_tag}-{self.boot_tag}-{self.namespace}-{self.pid}-{self.started}"

    def is_dead(self) -> bool:
        """True only if it certainly runs no more: it ran on this very boot, in our pid namespace,
        and is gone.

        False for a live process, and for any process of another boot, host or container: nobody
        here can know.
        """
        here = current_process()
        if here.boot_tag == _UNKNOWN_TAG or self._place() != here._place():
            return False
        return not _is_running(self.pid, self.started)

    def is_of_other_boot(self) -> bool:
        """Whether it ran on a machine of our name under another boot: an earlier one of ours, or a
        namesake's.
        """
        here = current_process()
        return self.host_tag == here.host_tag and self.boot_tag != here.boot_tag

    def _place(self) -> tuple[str, str, str]:
        return self.host_tag, self.boot_tag, self.namespace


def parse_owner(token: str) -> Owner | None:
    """The owner a token spells, or None if it spells none."""
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    host_tag, boot_tag, namespace, pid, started = match.groups()
    return Owner(host_tag, boot_tag, namespace, int(pid), started)


def temporary_beside(path: Path) -> Path:
    """A fresh name in the folder of `path` that says whose it is. A program may add its own ending
    to it.
    """
    return path.with_name(f".{path.name}.tmp-{current_process().token}-{secrets.token_hex(4)}")


def owner_of_temporary(path: Path) -> Owner | None:
    """Whose temporary file this is, by its name; None if it is none of ours."""
    match = _TEMPORARY.fullmatch(path.name)
    return parse_owner(match.group(1)) if match else None


def current_process() -> Owner:
    """The process that asks; right in a forked child too."""
    return _owner_of(os.getpid())


@lru_cache(maxsize=2)
def _owner_of(pid: int) -> Owner:
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
    return "".join(character for character in link if character.isdigit()) or "0"


def _state_and_start(pid: int) -> tuple[str, str] | None:
    # The command's name stands in brackets and may itself hold brackets and blanks, so count from
    # the last bracket: state is field 3 of the file, start time is field 22.
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else None


def _is_running(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # it exists and is another user's, or no pid can be that large and the lines below find nothing
    state = _state_and_start(pid)
    if state is None:
        return pid < 2**31  # no /proc, or hidden from us: the signal's answer stands
    return state[0] not in "ZX" and started in ("0", state[1])
