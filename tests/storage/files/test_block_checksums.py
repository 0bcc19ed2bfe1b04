from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from storage.base.errors import IntegrityError
from storage.base.records import FeatureTrack
from storage.features.part_reader import PartReader
from storage.features.part_writer import PartHeader
from storage.files import block_checksums
from storage.files.block_checksums import BLOCK_BYTES, CheckedReads, checksums_of, read_checksums
from storage.files.hdf5 import read_layout
from tests.support.feature_samples import commit_tracks, variant_layout

CONTENT = np.random.default_rng(5).integers(0, 256, 10_007, dtype=np.uint8).tobytes()
BLOCK = 1000
"""Content of 10,007 bytes has ten blocks and a bit; `_SPAN_BYTES` is made small, so that windows
cross its ends too.
"""
SEED = 20261201


@pytest.fixture(autouse=True)
def _short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_checksums, "_SPAN_BYTES", 3 * BLOCK)


class Source:
    """A file in memory that counts how often each of its bytes was read."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.reads = np.zeros(len(content), np.int64)

    def read(self, offset: int, buffers: Sequence[memoryview]) -> None:
        for buffer in buffers:
            buffer[:] = self.content[offset : offset + len(buffer)]
            self.reads[offset : offset + len(buffer)] += 1
            offset += len(buffer)


def checked(source: Source) -> CheckedReads:
    return CheckedReads(Path("part"), checksums_of([CONTENT], BLOCK), source.read, "run the repair")


def test_checksums_do_not_depend_on_the_pieces_they_are_made_from() -> None:
    dice = random.Random(SEED)
    whole = checksums_of([CONTENT], BLOCK).encode()
    for _ in range(50):
        cuts = sorted(dice.choices(range(len(CONTENT) + 1), k=dice.randrange(1, 40)))
        pieces = [
            CONTENT[start:end] for start, end in zip([0, *cuts], [*cuts, len(CONTENT)], strict=True)
        ]
        assert checksums_of(pieces, BLOCK).encode() == whole
    assert len(checksums_of([], BLOCK).sums) == 0


def test_a_checksum_file_is_read_back_and_any_change_of_it_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "part.sums"
    written = checksums_of([CONTENT], BLOCK)
    raw = written.encode()
    sha256 = hashlib.sha256(raw).hexdigest()
    path.write_bytes(raw)
    found = read_checksums(path, sha256)
    assert (found.size_bytes, found.block_bytes, found.sums.tolist()) == (
        len(CONTENT),
        BLOCK,
        written.sums.tolist(),
    )
    for damaged in (raw[:-1], raw + b"x", b"", bytes([raw[0] ^ 1]) + raw[1:], raw[:-3] + b"abc"):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="its sha256 is not"):
            read_checksums(path, sha256)
    for other in (
        b"{}\n",
        b"[1]\n" + raw,
        raw.replace(b'"format_version": 1', b'"format_version": 2'),
        raw[:-8],
    ):
        path.write_bytes(other)
        with pytest.raises(IntegrityError, match="no block checksums that this release can read"):
            read_checksums(path, hashlib.sha256(other).hexdigest())
    path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_checksums(path, sha256)


def test_windows_are_what_lies_there_and_no_block_is_checked_twice() -> None:
    dice = random.Random(SEED)
    source = Source(CONTENT)
    reads = checked(source)
    for _ in range(300):
        start = dice.randrange(len(CONTENT))
        buffer = bytearray(dice.randrange(1, min(5000, len(CONTENT) - start) + 1))
        reads.fill(start, memoryview(buffer))
        assert bytes(buffer) == CONTENT[start : start + len(buffer)]
    source.reads[:] = 0
    reads.fill(0, memoryview(bytearray(len(CONTENT))))
    assert set(source.reads.tolist()) == {1}
    source.reads[:] = 0
    reads.fill(1500, memoryview(bytearray(3)))
    assert source.reads.sum() == 3  # a block that is known is not read whole again


def test_a_flipped_bit_is_never_returned_whichever_window_meets_it() -> None:
    dice = random.Random(SEED)
    for _ in range(300):
        source = Source(CONTENT)
        bit = dice.randrange(8 * len(CONTENT))
        source.content[bit // 8] ^= 1 << bit % 8
        block = bit // 8 // BLOCK
        reads = checked(source)
        start = dice.randrange(len(CONTENT))
        size = dice.randrange(1, len(CONTENT) - start + 1)
        buffer = bytearray(size)
        if start // BLOCK <= block <= (start + size - 1) // BLOCK:
            with pytest.raises(
                IntegrityError,
                match=rf"block {block} \(bytes {block * BLOCK:,} to .*run the repair",
            ):
                reads.fill(start, memoryview(buffer))
        else:
            reads.fill(start, memoryview(buffer))
            assert bytes(buffer) == CONTENT[start : start + size]
        with pytest.raises(IntegrityError):
            reads.fill(bit // 8, memoryview(bytearray(1)))


def test_threads_share_what_was_checked() -> None:
    source = Source(CONTENT)
    source.content[4321] ^= 8
    reads = checked(source)

    def ask(seed: int) -> list[str]:
        dice, told = random.Random(seed), []
        for _ in range(100):
            start = dice.randrange(len(CONTENT) - 700)
            buffer = bytearray(700)
            try:
                reads.fill(start, memoryview(buffer))
            except IntegrityError:
                told.append(
                    "refused"
                    if start // BLOCK <= 4 <= (start + 699) // BLOCK
                    else "refused a sound block"
                )
            else:
                told.append(
                    "right" if bytes(buffer) == CONTENT[start : start + 700] else "other bytes"
                )
        return told

    with ThreadPoolExecutor(4) as pool:
        told = {one for answers in pool.map(ask, range(8)) for one in answers}
    assert told == {"refused", "right"}


def test_a_part_of_many_blocks_is_read_where_it_is_whole(tmp_path: Path) -> None:
    """Rows far from the damaged block still come; those in it do not; nothing else of the part is
    read.
    """
    rows = 4 * BLOCK_BYTES // 512
    pool5 = np.random.default_rng(1).normal(size=(rows, 256)).astype(np.float16)
    spans = np.stack([np.arange(rows), np.arange(rows) + 1], 1).astype(np.float64)
    layout = variant_layout(tmp_path)
    (part,) = commit_tracks(layout, [FeatureTrack("v", spans, {"pool5": pool5})]).parts
    path = layout.folder / part.file
    offset = read_layout(path).extents["arrays/pool5"].offset_bytes
    row = rows // 2
    content = bytearray(path.read_bytes())
    content[offset + row * 512 + 100] ^= 32
    path.write_bytes(content)
    reader = PartReader(path, part.checksums_sha256)
    assert reader.header == PartHeader("sample", 0, layout.variant, layout.fingerprint)
    assert np.array_equal(np.asarray(reader.table.rows("pool5", 0, 10)), pool5[:10])
    assert np.array_equal(np.asarray(reader.table.rows("pool5", rows - 10, rows)), pool5[-10:])
    assert reader.table.spans(0, rows).tobytes() == spans.tobytes()
    block = (offset + row * 512 + 100) // BLOCK_BYTES
    for asked in [(row, row + 1), (0, rows)]:
        with pytest.raises(IntegrityError, match=rf"{part.file}: block {block} "):
            reader.table.rows("pool5", *asked)
    assert not np.array_equal(
        np.asarray(PartReader(path).table.rows("pool5", row, row + 1)), pool5[row : row + 1]
    )


def test_what_hdf5_parses_is_checked_before_it_is_believed(tmp_path: Path) -> None:
    """A flip of HDF5's own tables is found by the checksum, not by what libhdf5 makes of it."""
    layout = variant_layout(tmp_path)
    (part,) = commit_tracks(
        layout, [FeatureTrack("v", np.array([[0.0, 1.0]]), {"x": np.ones((1, 3), np.int32)})]
    ).parts
    path = layout.folder / part.file
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"block 0 .* is not what was written"):
            PartReader(path, part.checksums_sha256).ids()
