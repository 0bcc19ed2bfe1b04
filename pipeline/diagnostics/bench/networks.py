"""Measures each extractor's network in the precisions offered for its default arrays.

Prints a table, and recommends a precision. How one network is measured is in `throughput`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from models.extractors.base.contract import ExtractorSpec, Frame
from models.extractors.base.precision import Numerics, allowed_error, is_gpu, precision_conflicts
from models.extractors.base.sampling import (
    ConsecutiveFrames,
    FramesAtRate,
    FramesAtRateWithHistory,
    Sampling,
)
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import RowExecutor
from pipeline.compute.devices import resolve_device
from pipeline.compute.processor_kind import processor_kind
from pipeline.diagnostics.bench.decoding import CLEAR_SPEEDUP
from pipeline.diagnostics.bench.throughput import (
    FORMATS,
    NetworkBenchmark,
    flop_per_window,
    make_benchmark,
    measure_round,
    sample_window,
)

BATCHES_ON_A_GPU = (1, 8, 32)
"""Windows in a batch. On a CPU rows are computed one by one, which makes them bit-equal."""


@dataclass
class NetworkSpeeds:
    """Results for all measured networks."""

    device: str
    video_seconds_per_second: dict[str, float] = field(default_factory=dict)
    """Extractor → seconds of video that its network computes in a second, in fp32."""
    settings: dict[str, list[str]] = field(default_factory=dict)
    """Section of `workflows.cfg` → recommended lines."""


def measure_networks(
    names: Sequence[str],
    device: str,
    frames_per_second: float,
    rounds: int,
    say: Callable[[str], None],
) -> NetworkSpeeds:
    """Measure every network and print a table line by line with `say`.

    `frames_per_second` is that of the videos to be built.
    """
    device = resolve_device(device)
    speeds = NetworkSpeeds(device)
    specs = [spec for spec in map(EXTRACTORS.__getitem__, names) if spec.needs_weights]
    if not specs:
        return speeds
    with RowExecutor(device) as executor:
        say(f"\n{processor_kind(device)}, {executor.thread_count} threads")
        say(
            f"{'network':<16}{'precision':<11}{'batch':>5}{'windows/s':>12}{'of peak':>9}"
            f"{'times real time':>17}"
        )
        for spec in specs:
            for line in _measure_network(spec, executor, frames_per_second, rounds, speeds):
                say(line)
    return speeds


def _measure_network(
    spec: ExtractorSpec,
    executor: RowExecutor,
    frames_per_second: float,
    rounds: int,
    speeds: NetworkSpeeds,
) -> Iterator[str]:
    """Lines of the table about one network; its results are added to `speeds`."""
    device = speeds.device
    benchmarks = list(_benchmarks(spec, device))
    window = sample_window(spec, benchmarks[0].settings)
    flop = flop_per_window(benchmarks[0], window)
    fitting = [one for one in benchmarks if _warm_up(one, window, flop, executor, device)]
    for _ in range(rounds):
        for benchmark in fitting:
            measure_round(benchmark, window, flop, executor, device)
    sampling = spec.sampling(benchmarks[0].settings)
    video_seconds_per_window = 1 / windows_per_second(sampling, frames_per_second)
    best: dict[str, float] = {}
    for benchmark in fitting:
        precision, rate = benchmark.settings.precision, benchmark.per_second(executor)
        best[precision] = max(best.get(precision, 0.0), rate)
        yield (
            f"{spec.name:<16}{precision:<11}{benchmark.windows:>5}{rate:>12.3g}"
            f"{statistics.median(benchmark.peak_shares):>9.0%}"
            f"{rate * video_seconds_per_window:>17.3g}"
        )
    # In fp32, which is the default of every extractor.
    speeds.video_seconds_per_second[spec.name] = best["fp32"] * video_seconds_per_window
    if best.get("bf16", 0.0) > CLEAR_SPEEDUP * best["fp32"]:
        speeds.settings[spec.name] = [_precision_line(spec, best)]


def offered_precisions(spec: ExtractorSpec) -> tuple[str, ...]:
    """The precisions that are allowed with the extractor's default arrays."""
    arrays = spec.arrays(spec.settings_type())
    return tuple(
        precision
        for precision in FORMATS
        if not any(precision_conflicts(spec.name, arrays, Numerics(precision=precision)))
    )


def _benchmarks(spec: ExtractorSpec, device: str) -> Iterator[NetworkBenchmark]:
    """One for each offered precision and batch size. Those of a precision share the network."""
    batches = BATCHES_ON_A_GPU if is_gpu(device) else (1,)
    for precision in offered_precisions(spec):
        benchmark = make_benchmark(spec, device, {"precision": precision})
        for windows in batches:
            yield NetworkBenchmark(benchmark.settings, benchmark.extractor, windows)


def _warm_up(
    benchmark: NetworkBenchmark,
    window: Sequence[Frame],
    flop: int,
    executor: RowExecutor,
    device: str,
) -> bool:
    """Compute once, unmeasured. False if the device has no memory for such a batch."""
    try:
        measure_round(benchmark, window, flop, executor, device)
    except torch.OutOfMemoryError:
        return False
    benchmark.forget()
    return True


def _precision_line(spec: ExtractorSpec, best: Mapping[str, float]) -> str:
    limits = [
        allowed_error(spec.name, array, Numerics(precision="bf16"))
        for array in spec.arrays(spec.settings_type())
    ]
    largest = max(limit.norm for limit in limits if limit is not None)
    speedup = best["bf16"] / best["fp32"]
    return (
        f"# precision = bf16   is {speedup:.1f} times as fast; rows move by up to {largest:.1%}, "
        "so such features have a fingerprint of their own"
    )


def windows_per_second(sampling: Sampling, frames_per_second: float) -> float:
    """Windows in a second of video with this frame rate."""
    if isinstance(sampling, ConsecutiveFrames):
        return frames_per_second / sampling.stride_frames
    if isinstance(sampling, FramesAtRate | FramesAtRateWithHistory):
        return min(sampling.frames_per_second, frames_per_second)
    return frames_per_second
