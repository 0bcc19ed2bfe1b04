"""What checking blocks costs a reader: `python -m benchmarks.checked_reads`.

Windows of rows at random places that do not overlap, out of one part in the page cache: by a reader
that checks nothing, by a new one that sees each block for the first time, and by the same once
more. The three take turns in one run, in CPU seconds of the thread, so that other work beside it
does not count; the ratios are those of the medians over rounds. Opening a part, once per reader, is
measured beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.base.records import FeatureTrack
from storage.features.part_reader import PartReader
from storage.features.part_writer import PartHeader, write_part
from storage.files.block_checksums import BLOCK_BYTES, checksums_of

WIDTH = 8192
"""Of a row of C3D's pool5 in float16: 16 KiB."""
WINDOWS_ROWS = (1, 4, 16, 64, 256)
BLOCKS_KIB = (16, 32, 64, 128, 256, 1024)
MOST_WINDOWS = 200


def part_of(folder: Path, megabytes: int) -> Path:
    """A part with one video of so many megabytes of rows."""
    rows = megabytes * 2**20 // (2 * WIDTH)
    starts = np.arange(rows, dtype=np.float64)
    pool5 = np.random.default_rng(0).integers(0, 2**15, (rows, WIDTH), np.uint16).view(np.float16)
    track = FeatureTrack("video", np.stack([starts, starts + 1], 1), {"pool5": pool5})
    path = folder / "shard_000.p000.h5"
    write_part(path, PartHeader("sample", 0, "c3d", "0123456789ab"), [track], {})
    return path


def sealed(path: Path, block_kib: int) -> str:
    """Write checksums of blocks of that size; returns their sha256, for a reader."""
    content = checksums_of([path.read_bytes()], block_kib * 1024).encode()
    path.with_suffix(".sums").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def places(rows: int, window: int, seed: int) -> Sequence[int]:
    """First rows of windows that do not overlap, in random order."""
    rng = np.random.default_rng(seed)
    count = min(MOST_WINDOWS, rows // (2 * window))
    slots = rng.choice(rows // (2 * window), count, replace=False)
    return [int(slot) * 2 * window + int(rng.integers(window)) for slot in slots]


def seconds_of(reader: PartReader, firsts: Sequence[int], window: int) -> float:
    """Of one window, on the average."""
    table = reader.table
    before = time.thread_time()
    for first in firsts:
        table.rows("pool5", first, first + window)
    return (time.thread_time() - before) / len(firsts)


def compare(path: Path, block_kib: int, rounds: int) -> list[str]:
    """Rows of a Markdown table."""
    checksums = sealed(path, block_kib)
    rows = PartReader(path).table.row_count
    lines = []
    for window in WINDOWS_ROWS:
        found: dict[str, list[float]] = {"unchecked": [], "first": [], "later": []}
        for number in range(rounds + 1):
            firsts = places(rows, window, number)
            plain, checked = PartReader(path), PartReader(path, checksums)
            found["unchecked"].append(seconds_of(plain, firsts, window))
            found["first"].append(seconds_of(checked, firsts, window))
            found["later"].append(seconds_of(checked, firsts, window))
            found["unchecked"].append(seconds_of(plain, firsts, window))
        medians = {
            name: statistics.median(times[len(times) // (rounds + 1) :])
            for name, times in found.items()
        }
        base = medians["unchecked"]
        ratios = f"{medians['first'] / base:.2f} | {medians['later'] / base:.2f}"
        lines.append(
            f"| {block_kib} | {window} ({window * 2 * WIDTH // 1024:,}) | {base * 1e6:,.0f} | {ratios} |"
        )
    return lines


def opening(path: Path, rounds: int) -> str:
    """What it takes to open a part, with and without checksums."""
    checksums = sealed(path, BLOCK_BYTES // 1024)
    times: dict[str, list[float]] = {"": [], checksums: []}
    for _ in range(rounds * 10):
        for sha256, found in times.items():
            before = time.thread_time()
            PartReader(path, sha256).ids()
            found.append(time.thread_time() - before)
    plain, checked = (statistics.median(found) * 1e3 for found in times.values())
    return f"opening the part: {plain:.2f} ms unchecked, {checked:.2f} ms checked"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--blocks-kib", type=int, nargs="*", default=list(BLOCKS_KIB))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = part_of(Path(folder), options.megabytes)
        print(  # noqa: T201
            "| block KiB | window rows (KiB) | unchecked µs | first touch | later |",
            "|-|-|-|-|-|",
            sep="\n",
        )
        for block_kib in options.blocks_kib:
            for line in compare(path, block_kib, options.rounds):
                print(line, flush=True)  # noqa: T201
        print(opening(path, options.rounds))  # noqa: T201


if __name__ == "__main__":
    main()
