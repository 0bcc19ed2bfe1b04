"""An append-only log: records at the end of one file, each complete or passed over.

    16 bytes that begin every record
    size of head and of body, 8 bytes each
    sha256 of these and of the head
    head
    body
    sha256 of the body

A record that a kill or a full disk cut short, or that was damaged, is passed over, and the next one
is found by its first 16 bytes. One process at a time may append; any may read meanwhile. A record
is safe from a kill at once, and from a power cut when the disk has it: records within one second
share one wait for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError
from storage.files import atomic_write
from storage.files.atomic_write import Buffer, Step
from storage.files.file_lock import check_held
from storage.files.os_errors import disk_fault

SYNC_EVERY_SECONDS = 1.0
"""A record waits for the disk if the last wait was longer ago than this."""
_MAGIC = bytes.fromhex("89564864 0d0a1a0a c3e1f7b2 5a9d6e40")
_SIZES = struct.Struct("<QQ")
_SHA256_BYTES = 32
_PREFIX_BYTES = len(_MAGIC) + _SIZES.size + _SHA256_BYTES
_LARGEST_HEAD_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 20
_PIECES_AT_ONCE = 64

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC

_append_lock = threading.Lock()
_synced_at: dict[Path, float] = {}
"""When this process last waited for the disk, by the monotonic clock."""


@dataclass(frozen=True)
class LogRecord:
    """A complete record: its head, and where its body lies."""

    head: bytes
    body_offset: int
    body_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole record in its file."""
        return _PREFIX_BYTES + len(self.head) + self.body_bytes + _SHA256_BYTES


def append(path: Path, head: bytes, body: Sequence[Buffer] = ()) -> None:
    """Append a record; makes the file and its folders.

    Raises DiskFull, or SystemicFault for other errors of the disk.
    """
    pieces = [memoryview(piece).cast("B") for piece in body]
    body_bytes = sum(piece.nbytes for piece in pieces)
    sizes = _SIZES.pack(len(head), body_bytes)
    body_sha = hashlib.sha256()
    for piece in pieces:
        body_sha.update(piece)
    # The sizes have a checksum of their own: damaged ones would lead past the next record.
    start = _MAGIC + sizes + hashlib.sha256(sizes + head).digest() + head
    # One log has one writing process, but several threads finish videos at once.
    with _append_lock:
        try:
            _append(path, [memoryview(start), *pieces, memoryview(body_sha.digest())])
        except OSError as error:
            raise disk_fault(error, path, len(start) + body_bytes) from error


def _append(path: Path, pieces: list[memoryview]) -> None:
    check_held()
    atomic_write.before_step(Step.OPEN, path)
    try:
        # Without O_CREAT first, to know whether the file is new: its folder must be synced then.
        descriptor, is_new = os.open(path, _FLAGS), False
    except FileNotFoundError:
        atomic_write.make_folder(path.parent)
        descriptor, is_new = os.open(path, _FLAGS | os.O_CREAT, 0o666), True
    try:
        _write_whole(descriptor, path, pieces)
        if is_new or time.monotonic() - _synced_at.get(path, 0.0) > SYNC_EVERY_SECONDS:
            atomic_write.before_step(Step.FSYNC, path)
            os.fdatasync(descriptor)
            _synced_at[path] = time.monotonic()
    finally:
        os.close(descriptor)
    if is_new:
        # Else a power cut could lose the name of a file whose content is on disk.
        atomic_write.sync_folder(path.parent)


def _write_whole(descriptor: int, path: Path, pieces: list[memoryview]) -> None:
    before = os.fstat(descriptor).st_size
    try:
        while pieces:
            atomic_write.before_step(Step.WRITE, path)
            check_held()
            # One call for many pieces: joining them first would copy the rows of a video.
            written = os.writev(descriptor, pieces[:_PIECES_AT_ONCE])
            while pieces and written >= pieces[0].nbytes:
                written -= pieces.pop(0).nbytes
            if written:
                pieces[0] = pieces[0][written:]
    except OSError:
        # An incomplete record that stays does no harm, because readers pass over it.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, before)
        raise


