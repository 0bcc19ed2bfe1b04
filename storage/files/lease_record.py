"""What a lease file says, and how long another process's lease was seen not to change.

The holder raises a counter, `beats`, in the file that it made, through a descriptor that it keeps.
So a holder that was taken over and wakes up writes into its own file, which has no name any more,
and never into its follower's. Refuses to know who may take what.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from storage.base.fingerprint import readable_json
from storage.files.process_identity import Owner, parse_owner

HEARTBEAT_SECONDS = 5.0
"""How often a holder raises its counter."""
WATCH_SECONDS = 120.0
"""A lease whose file was seen unchanged for so long is taken over, wherever its holder ran."""
LOOK_SECONDS = 1.0
"""Between two looks of a process that waits for a lease."""
LONGEST_GAP_SECONDS = 15.0
"""Between two looks no more than this counts as watched: a watcher may have been suspended together
with the holder.
"""
_NO_BEATS = "000000000000.00000000"
"""A number, and eight digits drawn anew for each: a machine that was copied with a running holder
on it goes on with the same numbers.
"""
_LARGEST_RECORD_BYTES = 4096


@dataclass(frozen=True)
class LeaseHolder:
    """Who holds a lease. The nonce tells two leases of one process apart."""

    host: str
    owner: Owner
    nonce: str

    def __str__(self) -> str:
        return f"process {self.owner.pid} on {self.host}"

    def to_bytes(self) -> bytes:
        """The file's first content; its length never changes."""
        return readable_json(
            {"beats": _NO_BEATS, "host": self.host, "owner": self.owner.token, "nonce": self.nonce}
        )


@dataclass(frozen=True)
class LeaseSnapshot:
    """A lease file at one instant."""

    content: bytes
    file: tuple[int, int]
    """Device and inode: a copy of a whole data root has leases of the same content."""
    record: LeaseHolder | None
    """None where the file says nothing that we could read."""
    beats: str | None
    """None where the holder raises no counter: it runs an older release."""

    @property
    def holder(self) -> str:
        """In words."""
        return "somebody who left an unreadable record" if self.record is None else str(self.record)

    @property
    def tag(self) -> str:
        """16 hex digits that stand for this lease, however often its counter was raised."""
        return self.record.nonce if self.record else hashlib.sha256(self.content).hexdigest()[:16]

    @property
    def can_be_outwaited(self) -> bool:
        """Whether silence proves the holder dead. One that raises no counter is silent while it
        works.
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
    if owner is None or not isinstance(host, str) or not _is_nonce(nonce):
        return None, None
    return LeaseHolder(host, owner, nonce), beats if isinstance(beats, str) else None


def _is_nonce(value: object) -> bool:
    """It becomes part of a file name."""
    return isinstance(value, str) and len(value) == 16 and set(value) <= set("0123456789abcdef")


class Heartbeat:
    """Writes the counter of our own lease. `descriptor` is ours from now on."""

    def __init__(self, descriptor: int, record: LeaseHolder) -> None:
        self._descriptor = descriptor
        self._offset = record.to_bytes().index(_NO_BEATS.encode())
        self._count = 0
        self._said = {_NO_BEATS}
        status = os.fstat(descriptor)
        self.file = status.st_dev, status.st_ino
        """As in `Sight`."""

    def beat(self) -> None:
        """Raise it, and wait until others can see that. Raises OSError."""
        self._count += 1
        beats = f"{self._count:012d}.{secrets.token_hex(4)}"
        self._said.add(beats)  # if the next lines fail, nobody knows what the file says
        os.pwrite(self._descriptor, beats.encode(), self._offset)
        os.fsync(self._descriptor)
        self._said = {beats}

    def wrote(self, sight: LeaseSnapshot) -> bool:
        """Whether this is our file, and says what we wrote last."""
        return sight.file == self.file and sight.beats in self._said

    def close(self) -> None:
        """Raise it no more."""
        os.close(self._descriptor)


@dataclass
class _Watched:
    sight: LeaseSnapshot
    looked_at: float
    unchanged_seconds: float = 0.0


class LeaseWatcher:
    """How long this process has seen other processes' leases unchanged, by a clock that only goes
    forward.
    """

    def __init__(self) -> None:
        self._watched: dict[Path, _Watched] = {}

    def observe(self, path: Path, sight: LeaseSnapshot | None) -> float:
        """Note what was seen just now; returns for how many seconds it has been seen unchanged."""
        now = time.monotonic()
        before = self._watched.get(path)
        if sight is None:
            self._watched.pop(path, None)
            return 0.0
        if before is None or before.sight != sight:
            self._watched[path] = _Watched(sight, now)
            return 0.0
        before.unchanged_seconds += min(now - before.looked_at, LONGEST_GAP_SECONDS)
        before.looked_at = now
        return before.unchanged_seconds

    def observe_all(self) -> None:
        """Look at all leases met so far: many that one dead machine left are then watched
        together.
        """
        for path in list(self._watched):
            try:
                self.observe(path, read_lease(path))
            except OSError:
                self._watched.pop(path, None)  # watched anew when it can be read again
