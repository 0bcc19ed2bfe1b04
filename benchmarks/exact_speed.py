"""The CPU time of each extractor in two checkouts, and whether their rows have the same bits.

`python -m benchmarks.exact_speed BEFORE AFTER VIDEO... [--extractors c3d,tased]`, where BEFORE and
AFTER are folders of this repository. Weights are random and seeded. Rows are compared by sha256, at
1 and 2 threads and in batches of 1 and of as many windows as there are. Times are CPU seconds of
one window on one thread, not wall time, so other work on the machine disturbs them less; rounds of
the two checkouts alternate, and the table shows medians.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

ALL_EXTRACTORS = ("c3d", "frames", "keypoint_rcnn", "tased", "yolov5")
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "c3d": (
        {"arrays": ("pool5", "fc6", "fc7", "fc6_linear", "fc7_linear")},
        {"pool5": "symmetric"},
        {"precision": "bf16"},
    ),
    "frames": ({},),
    "keypoint_rcnn": ({"min_size_pixels": 480, "max_size_pixels": 800},),
    "tased": ({"block_pixels": 1}, {"precision": "bf16"}),
    "yolov5": (
        {"arrays": ("p3", "p4", "p5", "detections")},
        {"arrays": ("p3", "p4", "p5"), "precision": "bf16"},
    ),
}
"""Extractor → the settings that are compared; the first ones are timed too."""
THREADS = (1, 2)
WEIGHTS = "random:0"
LEAST_SECONDS = 0.05
"""Shorter times are not compared: the operating system counts in steps of 0.01."""


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one window."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.system


class Worker:
    """A process that runs one extractor of a checkout."""

    def __init__(self, checkout: Path, job: Mapping[str, Any]) -> None:
        # -P: the packages are those of the checkout, and not those beside this script.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "--worker", json.dumps(job)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._questions = cast(TextIO, self._process.stdin)
        self._answers = cast(TextIO, self._process.stdout)

    def ask(self, threads: int, windows: int) -> dict[str, Any]:
        """Extract the first `windows` windows: array → sha256 of its rows, and the CPU seconds."""
        self._questions.write(json.dumps([threads, windows]) + "\n")
        self._questions.flush()
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"the worker ended with {self._process.wait()}; see its error above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def work(job: Mapping[str, Any]) -> None:
    """What a worker does: answers lines of standard input."""
    import torch

    from benchmarks.extractor_drift import windows_of
    from models.extractors.golden.golden_outputs import window_frames
    from models.extractors.registry import EXTRACTORS

    spec = EXTRACTORS[job["extractor"]]
    chosen = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in job["settings"].items()
    }
    settings = spec.settings_type(**chosen)
    extractor = spec.build(settings, WEIGHTS if spec.needs_weights else "", "cpu")
    length = window_frames(spec.sampling(settings))
    windows = [
        [extractor.prepare(frame) for frame in window]
        for video in job["videos"]
        for window in windows_of(Path(video), length, job["windows"])
    ]
    for line in sys.stdin:
        threads, count = json.loads(line)
        torch.set_num_threads(threads)
        before = os.times()
        rows = extractor.extract(windows[: count or None])
        after = os.times()
        answer = {
            "digests": {name: _digest(of_array) for name, of_array in rows.items()},
            "cost": [after.user - before.user, after.system - before.system],
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _digest(rows: Sequence[Any]) -> str:
    """Of the bits of an array's rows; a row of `frames` is the bytes of a picture."""
    hashed = hashlib.sha256()
    for row in rows:
        dtype, shape = getattr(row, "dtype", "bytes"), getattr(row, "shape", (len(row),))
        hashed.update(f"{dtype} {shape} ".encode())
        hashed.update(row if isinstance(row, bytes) else row.tobytes())
    return hashed.hexdigest()


def unequal_arrays(workers: Sequence[Worker]) -> tuple[list[str], set[str]]:
    """The arrays, and those of which some row differs between the two checkouts."""
    unequal: set[str] = set()
    names: list[str] = []
    for threads in THREADS:
        for windows in (1, 0):  # 0 stands for all
            one, other = (worker.ask(threads, windows)["digests"] for worker in workers)
            names = sorted(one)
            unequal |= {name for name in names if one[name] != other.get(name)}
    return names, unequal


def costs(workers: Sequence[Worker], rounds: int) -> Iterator[tuple[Cost, Cost]]:
    """Of each round, before and after."""
    for _ in range(rounds):
        before, after = (Cost(*worker.ask(1, 1)["cost"]) for worker in workers)
        yield before, after


def format_costs(measured: Sequence[tuple[Cost, Cost]]) -> str:
    """Medians as cells of a table: user and system time before and after, and their ratios."""

    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    cells = [
        f"{median(pair[at].user for pair in measured):.2f} + "
        f"{median(pair[at].system for pair in measured):.2f}"
        for at in (0, 1)
    ]
    if median(after.user for _, after in measured) < LEAST_SECONDS:
        return " | ".join([*cells, "-", "-"])
    ratios = (
        median(before.user / after.user for before, after in measured),
        median(before.total / after.total for before, after in measured),
    )
    return " | ".join([*cells, *(f"{ratio:.2f}" for ratio in ratios)])


def lines_of(name: str, given: argparse.Namespace) -> Iterator[str]:
    """The table's rows of one extractor."""
    for number, settings in enumerate(SETTINGS[name]):
        job = {
            "extractor": name,
            "settings": settings,
            "videos": [str(video.resolve()) for video in given.videos],
            "windows": given.windows,
        }
        workers = [Worker(checkout.resolve(), job) for checkout in (given.before, given.after)]
        names, unequal = unequal_arrays(workers)
        equal = [array for array in names if array not in unequal]
        is_timed = number == 0
        cells = format_costs(list(costs(workers, given.rounds))) if is_timed else "| | | "
        for worker in workers:
            worker.close()
        chosen = ", ".join(f"{key}={value}" for key, value in settings.items() if key != "arrays")
        yield (
            f"| {name} {chosen} | {cells} | {', '.join(equal)} | {', '.join(sorted(unequal))} |\n"
        )


def main() -> None:
    """Print a Markdown table; exit with 1 if some bits differ."""
    if sys.argv[1:2] == ["--worker"]:
        work(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--windows", type=int, default=2, help="of each video")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--extractors", default=",".join(ALL_EXTRACTORS))
    given = parser.parse_args()
    columns = "before, s | after, s | user | user + system | equal arrays | unequal arrays"
    sys.stdout.write(f"| extractor | {columns} |\n|-|-|-|-|-|-|-|\n")
    has_unequal = False
    for name in given.extractors.split(","):
        for line in lines_of(name, given):
            has_unequal |= not line.endswith("|  |\n")
            sys.stdout.write(line)
            sys.stdout.flush()
    sys.exit(int(has_unequal))


if __name__ == "__main__":
    main()
