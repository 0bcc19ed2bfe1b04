"""Measures an extractor's network: windows per second, and the share of the machine's peak.

The threads are those of a build. A window is measured right after a matrix product on the same
threads, so that a share of the peak compares neighbouring seconds. Weights are random, and frames
are those of the start-up self-test.
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
MATRIX_SIZE = 2048
"""Side of the matrices whose product shows the peak."""


@dataclass
class NetworkBenchmark:
    """One extractor with certain settings and batch size, and the measurements of each round."""

    settings: Any
    extractor: Extractor
    windows: int = 1
    """Windows in one batch."""
    prepare_seconds: list[float] = field(default_factory=list)
    """For all frames of a window, on the calling thread."""
    forward_seconds: list[float] = field(default_factory=list)
    """For a batch on each thread, including the fast resize."""
    peak_shares: list[float] = field(default_factory=list)
    """Share of what a matrix product reached in the same round."""

    def forget(self) -> None:
        """Discard the measurements so far: they were a warm-up."""
        self.prepare_seconds, self.forward_seconds, self.peak_shares = [], [], []

    def per_second(self, executor: RowExecutor) -> float:
        """Windows per second, of all threads together; the median round."""
        return executor.thread_count * self.windows / statistics.median(self.forward_seconds)


def measure_seconds(function: Callable[[], Any], device: str) -> float:
    """Seconds until the device is done."""
    start = time.perf_counter()
    function()
    # CUDA calls return before their work is done.
    if is_gpu(device):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def run_on_all_threads(executor: RowExecutor, function: Callable[[], Any]) -> None:
    """Call a function once on each thread, in parallel."""
    for future in [executor.submit(function) for _ in range(executor.thread_count)]:
        future.result()


def peak_flop_per_second(executor: RowExecutor, precision: str, device: str) -> float:
    """FLOP per second of a matrix product in a number format, of all threads together."""
    matrix = torch.ones(MATRIX_SIZE, MATRIX_SIZE, dtype=FORMATS[precision], device=device)
    seconds = measure_seconds(lambda: run_on_all_threads(executor, lambda: matrix @ matrix), device)
    return 2 * MATRIX_SIZE**3 * executor.thread_count / seconds


def make_benchmark(
    spec: ExtractorSpec, device: str, settings: Mapping[str, Any], windows: int = 1
) -> NetworkBenchmark:
    """A benchmark of the extractor with these settings, and defaults for all others."""
    values = spec.settings_type(**settings)
    # Speed does not depend on the values of the weights.
    weights = "random:0" if spec.needs_weights else ""
    return NetworkBenchmark(values, spec.build(values, weights, device), windows)


def sample_window(spec: ExtractorSpec, settings: Any) -> Sequence[Frame]:
    """The frames of one window."""
    return synthetic_clip(window_frames(spec.sampling(settings)))


def flop_per_window(benchmark: NetworkBenchmark, window: Sequence[Frame]) -> int:
    """Floating point operations of one window; a multiplication and its addition are two."""
    prepared = [benchmark.extractor.prepare(frame) for frame in window]
    with FlopCounterMode(display=False) as counter:
        benchmark.extractor.extract([prepared])
    return int(counter.get_total_flops())


def measure_round(
    benchmark: NetworkBenchmark,
    window: Sequence[Frame],
    flop: int,
    executor: RowExecutor,
    device: str,
) -> None:
    """Prepare, compute, and compare with the peak, once."""
    extractor, windows = benchmark.extractor, benchmark.windows
    prepared: list[Any] = []
    prepare_seconds = measure_seconds(
        lambda: prepared.extend(map(extractor.prepare, window)), device
    )
    reachable = peak_flop_per_second(executor, benchmark.settings.precision, device)
    batch = [prepared] * windows
    forward_seconds = measure_seconds(
        lambda: run_on_all_threads(executor, lambda: extractor.extract(batch)), device
    )
    reached = flop * windows * executor.thread_count / forward_seconds
    benchmark.prepare_seconds.append(prepare_seconds)
    benchmark.forward_seconds.append(forward_seconds)
    benchmark.peak_shares.append(reached / reachable)
