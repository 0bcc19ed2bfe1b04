"""One writer per shard: a small file that names the live process which builds it.

A lease whose owner is surely dead is taken over; one that is alive, or lives on another host, is respected. Nothing
here looks at a clock or a file's time. Refuses to know what the lease protects.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.errors import IntegrityError, LeaseHeld
from storage.faults import disk_fault
from storage.fingerprint import readable
from storage.owner import Owner, current, parse, temporary_beside

NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What `link` answers on file systems that have no hard links."""
_LARGEST_RECORD_BYTES = 4096


@dataclass(frozen=True)
class _Record:
    """What a lease file says. The nonce tells two leases of one process apart."""

    host: str
    owner: Owner
    nonce: str

    def __str__(self) -> str:
        return f"process {self.owner.pid} on {self.host}"


@contextlib.contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold `path` while the block runs.

    Raises LeaseHeld at once, naming the owner, if another live process (or any process of another host) holds it.
    On the way out the file is removed only if it is still ours.
    """
    mine = _Record(socket.gethostname(), current(), secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(path, mine)
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it must not hide what is being told; a taker will find us dead
            _release(path, mine)
        raise
    try:
        _release(path, mine)
    except OSError as error:
        raise disk_fault(error, path) from error


def tidy(folder: Path) -> list[Path]:
    """Remove the leases in `folder` whose owners are dead, by taking each over and letting go; returns them."""
    removed = []
    for path in sorted(folder.glob("[!.]*.lease*")):
        with contextlib.suppress(LeaseHeld, IntegrityError):
            record = _read(path)
            if record is not None and record.owner.is_dead():
                with lease(path):
                    removed.append(path)
    return removed


def _acquire(path: Path, mine: _Record) -> None:
    while not _create(path, mine):
        try:
            holder = _read(path)
        except IntegrityError as error:
            raise LeaseHeld(path, "somebody who left an unreadable record") from error
        if holder is None:
            continue  # released between our two looks
        if not holder.owner.is_dead():
            raise LeaseHeld(path, str(holder))
        if _take_over(path, mine, holder):
            return


def _take_over(path: Path, mine: _Record, stale: _Record) -> bool:
    # Only the holder of the claim named after the stale nonce may replace that record, and it looks again once it has
    # the claim. So of many takers one wins, and a slow one cannot remove the winner's fresh lease.
    claim = path.with_name(f"{path.name}.{stale.nonce}")
    try:
        with lease(claim):
            if _read(path) != stale:
                return False
            _replace(path, mine)
            return True
    except LeaseHeld as held:
        raise LeaseHeld(path, held.owner) from held


def _create(path: Path, mine: _Record) -> bool:
    """Make the file with its content in one atomic step; False if it is there already."""
    temporary = _write_aside(path, mine)
    try:
        return _link(temporary, path, mine)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _link(temporary: Path, path: Path, mine: _Record) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer got lost: then the link is ours after all.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, mine)
    return True


def _create_exclusively(path: Path, mine: _Record) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    except FileExistsError:
        return False
    _fill(descriptor, mine)
    return True


def _replace(path: Path, mine: _Record) -> None:
    temporary = _write_aside(path, mine)
    try:
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write_aside(path: Path, mine: _Record) -> Path:
    temporary = temporary_beside(path)
    _fill(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), mine)
    return temporary


def _fill(descriptor: int, mine: _Record) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(readable({"host": mine.host, "owner": mine.owner.token, "nonce": mine.nonce}))
        file.flush()
        os.fsync(file.fileno())


def _release(path: Path, mine: _Record) -> None:
    if mine.owner != current():
        return  # a forked child leaves the block its parent entered; the lease is the parent's
    with contextlib.suppress(IntegrityError, FileNotFoundError):
        if _read(path) == mine:
            path.unlink()


def _read(path: Path) -> _Record | None:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_RECORD_BYTES)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(raw)
        owner, record = parse(content["owner"]), (content["host"], content["nonce"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(path, "is no lease record") from error
    if owner is None or not all(isinstance(item, str) for item in record):
        raise IntegrityError(path, "is a lease record without a proper owner")
    return _Record(record[0], owner, record[1])
