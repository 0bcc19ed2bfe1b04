"""The content of a lease file, its heartbeat, and how long other leases were seen unchanged.

The holder raises a counter, `beats`, in the file that it made, through a descriptor that it keeps
open. So a holder that was taken over and wakes up writes into its own file, which has no name any
more, and never into its successor's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from storage.base.fingerprint import readable_json
from storage.files.process_identity import Owner, parse_owner

HEARTBEAT_SECONDS = 5.0
"""Interval at which a holder raises its counter."""
WATCH_SECONDS = 120.0
"""A lease that was seen unchanged for this long is taken over, wherever its holder ran."""
LOOK_SECONDS = 1.0
"""Interval at which a process that waits for a lease reads it."""
LONGEST_GAP_SECONDS = 15.0
"""Between two observations at most this counts as watched.

A watcher may have been suspended together with the holder.
"""
_NO_BEATS = "000000000000.00000000"
"""A number, and eight random hex digits, new for each.

A machine that was copied with a running holder on it continues with the same numbers.
"""
_LARGEST_RECORD_BYTES = 4096
_NONCE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class LeaseHolder:
    """The holder of a lease. The nonce distinguishes two leases of one process."""

    host: str
    owner: Owner
    nonce: str

    def __str__(self) -> str:
        return f"process {self.owner.pid} on {self.host}"

    def to_bytes(self) -> bytes:
        """The first content of the lease file; its length never changes."""
        return readable_json(
            {"beats": _NO_BEATS, "host": self.host, "owner": self.owner.token, "nonce": self.nonce}
        )


@dataclass(frozen=True)
class LeaseSnapshot:
    """A lease file at one moment."""

    content: bytes
    file: tuple[int, int]
    """Device and inode: a copy of a whole data root has leases of the same content."""
    record: LeaseHolder | None
    """None if the file cannot be parsed."""
    beats: str | None
    """None if the holder raises no counter, because it runs an older release."""

    @property
    def holder(self) -> str:
        """The holder, for messages."""
        return "an unknown process (unreadable record)" if self.record is None else str(self.record)

    @property
    def tag(self) -> str:
        """16 hex digits that identify this lease; they do not depend on its counter."""
        return self.record.nonce if self.record else hashlib.sha256(self.content).hexdigest()[:16]

    @property
    def can_be_outwaited(self) -> bool:
        """Whether silence proves the holder dead.

        One that raises no counter is silent while it works.
        """
        return self.record is None or self.beats is not None

    def is_surely_dead(self) -> bool:
        """Whether the holder is known to be dead without watching it."""
        return self.record is not None and self.record.owner.is_dead()


def read_lease(path: Path) -> LeaseSnapshot | None:
    """The lease file as it is now; None if there is none. Raises OSError as it comes."""
    try:
        # Opened anew each time: that is when a network file system asks its server.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, _LARGEST_RECORD_BYTES)
    finally:
        os.close(descriptor)
    return LeaseSnapshot(content, (status.st_dev, status.st_ino), *_parsed(content))


def _parsed(content: bytes) -> tuple[LeaseHolder | None, str | None]:
    try:
        fields = json.loads(content)
        host, owner, nonce = fields["host"], parse_owner(fields["owner"]), fields["nonce"]
        beats = fields.get("beats")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, None
    if owner is None or not isinstance(host, str):
        return None, None
    if not _is_nonce(nonce):
        return None, None
    if not isinstance(beats, str):
        beats = None
    return LeaseHolder(host, owner, nonce), beats


def _is_nonce(value: object) -> bool:
    """Whether it is 16 hex digits: it becomes part of a file name."""
    return isinstance(value, str) and _NONCE.fullmatch(value) is not None


class Heartbeat:
    """Raises the counter of our own lease. It owns `descriptor` from now on."""

    def __init__(self, descriptor: int, record: LeaseHolder) -> None:
        self._descriptor = descriptor
        self._offset = record.to_bytes().index(_NO_BEATS.encode())
        self._count = 0
        self._written = {_NO_BEATS}
        status = os.fstat(descriptor)
        self.file = status.st_dev, status.st_ino
        """Device and inode, as in `LeaseSnapshot`."""

    def beat(self) -> None:
        """Raise the counter, and wait until other machines can see it. Raises OSError."""
        self._count += 1
        # Of fixed length, so that it is overwritten in place and in one call.
        beats = f"{self._count:012d}.{secrets.token_hex(4)}"
        # If the next lines fail, the file may have either value.
        self._written.add(beats)
        os.pwrite(self._descriptor, beats.encode(), self._offset)
        # On a network file system other machines see it only then.
        os.fsync(self._descriptor)
        self._written = {beats}

    def wrote(self, seen: LeaseSnapshot) -> bool:
        """Whether this is our file, with the counter that we wrote last."""
        return seen.file == self.file and seen.beats in self._written

    def close(self) -> None:
        """Close the file; the counter is not raised any more."""
        os.close(self._descriptor)


@dataclass
class _Watched:
    seen: LeaseSnapshot
    looked_at: float
    unchanged_seconds: float = 0.0


class LeaseWatcher:
    """How long this process has seen the leases of others unchanged, by the monotonic clock."""

    def __init__(self) -> None:
        self._watched: dict[Path, _Watched] = {}

    def observe(self, path: Path, seen: LeaseSnapshot | None) -> float:
        """Note what was just read; returns for how many seconds it has been seen unchanged."""
        now = time.monotonic()
        before = self._watched.get(path)
        if seen is None:
            self._watched.pop(path, None)
            return 0.0
        if before is None or before.seen != seen:
            self._watched[path] = _Watched(seen, now)
            return 0.0
        # A watcher that slept (a closed laptop) must not count that time.
        before.unchanged_seconds += min(now - before.looked_at, LONGEST_GAP_SECONDS)
        before.looked_at = now
        return before.unchanged_seconds

    def observe_all(self) -> None:
        """Read all leases met so far, so that those of one dead machine are watched together."""
        for path in list(self._watched):
            try:
                self.observe(path, read_lease(path))
            except OSError:
                self._watched.pop(path, None)  # watched from the start when it can be read again
