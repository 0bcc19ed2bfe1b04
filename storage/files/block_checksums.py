"""Checksums of a file's blocks, so that a reader checks what it reads, and only that.

    one line of JSON: format, algorithm, size of a block and of the file
    8 bytes for each block

The checksums lie in a file of their own, and the manifest keeps the sha256 of that file; the file
that they are about stays as it is. xxh3_64 finds every single flipped bit, and any other change but
one in 2^64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from storage.base.errors import IntegrityError

FORMAT = "video-highlights block checksums"
FORMAT_VERSION = 1
ALGORITHM = "xxh3_64"
BLOCK_BYTES = 32 * 1024
"""Measured with `benchmarks/checked_reads.py`.

Larger blocks make the first read of a short window slower, since the blocks at its ends are read
whole. Smaller ones need more calls and a larger file of checksums.
"""
SMALLEST_BLOCK_BYTES = 512
_LONGEST_HEAD_BYTES = 512
_STORED = np.dtype("<u8")

Read = Callable[[int, memoryview], None]
"""(offset in bytes, buffer): fills the whole buffer from there, or raises IntegrityError."""
ReadInto = Callable[[int, Sequence[memoryview]], None]
"""The same for several buffers, one after the other."""
_checksum_of = xxhash.xxh3_64_intdigest
_SPAN_BYTES = 256 * 1024
"""Read at once, and hashed while it is still in the processor's cache."""


@dataclass(frozen=True)
class BlockChecksums:
    """The checksum of each block of a file of `size_bytes`."""

    size_bytes: int
    block_bytes: int
    sums: NDArray[np.uint64]
    """`(blocks,)`; the last block may be shorter than the others."""

    def encode(self) -> bytes:
        """The bytes of a checksum file. Equal content, equal bytes."""
        head = {
            "algorithm": ALGORITHM,
            "block_bytes": self.block_bytes,
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "size_bytes": self.size_bytes,
        }
        return json.dumps(head).encode("ascii") + b"\n" + self.sums.astype(_STORED).tobytes()


def checksums_of(
    pieces: Iterable[bytes | memoryview], block_bytes: int = BLOCK_BYTES
) -> BlockChecksums:
    """The checksums of a file that consists of these pieces in order, of any lengths."""
    size_bytes = 0
    sums: list[int] = []
    for block in _blocks(pieces, block_bytes):
        size_bytes += len(block)
        sums.append(_checksum_of(block))
    return BlockChecksums(size_bytes, block_bytes, np.array(sums, np.uint64))


