"""Checksums of a file's blocks, so that a reader checks what it reads, and no more than that.

    one line of JSON: what this is, the algorithm, the size of a block and of the file; then 8 bytes for each block

The checksums lie in a file of their own, whose sha256 somebody trusted keeps; the file that they are about stays as it
is. xxh3_64 finds every single flipped bit, and any other change but one in 2^64. Refuses to know what the bytes mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from storage.errors import IntegrityError

FORMAT = "video-highlights block checksums"
FORMAT_VERSION = 1
ALGORITHM = "xxh3_64"
BLOCK_BYTES = 32 * 1024
"""Measured (`benchmarks/checked_reads.py`): larger blocks make the first look at a short window dearer, since its ends
lie in blocks that are read whole; smaller ones cost more calls and a larger file."""
SMALLEST_BLOCK_BYTES = 512
_LONGEST_HEAD_BYTES = 512
_SUM = np.dtype("<u8")

Read = Callable[[int, memoryview], None]
"""(offset in bytes, buffer): fill the whole buffer from there, or raise IntegrityError."""


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
        return json.dumps(head).encode("ascii") + b"\n" + self.sums.astype(_SUM).tobytes()


def checksums_of(pieces: Iterable[bytes | memoryview], block_bytes: int = BLOCK_BYTES) -> BlockChecksums:
    """The checksums of a file that consists of these pieces, one after the other, of any lengths."""
    sums = [(len(block), xxhash.xxh3_64_intdigest(block)) for block in _blocks(pieces, block_bytes)]
    return BlockChecksums(sum(size for size, _ in sums), block_bytes, np.array([one for _, one in sums], np.uint64))


def read_checksums(path: Path, sha256: str) -> BlockChecksums:
    """The checksums kept in `path`. Raises IntegrityError unless its bytes have that sha256."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise IntegrityError(path, f"cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise IntegrityError(path, "was altered: its sha256 is not what its sidecar says")
    try:
        return _decoded(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(path, f"holds no block checksums that this release knows: {error}") from error


class CheckedReads:
    """Reads of one file of which every block is compared with its checksum when it is first touched.

    A block that was found right is not looked at again: what it holds can only change under a reader by a fault of
    memory or disk that no earlier check would have seen. Threads may share one; two of them may check a block twice.
    """

    def __init__(self, path: Path, checksums: BlockChecksums, read: Read, advice: str) -> None:
        """`path` and `advice` are for error messages: which file, and what to do about it."""
        self._path, self._read, self._advice = path, read, advice
        self._block_bytes, self._size_bytes = checksums.block_bytes, checksums.size_bytes
        self._sums: list[int] = checksums.sums.tolist()
        self._right = bytearray(len(self._sums))
        """1 for each block that was found right."""

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from `offset` on. Raises IntegrityError, naming the block, if one is not as written."""
        size = self._block_bytes
        first, last = offset // size, (offset + len(buffer) - 1) // size
        if self._right.find(0, first, last + 1) < 0:
            self._read(offset, buffer)
            return
        if offset + len(buffer) > self._size_bytes:
            raise IntegrityError(self._path, f"has {self._size_bytes:,} bytes, asked for {offset + len(buffer):,}")
        for block in range(first, last + 1):
            start, end = block * size, min(block * size + size, self._size_bytes)
            low, high = max(start, offset), min(end, offset + len(buffer))
            self._fill_from(block, start, end, low, buffer[low - offset : high - offset])

    def _fill_from(self, block: int, start: int, end: int, low: int, piece: memoryview) -> None:
        """Fill `piece` from the byte `low` on, which with all of it lies in the block `[start, end)`."""
        if self._right[block]:
            self._read(low, piece)
        elif len(piece) == end - start:
            self._read(start, piece)
            self._check(block, piece)
        else:
            whole = memoryview(bytearray(end - start))
            self._read(start, whole)
            self._check(block, whole)
            piece[:] = whole[low - start : low - start + len(piece)]

    def _check(self, block: int, content: memoryview) -> None:
        if xxhash.xxh3_64_intdigest(content) != self._sums[block]:
            start = block * self._block_bytes
            where = f"block {block} (bytes {start:,} to {start + len(content):,})"
            raise IntegrityError(self._path, f"{where} is not what was written; {self._advice}")
        self._right[block] = 1


def _decoded(raw: bytes) -> BlockChecksums:
    line, _, body = raw.partition(b"\n")
    if len(line) > _LONGEST_HEAD_BYTES:
        raise ValueError("its first line is too long")
    head = json.loads(line)
    found = (head["format"], head["format_version"], head["algorithm"])
    if found != (FORMAT, FORMAT_VERSION, ALGORITHM):
        raise ValueError(f"it is {found}")
    block_bytes, size_bytes = int(head["block_bytes"]), int(head["size_bytes"])
    sums = np.frombuffer(body, _SUM)
    if block_bytes < SMALLEST_BLOCK_BYTES or len(sums) != -(-size_bytes // block_bytes):
        raise ValueError(f"it has {len(sums)} checksums for {size_bytes:,} bytes in blocks of {block_bytes:,}")
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
