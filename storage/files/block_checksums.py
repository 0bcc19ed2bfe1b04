"""Checksums of a file's blocks, so that a reader checks what it reads, and no more than that.

    one line of JSON: what this is, the algorithm, the size of a block and of the file; then 8 bytes
    for each block

The checksums lie in a file of their own, whose sha256 somebody trusted keeps; the file that they
are about stays as it is. xxh3_64 finds every single flipped bit, and any other change but one in
2^64. Refuses to know what the bytes mean.
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
"""Measured (`benchmarks/checked_reads.py`): larger blocks make the first look at a short window
dearer, since its ends lie in blocks that are read whole; smaller ones cost more calls and a larger
file.
"""
SMALLEST_BLOCK_BYTES = 512
_LONGEST_HEAD_BYTES = 512
_STORED = np.dtype("<u8")

Read = Callable[[int, memoryview], None]
"""(offset in bytes, buffer): fill the whole buffer from there, or raise IntegrityError."""
ReadInto = Callable[[int, Sequence[memoryview]], None]
"""The same for several buffers, one after the other."""
_SUM_OF = xxhash.xxh3_64_intdigest
_SPAN_BYTES = 256 * 1024
"""Read at once, and hashed while the processor's cache still has it."""


@dataclass(frozen=True)
class BlockChecksums:
    """What each block of a file of `size_bytes` has to hash to."""

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
    """The checksums of a file that consists of these pieces, one after the other, of any
    lengths.
    """
    sums = [(len(block), _SUM_OF(block)) for block in _blocks(pieces, block_bytes)]
    return BlockChecksums(
        sum(size for size, _ in sums), block_bytes, np.array([one for _, one in sums], np.uint64)
    )


def read_checksums(path: Path, sha256: str) -> BlockChecksums:
    """The checksums kept in `path`. Raises IntegrityError unless its bytes have that sha256."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntegrityError(path, f"cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its manifest says")
    try:
        return _decoded(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            path, f"holds no block checksums that this release knows: {error}"
        ) from error


class CheckedReads:
    """Reads of one file of which every block is compared with its checksum when it is first
    touched.

    A block that was found right is not looked at again: what it holds can only change under a
    reader by a fault of memory or disk that no earlier check would have seen. Threads may share
    one; two of them may check a block twice.
    """

    def __init__(self, path: Path, checksums: BlockChecksums, read: ReadInto, advice: str) -> None:
        """`path` and `advice` are for error messages: which file, and what to do about it."""
        self._path, self._read, self._advice = path, read, advice
        self._block_bytes, self._size_bytes = checksums.block_bytes, checksums.size_bytes
        self._sums = np.ascontiguousarray(
            checksums.sums, np.uint64
        ).data  # 8 bytes each; a list would take 44
        self._right = bytearray(len(self._sums))
        """1 for each block that was found right."""
        self._span_blocks = max(1, _SPAN_BYTES // checksums.block_bytes)

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from `offset` on. Raises IntegrityError, naming the block, if one is not
        as written.
        """
        end = offset + len(buffer)
        first, last = offset // self._block_bytes, (end - 1) // self._block_bytes
        if self._right.find(0, first, last + 1) < 0:
            self._read(offset, (buffer,))
            return
        if end > self._size_bytes:
            raise IntegrityError(self._path, f"has {self._size_bytes:,} bytes, asked for {end:,}")
        for block in range(first, last + 1, self._span_blocks):
            behind = min(block + self._span_blocks, last + 1)
            low, high = max(offset, block * self._block_bytes), min(end, behind * self._block_bytes)
            self._fill_span(block, behind, low, buffer[low - offset : high - offset])

    def _fill_span(self, first: int, behind: int, low: int, piece: memoryview) -> None:
        """Fill `piece` from the byte `low` on; it touches exactly the blocks `[first, behind)`."""
        if self._right.find(0, first, behind) < 0:
            self._read(low, (piece,))
            return
        # Blocks that stick out at either end are read whole, unless they are known to be right.
        high, size = low + len(piece), self._block_bytes
        start = low if self._right[first] else first * size
        stop = high if self._right[behind - 1] else min(behind * size, self._size_bytes)
        head, tail = memoryview(bytearray(low - start)), memoryview(bytearray(stop - high))
        self._read(start, (head, piece, tail))
        for block in range(first, behind):
            if self._right[block]:
                continue
            inside = piece[max(block * size - low, 0) : (block + 1) * size - low]
            before, after = head if block == first else b"", tail if block == behind - 1 else b""
            if (
                _sum_of(before, inside, after) if before or after else _SUM_OF(inside)
            ) != self._sums[block]:
                raise self._wrong(block)
            self._right[block] = 1

    def _wrong(self, block: int) -> IntegrityError:
        start = block * self._block_bytes
        where = f"block {block} (bytes {start:,} to {min(start + self._block_bytes, self._size_bytes):,})"
        return IntegrityError(self._path, f"{where} is not what was written; {self._advice}")


def _sum_of(*pieces: bytes | memoryview) -> int:
    found = xxhash.xxh3_64()
    for piece in pieces:
        found.update(piece)
    return found.intdigest()


def _decoded(raw: bytes) -> BlockChecksums:
    line, _, body = raw.partition(b"\n")
    if len(line) > _LONGEST_HEAD_BYTES:
        raise ValueError("its first line is too long")
    head = json.loads(line)
    found = (head["format"], head["format_version"], head["algorithm"])
    if found != (FORMAT, FORMAT_VERSION, ALGORITHM):
        raise ValueError(f"it is {found}")
    block_bytes, size_bytes = int(head["block_bytes"]), int(head["size_bytes"])
    sums = np.frombuffer(body, _STORED)
    if block_bytes < SMALLEST_BLOCK_BYTES or len(sums) != -(-size_bytes // block_bytes):
        raise ValueError(
            f"it has {len(sums)} checksums for {size_bytes:,} bytes in blocks of {block_bytes:,}"
        )
    return BlockChecksums(size_bytes, block_bytes, sums)


def _blocks(pieces: Iterable[bytes | memoryview], block_bytes: int) -> Iterator[bytes | memoryview]:
    rest = b""
    for piece in pieces:
        view = memoryview(piece).cast("B")
        taken = (block_bytes - len(rest)) % block_bytes if rest else 0
        if rest:
            rest += bytes(view[:taken])
            if len(rest) < block_bytes:
                continue
            yield rest
            rest = b""
        whole = taken + (len(view) - taken) // block_bytes * block_bytes
        yield from (view[start : start + block_bytes] for start in range(taken, whole, block_bytes))
        rest = bytes(view[whole:])
    if rest:
        yield rest
