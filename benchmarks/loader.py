"""Rows a second through `trainer.data`, against a plain array and np.memmap: `python -m
benchmarks.loader`.

All read the same windows and whole videos of the same fp16 rows, in interleaved rounds of one run,
and end in the same float32 batches; medians. Then random windows as arrays, by the store's handles
alone, against a copy out of np.memmap. The store lies in the page cache, as it does from the second
epoch on where memory allows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from storage.base.records import Array
from storage.features.store import FeatureStore
from trainer.data import DataSettings, Example, HighlightDataset, Loader, LoaderSettings, open_data
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users

KEY = "c3d/pool5"
WINDOW_ROWS = 256
DRAWS = 200
Rows = Mapping[str, tuple[int, int]]
"""Video → its rows in one long array."""


def batches_of_array(
    array: Array, rows: Rows, order: Sequence[Sequence[Example]]
) -> Iterator[torch.Tensor]:
    """What any loader has to do at least: copy rows into a zero-padded float32 batch."""
    for examples in order:
        places = [(rows[e.video_id][0], e.window or (0, rows[e.video_id][1])) for e in examples]
        longest = max(end - first for _, (first, end) in places)
        batch = torch.zeros(len(examples), longest, *array.shape[1:])
        for place, (base, (first, end)) in enumerate(places):
            batch[place, : end - first].copy_(torch.from_numpy(array[base + first : base + end]))
        yield batch


def flat_copy(folder: Path, path: Path) -> Rows:
    """Write all rows as one raw file; where each video lies in it."""
    reader = FeatureStore(folder)["c3d"]
    rows: dict[str, tuple[int, int]] = {}
    count = 0
    with path.open("wb") as file:
        for video_id in reader.ids:
            values = np.asarray(reader[video_id]["pool5"])
            file.write(values.tobytes())
            rows[video_id] = (count, len(values))
            count += len(values)
    return rows


def rate(run: Callable[[], int]) -> float:
    """Rows a second of one pass."""
    before = time.perf_counter()
    return run() / (time.perf_counter() - before)


def compare(folder: Path, width: int, rounds: int, batch_size: int) -> list[str]:
    """A Markdown table of medians."""
    raw = folder / "rows.bin"
    rows = flat_copy(folder, raw)
    arrays: dict[str, Array] = {
        "in-memory array": np.fromfile(raw, np.float16).reshape(-1, width),
        "np.memmap": np.memmap(raw, np.float16, "c").reshape(-1, width),
    }
    lines = ["| read | by | rows/s | of the array's |", "|-|-|-|-|"]
    for name, window in (("windows of 256", WINDOW_ROWS), ("whole videos", None)):
        settings = DataSettings((KEY,), "row", "none", window_rows=window, holdout_users=1)
        dataset = open_data(folder, settings).training()
        rates = measure(dataset, arrays, rows, rounds, batch_size)
        base = rates["in-memory array"]
        lines += [
            f"| {name} | {by} | {found:,.0f} | {found / base:.2f} |" for by, found in rates.items()
        ]
    lines += ["", "| random windows of 256 | by | rows/s | time, of np.memmap's |", "|-|-|-|-|"]
    rates = windows(folder, arrays["np.memmap"], rows, rounds)
    return lines + [
        f"| copied | {by} | {found:,.0f} | {rates['np.memmap'] / found:.2f} |"
        for by, found in rates.items()
    ]


def windows(folder: Path, flat: Array, rows: Rows, rounds: int) -> dict[str, float]:
    """Way → median rows a second of windows drawn at random, each a new array."""
    reader = FeatureStore(folder)["c3d"]
    rng = np.random.default_rng(0)
    long = [video_id for video_id, (_, count) in rows.items() if count > WINDOW_ROWS]
    drawn = [
        (str(one), int(rng.integers(rows[one][1] - WINDOW_ROWS))) for one in rng.choice(long, DRAWS)
    ]

    def by_memmap() -> int:
        return sum(
            len(np.array(flat[rows[one][0] + at : rows[one][0] + at + WINDOW_ROWS]))
            for one, at in drawn
        )

    def by_store() -> int:
        return sum(len(reader[one]["pool5"][at : at + WINDOW_ROWS]) for one, at in drawn)

    ways = {"np.memmap": by_memmap, "FeatureStore": by_store}
    rates: dict[str, list[float]] = {by: [] for by in ways}
    for _ in range(rounds + 1):  # the first warms up
        for by, run in ways.items():
            rates[by].append(rate(run))
    return {by: statistics.median(found[1:]) for by, found in rates.items()}


def measure(
    dataset: HighlightDataset, arrays: Mapping[str, Array], rows: Rows, rounds: int, batch_size: int
) -> dict[str, float]:
    """Way → median rows a second."""
    here = Loader(dataset, LoaderSettings(batch_size))
    ahead = Loader(dataset, LoaderSettings(batch_size, workers=2, start_method="fork"))
    order = [found.examples for found in here]
    list(ahead)  # starts the workers

    def by_array(array: Array) -> Callable[[], int]:
        return lambda: sum(_real_rows(array, rows, order))

    def by_loader(loader: Loader) -> Callable[[], int]:
        return lambda: sum(int(batch.mask.sum()) for batch, _, _ in loader)

    ways = {name: by_array(array) for name, array in arrays.items()}
    ways |= {"Loader": by_loader(here), "Loader, 2 workers": by_loader(ahead)}
    rates: dict[str, list[float]] = {by: [] for by in ways}
    for _ in range(rounds):
        for by, run in ways.items():
            rates[by].append(rate(run))
    return {by: statistics.median(found) for by, found in rates.items()}


def _real_rows(array: Array, rows: Rows, order: Sequence[Sequence[Example]]) -> list[int]:
    return [
        sum((e.window[1] - e.window[0]) if e.window else rows[e.video_id][1] for e in examples)
        for examples, _ in zip(order, batches_of_array(array, rows, order), strict=True)
    ]


def main() -> None:
    """Plant a store and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--users", type=int, default=12)
    parser.add_argument("--width", type=int, default=8192, help="of a row; 8192 is C3D's pool5")
    parser.add_argument("--batch", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        settings = SyntheticUserSettings(
            train_users=chosen.users, test_users=1, max_videos=8, width=chosen.width
        )
        folder = synthesize_users(Path(root), settings)
        sys.stdout.write(
            "\n".join(compare(folder, chosen.width, chosen.rounds, chosen.batch)) + "\n"
        )


if __name__ == "__main__":
    main()