def read_checksums(path: Path, sha256: str) -> BlockChecksums:
    """The checksums kept in `path`. Raises IntegrityError unless its bytes have that sha256."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntegrityError(path, f"cannot be read: {error.strerror or error}") from error
    # The checksums are only as good as this file: the manifest vouches for it.
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its manifest says")
    try:
        return _decode(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            path, f"holds no block checksums that this release can read: {error}"
        ) from error


class CheckedReads:
    """Reads from one file, and compares each block with its checksum when it is first touched.

    A block that was found correct is not checked again: its content can only change under a reader
    by a fault of memory or disk that an earlier check would not have seen either. Threads may share
    one object; two of them may check a block twice.
    """

    def __init__(self, path: Path, checksums: BlockChecksums, read: ReadInto, advice: str) -> None:
        """`path` and `advice` are for error messages: the file, and how to repair it."""
        self._path = path
        self._read = read
        self._advice = advice
        self._block_bytes = checksums.block_bytes
        self._size_bytes = checksums.size_bytes
        # A buffer takes 8 bytes for each checksum; a list would take 44.
        self._sums = np.ascontiguousarray(checksums.sums, np.uint64).data
        self._is_checked = bytearray(len(self._sums))
        """1 for each block that was found correct. A bytearray, for its quick `find`."""
        self._span_blocks = max(1, _SPAN_BYTES // checksums.block_bytes)

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from `offset` on.

        Raises:
            IntegrityError: a block is not as written; the message names it.
        """
        end = offset + len(buffer)
        first, last = offset // self._block_bytes, (end - 1) // self._block_bytes
        if self._all_checked(first, last + 1):
            self._read(offset, (buffer,))
            return
        if end > self._size_bytes:
            raise IntegrityError(self._path, f"has {self._size_bytes:,} bytes, asked for {end:,}")
        # In spans that fit the cache. Block by block the many calls take twice as long.
        for block in range(first, last + 1, self._span_blocks):
            stop_block = min(block + self._span_blocks, last + 1)
            low = max(offset, block * self._block_bytes)
            high = min(end, stop_block * self._block_bytes)
            self._fill_span(block, stop_block, low, buffer[low - offset : high - offset])

    def _all_checked(self, first: int, stop: int) -> bool:
        return self._is_checked.find(0, first, stop) < 0

    def _fill_span(self, first: int, stop: int, low: int, piece: memoryview) -> None:
        """Fill `piece` from the byte `low` on; it touches exactly the blocks `[first, stop)`."""
        if self._all_checked(first, stop):
            self._read(low, (piece,))
            return
        # The first and the last block may stick out of the piece: such a block is read whole,
        # unless it was checked before.
        high = low + len(piece)
        start, end = low, high
        if not self._is_checked[first]:
            start = first * self._block_bytes
        if not self._is_checked[stop - 1]:
            end = min(stop * self._block_bytes, self._size_bytes)
        head, tail = memoryview(bytearray(low - start)), memoryview(bytearray(end - high))
        self._read(start, (head, piece, tail))
        self._check_blocks(first, stop, low, (head, piece, tail))

    def _check_blocks(
        self, first: int, stop: int, low: int, pieces: tuple[memoryview, memoryview, memoryview]
    ) -> None:
        """Check the blocks `[first, stop)` in (head, piece, tail); the piece begins at `low`."""
        head, piece, tail = pieces
        for block in range(first, stop):
            if self._is_checked[block]:
                continue
            begin = block * self._block_bytes - low
            inside = piece[max(begin, 0) : begin + self._block_bytes]
            before = head if block == first else b""
            after = tail if block == stop - 1 else b""
            is_inside = not before and not after
            checksum = (
                _checksum_of(inside) if is_inside else _checksum_of_pieces(before, inside, after)
            )
            if checksum != self._sums[block]:
                raise self._wrong(block)
            self._is_checked[block] = 1

    def _wrong(self, block: int) -> IntegrityError:
        start = block * self._block_bytes
        end = min(start + self._block_bytes, self._size_bytes)
        return IntegrityError(
            self._path,
            f"block {block} (bytes {start:,} to {end:,}) is not what was written; {self._advice}",
        )


def _checksum_of_pieces(*pieces: bytes | memoryview) -> int:
    hasher = xxhash.xxh3_64()
    for piece in pieces:
        hasher.update(piece)
    return hasher.intdigest()


def _decode(raw: bytes) -> BlockChecksums:
    line, _, body = raw.partition(b"\n")
    if len(line) > _LONGEST_HEAD_BYTES:
        raise ValueError("its first line is too long")
    head = json.loads(line)
    version = (head["format"], head["format_version"], head["algorithm"])
    if version != (FORMAT, FORMAT_VERSION, ALGORITHM):
        raise ValueError(f"it is {version}")
    block_bytes, size_bytes = int(head["block_bytes"]), int(head["size_bytes"])
    if block_bytes < SMALLEST_BLOCK_BYTES:
        raise ValueError(f"its blocks have {block_bytes:,} bytes")
    sums = np.frombuffer(body, _STORED)
    block_count = -(-size_bytes // block_bytes)  # rounded up, exactly for any size
    if len(sums) != block_count:
        raise ValueError(
            f"it has {len(sums)} checksums for {size_bytes:,} bytes in blocks of {block_bytes:,}"
        )
    return BlockChecksums(size_bytes, block_bytes, sums)


def _blocks(pieces: Iterable[bytes | memoryview], block_bytes: int) -> Iterator[bytes | memoryview]:
    """The same bytes in blocks of equal size; only the last may be shorter."""
    rest = b""
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if rest:
            missing_bytes = block_bytes - len(rest)
            rest += bytes(view[:missing_bytes])
            view = view[missing_bytes:]
            if len(rest) < block_bytes:
                continue
            yield rest
        # Whole blocks are views of the piece: nothing is copied.
        whole_bytes = len(view) // block_bytes * block_bytes
        for start in range(0, whole_bytes, block_bytes):
            yield view[start : start + block_bytes]
        rest = bytes(view[whole_bytes:])
    if rest:
        yield rest
