"""Windows (frames or clips) per second of each extractor, for every precision and resize.

`python -m benchmarks.extractor_forward [EXTRACTOR...] [--device cuda] [--set size=l]`. Windows run
on threads as in the pipeline, right after a matrix product on the same threads, so that a share of
the peak compares neighbouring seconds. Numbers are medians of rounds. Weights are random, the
frames are those of the self-test. Choices that the pipeline refuses are measured too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.extractor_drift import setting
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import RowExecutor
from pipeline.compute.devices import resolve_device
from pipeline.compute.processor_kind import processor_kind
from pipeline.diagnostics.bench.throughput import (
    flop_per_window,
    make_benchmark,
    measure_round,
    sample_window,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "keypoint_rcnn": {"min_size_pixels": 480, "max_size_pixels": 800}
}
"""Settings other than the defaults, that keep a round short."""
CHOICES = ({}, {"resize": "fast"}, {"precision": "bf16"}, {"precision": "bf16", "resize": "fast"})


def lines_of(
    name: str, device: str, executor: RowExecutor, rounds: int, others: Mapping[str, Any]
) -> Iterator[str]:
    """The rows of one extractor; the others are compared with the first."""
    spec = EXTRACTORS[name]
    candidates = [
        make_benchmark(spec, device, {**SETTINGS.get(name, {}), **others, **choice})
        for choice in CHOICES
    ]
    baseline = candidates[0]
    window = sample_window(spec, baseline.settings)
    flop = flop_per_window(baseline, window)
    for one in candidates:
        measure_round(one, window, flop, executor, device)
        one.forget()  # the first round only warms up
    for _ in range(rounds):
        for one in candidates:
            measure_round(one, window, flop, executor, device)
    for one in candidates:
        seconds = zip(baseline.forward_seconds, one.forward_seconds, strict=True)
        faster = [first / this for first, this in seconds]
        prepare = statistics.median(one.prepare_seconds) / len(window) * 1e3
        yield (
            f"| {name} | {one.settings.precision} | {one.settings.resize} "
            f"| {one.per_second(executor):.3g} | {statistics.median(faster):.2f} "
            f"| {statistics.median(one.peak_shares):.0%} | {prepare:.2f} |\n"
        )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extractors", nargs="*", default=sorted(set(EXTRACTORS) - {"frames"}))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    device = resolve_device(given.device)
    with RowExecutor(device) as executor:
        sys.stdout.write(f"{processor_kind(device)}, {executor.thread_count} threads\n\n")
        sys.stdout.write(
            "| extractor | precision | resize | windows/s | × | of peak | prepare, ms a frame |\n"
        )
        sys.stdout.write("|-|-|-|-|-|-|-|\n")
        for name in given.extractors:
            for line in lines_of(name, device, executor, given.rounds, dict(given.set)):
                sys.stdout.write(line)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
