"""Windows (frames or clips) per second of each extractor in fp32 and bf16, with parity and fast resize.

`python -m benchmarks.extractor_forward [EXTRACTOR...] [--device cuda] [--set size=l]`. Windows run on lanes as in the
pipeline, right after a matrix product on the same lanes, so that a share of the peak compares neighbouring seconds:
medians of rounds. Weights are random, the frames are those of the start-up proof. Choices that the pipeline refuses are
measured too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.extractor_drift import setting
from models.extractors.golden import clip, window_frames
from models.extractors.numerics import is_gpu
from models.extractors.spec import Extractor, Frame
from models.extractors.table import EXTRACTORS
from pipeline.extract import resolve_device
from pipeline.lanes import Lanes
from pipeline.proof import device_name

SETTINGS: dict[str, dict[str, Any]] = {"keypoint_rcnn": {"min_size_pixels": 480, "max_size_pixels": 800}}
"""Settings other than the defaults, that keep a round short."""
CHOICES = ({}, {"resize": "fast"}, {"precision": "bf16"}, {"precision": "bf16", "resize": "fast"})
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIDE = 2048
"""Of the matrices whose product shows the peak."""


@dataclass
class Way:
    """One extractor computed in one way, and what each round found."""

    settings: Any
    extractor: Extractor
    prepare_seconds: list[float] = field(default_factory=list)
    """Of all frames of a window, on the calling thread."""
    forward_seconds: list[float] = field(default_factory=list)
    """Of a window on each lane, the fast resize included."""
    peak_shares: list[float] = field(default_factory=list)
    """Of what a matrix product reached in the same round."""


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds until the device is done."""
    start = time.perf_counter()
    work()
    if is_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def on_every_lane(lanes: Lanes, work: Callable[[], Any]) -> None:
    """The same work once on each lane, side by side."""
    for future in [lanes.submit(work) for _ in range(lanes.count)]:
        future.result()


def peak(lanes: Lanes, precision: str, device: str) -> float:
    """FLOP per second of a matrix product in a number format, all lanes together."""
    matrix = torch.ones(SIDE, SIDE, dtype=FORMATS[precision], device=device)
    seconds = timed(lambda: on_every_lane(lanes, lambda: matrix @ matrix), device)
    return 2 * SIDE**3 * lanes.count / seconds


def ways_of(name: str, device: str, others: Mapping[str, Any]) -> list[Way]:
    """The extractor, built once for each choice."""
    spec = EXTRACTORS[name]
    chosen = [spec.settings_type(**{**SETTINGS.get(name, {}), **others, **choice}) for choice in CHOICES]
    return [Way(settings, spec.build(settings, "random:0", device)) for settings in chosen]


def flop_of(way: Way, window: Sequence[Frame]) -> int:
    """Floating point operations of one window; a multiplication and its addition are two."""
    prepared = [way.extractor.prepare(frame) for frame in window]
    with FlopCounterMode(display=False) as counter:
        way.extractor.extract([prepared])
    return int(counter.get_total_flops())


def one_round(way: Way, window: Sequence[Frame], flop: int, lanes: Lanes, device: str) -> None:
    """Prepare, compute, and compare with the peak, once."""
    prepared: list[Any] = []
    way.prepare_seconds.append(timed(lambda: prepared.extend(map(way.extractor.prepare, window)), device))
    reachable = peak(lanes, way.settings.precision, device)
    seconds = timed(lambda: on_every_lane(lanes, lambda: way.extractor.extract([prepared])), device)
    way.forward_seconds.append(seconds)
    way.peak_shares.append(flop * lanes.count / seconds / reachable)


def lines_of(name: str, device: str, lanes: Lanes, rounds: int, others: Mapping[str, Any]) -> Iterator[str]:
    """The rows of one extractor, the first of them the one that others are compared with."""
    ways = ways_of(name, device, others)
    window = clip(window_frames(EXTRACTORS[name].sampling(ways[0].settings)))
    flop = flop_of(ways[0], window)
    for way in ways:  # warm up
        one_round(way, window, flop, lanes, device)
        way.prepare_seconds, way.forward_seconds, way.peak_shares = [], [], []
    for _ in range(rounds):
        for way in ways:
            one_round(way, window, flop, lanes, device)
    for way in ways:
        faster = [one / other for one, other in zip(ways[0].forward_seconds, way.forward_seconds, strict=True)]
        rate, choice = lanes.count / statistics.median(way.forward_seconds), way.settings
        prepare = statistics.median(way.prepare_seconds) / len(window) * 1e3
        yield (
            f"| {name} | {choice.precision} | {choice.resize} | {rate:.3g} | {statistics.median(faster):.2f} "
            f"| {statistics.median(way.peak_shares):.0%} | {prepare:.2f} |\n"
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
    with Lanes(device) as lanes:
        sys.stdout.write(f"{device_name(device)}, {lanes.count} lanes\n\n")
        sys.stdout.write("| extractor | precision | resize | windows/s | × | of peak | prepare, ms a frame |\n")
        sys.stdout.write("|-|-|-|-|-|-|-|\n")
        for name in given.extractors:
            for line in lines_of(name, device, lanes, given.rounds, dict(given.set)):
                sys.stdout.write(line)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