def read_records(path: Path) -> Iterator[LogRecord]:
    """The complete records, in the order they were appended; none if there is no file.

    Reads the whole file. Raises SystemicFault if the disk fails.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _records(file.fileno(), os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_fault(error, path) from error


def read_body(path: Path, record: LogRecord) -> NDArray[np.uint8]:
    """The bytes of a record's body. Raises IntegrityError if they are not as written."""
    found = np.empty(record.body_bytes + _SHA256_BYTES, np.uint8)
    try:
        with path.open("rb", buffering=0) as file:
            is_complete = _fill(file.fileno(), record.body_offset, found)
    except OSError as error:
        raise disk_fault(error, path) from error
    content = found[:-_SHA256_BYTES]
    if not is_complete or hashlib.sha256(content.data).digest() != found[-_SHA256_BYTES:].tobytes():
        raise IntegrityError(
            path, f"the record at byte {record.body_offset:,} is not what was written"
        )
    return content


def copy_records(path: Path, records: Iterable[LogRecord]) -> Iterator[bytes]:
    """The bytes of these records of the log, from which a log with them alone can be written.

    Raises SystemicFault if the disk fails.
    """
    try:
        with path.open("rb") as file:
            for record in records:
                end = record.body_offset + record.body_bytes + _SHA256_BYTES
                file.seek(end - record.size_bytes)
                while piece := file.read(min(_BLOCK_BYTES, end - file.tell())):
                    yield piece
    except OSError as error:
        raise disk_fault(error, path) from error


def _records(descriptor: int, size: int) -> Iterator[LogRecord]:
    block = np.empty(_BLOCK_BYTES, np.uint8)
    offset = 0
    # Up to the size at the beginning: a record that is being appended is for the next reader.
    while offset + _PREFIX_BYTES <= size:
        record = _record_at(descriptor, offset, size)
        if record is not None and _has_whole_body(descriptor, record, block):
            yield record
            offset = record.body_offset + record.body_bytes + _SHA256_BYTES
        else:
            offset = _next_magic(descriptor, offset + 1, size)


def _record_at(descriptor: int, offset: int, size: int) -> LogRecord | None:
    """The record that begins here, if its head is correct and the file is long enough for it."""
    prefix = os.pread(descriptor, _PREFIX_BYTES, offset)
    if not prefix.startswith(_MAGIC):
        return None
    sizes, sha256 = prefix[len(_MAGIC) : -_SHA256_BYTES], prefix[-_SHA256_BYTES:]
    head_bytes, body_bytes = _SIZES.unpack(sizes)
    head_offset = offset + _PREFIX_BYTES
    body_offset = head_offset + head_bytes
    # Checked before the head is read: damaged sizes may be of any value.
    if head_bytes > _LARGEST_HEAD_BYTES or body_offset + body_bytes + _SHA256_BYTES > size:
        return None
    head = os.pread(descriptor, head_bytes, head_offset)
    if len(head) != head_bytes or hashlib.sha256(sizes + head).digest() != sha256:
        return None
    return LogRecord(head, body_offset, body_bytes)


def _has_whole_body(descriptor: int, record: LogRecord, block: NDArray[np.uint8]) -> bool:
    sha = hashlib.sha256()
    offset, end = record.body_offset, record.body_offset + record.body_bytes
    while offset < end:
        piece = block[: min(len(block), end - offset)]
        if not _fill(descriptor, offset, piece):
            return False
        sha.update(piece.data)
        offset += len(piece)
    return os.pread(descriptor, _SHA256_BYTES, end) == sha.digest()


def _next_magic(descriptor: int, offset: int, size: int) -> int:
    """Where the next record may begin; the file's size if none does."""
    while offset < size:
        piece = os.pread(descriptor, _BLOCK_BYTES, offset)
        found = piece.find(_MAGIC)
        if found >= 0:
            return offset + found
        # The next record's first bytes may lie across two blocks.
        offset += max(1, len(piece) - len(_MAGIC) + 1)
    return size


def _fill(descriptor: int, offset: int, array: NDArray[np.uint8]) -> bool:
    """Fill the array from the file; False if the file ends before."""
    buffer = array.data
    while buffer:
        count = os.preadv(descriptor, [buffer], offset)
        if count == 0:
            return False
        buffer, offset = buffer[count:], offset + count
    return True
