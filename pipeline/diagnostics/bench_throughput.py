"""How fast an extractor's network is: windows a second on the lanes of a build, and the share of
the machine's peak.

A window is measured right after a matrix product on the same lanes, so that a share of the peak
compares neighbouring seconds. Weights are random, the frames are those of the start-up proof.
Refuses to know which choices are offered.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.extractors.base.contract import Extractor, ExtractorSpec, Frame
from models.extractors.base.precision import is_gpu
from models.extractors.golden.golden_outputs import synthetic_clip, window_frames
from pipeline.compute.cpu_executor import RowExecutor

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
CLEAR_SPEEDUP = 1.1
"""A choice is advised against the default only if it is at least this many times as fast."""
SIDE = 2048
"""Of the matrices whose product shows the peak."""


@dataclass
class NetworkBenchmark:
    """One extractor computed in one way, and what each round found."""

    settings: Any
    extractor: Extractor
    windows: int = 1
    """In one batch."""
    prepare_seconds: list[float] = field(default_factory=list)
    """Of all frames of a window, on the calling thread."""
    forward_seconds: list[float] = field(default_factory=list)
    """Of a batch on each lane, the fast resize included."""
    peak_shares: list[float] = field(default_factory=list)
    """Of what a matrix product reached in the same round."""

    def forget(self) -> None:
        """What was found so far was a warm-up."""
        self.prepare_seconds, self.forward_seconds, self.peak_shares = [], [], []

    def per_second(self, lanes: RowExecutor) -> float:
        """Windows, all lanes together; the median round."""
        return lanes.count * self.windows / statistics.median(self.forward_seconds)


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds until the device is done."""
    start = time.perf_counter()
    work()
    if is_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def run_on_all_threads(lanes: RowExecutor, work: Callable[[], Any]) -> None:
    """The same work once on each lane, side by side."""
    for future in [lanes.submit(work) for _ in range(lanes.count)]:
        future.result()


def peak_flop_per_second(lanes: RowExecutor, precision: str, device: str) -> float:
    """FLOP per second of a matrix product in a number format, all lanes together."""
    matrix = torch.ones(SIDE, SIDE, dtype=FORMATS[precision], device=device)
    seconds = timed(lambda: run_on_all_threads(lanes, lambda: matrix @ matrix), device)
    return 2 * SIDE**3 * lanes.count / seconds


def make_benchmark(
    spec: ExtractorSpec, device: str, settings: Mapping[str, Any], windows: int = 1
) -> NetworkBenchmark:
    """The extractor with these settings, and defaults for all others."""
    chosen = spec.settings_type(**settings)
    return NetworkBenchmark(
        chosen, spec.build(chosen, "random:0" if spec.needs_weights else "", device), windows
    )


def sample_window(spec: ExtractorSpec, settings: Any) -> Sequence[Frame]:
    """The frames of one window."""
    return synthetic_clip(window_frames(spec.sampling(settings)))


def flop_per_window(one: NetworkBenchmark, window: Sequence[Frame]) -> int:
    """Floating point operations of one window; a multiplication and its addition are two."""
    prepared = [one.extractor.prepare(frame) for frame in window]
    with FlopCounterMode(display=False) as counter:
        one.extractor.extract([prepared])
    return int(counter.get_total_flops())


def measure_round(
    one: NetworkBenchmark, window: Sequence[Frame], flop: int, lanes: RowExecutor, device: str
) -> None:
    """Prepare, compute, and compare with the peak, once."""
    prepared: list[Any] = []
    one.prepare_seconds.append(
        timed(lambda: prepared.extend(map(one.extractor.prepare, window)), device)
    )
    reachable = peak_flop_per_second(lanes, one.settings.precision, device)
    batch = [prepared] * one.windows
    seconds = timed(lambda: run_on_all_threads(lanes, lambda: one.extractor.extract(batch)), device)
    one.forward_seconds.append(seconds)
    one.peak_shares.append(flop * one.windows * lanes.count / seconds / reachable)
