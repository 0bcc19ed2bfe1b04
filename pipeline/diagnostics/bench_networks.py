"""Each extractor's network in the precisions offered for what it keeps by default: a table, and
which to take.

Refuses to know decoders; how a network is measured lies in `forward.py`.
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
from pipeline.diagnostics.bench_throughput import (
    CLEAR_SPEEDUP,
    FORMATS,
    NetworkBenchmark,
    flop_per_window,
    make_benchmark,
    measure_round,
    sample_window,
)

BATCHES_ON_A_GPU = (1, 8, 32)
"""Windows in a batch; on a CPU rows are computed one by one, for their bits."""


@dataclass
class NetworkSpeeds:
    """What was found."""

    device: str
    film_per_second: dict[str, float] = field(default_factory=dict)
    """Extractor → seconds of film that its network, as it is by default, computes in a second."""
    settings: dict[str, list[str]] = field(default_factory=dict)
    """Section of `workflows.cfg` → lines for it."""


def measure_networks(
    names: Sequence[str],
    device: str,
    frames_per_second: float,
    rounds: int,
    say: Callable[[str], None],
) -> NetworkSpeeds:
    """Measure and say it as a table, line by line. `frames_per_second` is that of the videos to
    come.
    """
    device = resolve_device(device)
    found = NetworkSpeeds(device)
    specs = [spec for spec in map(EXTRACTORS.__getitem__, names) if spec.needs_weights]
    if not specs:
        return found
    with RowExecutor(device) as lanes:
        say(f"\n{processor_kind(device)}, {lanes.count} lanes")
        say(
            f"{'network':<16}{'precision':<11}{'batch':>5}{'windows/s':>12}{'of peak':>9}{'times real time':>17}"
        )
        for spec in specs:
            for line in _lines(spec, lanes, frames_per_second, rounds, found):
                say(line)
    return found


def _lines(
    spec: ExtractorSpec,
    lanes: RowExecutor,
    frames_per_second: float,
    rounds: int,
    found: NetworkSpeeds,
) -> Iterator[str]:
    ways = list(_ways(spec, found.device))
    window = sample_window(spec, ways[0].settings)
    flop = flop_per_window(ways[0], window)
    usable = [one for one in ways if _warmed_up(one, window, flop, lanes, found.device)]
    for _ in range(rounds):
        for one in usable:
            measure_round(one, window, flop, lanes, found.device)
    real_time = 1 / windows_per_second(spec.sampling(ways[0].settings), frames_per_second)
    best: dict[str, float] = {}
    for one in usable:
        precision, rate = one.settings.precision, one.per_second(lanes)
        best[precision] = max(best.get(precision, 0.0), rate)
        yield (
            f"{spec.name:<16}{precision:<11}{one.windows:>5}{rate:>12.3g}{statistics.median(one.peak_shares):>9.0%}"
            f"{rate * real_time:>17.3g}"
        )
    found.film_per_second[spec.name] = best["fp32"] * real_time
    if best.get("bf16", 0.0) > CLEAR_SPEEDUP * best["fp32"]:
        found.settings[spec.name] = [_precision_line(spec, best)]


def offered_precisions(spec: ExtractorSpec) -> tuple[str, ...]:
    """The precisions that may be chosen while it keeps what it keeps by default."""
    kept = spec.arrays(spec.settings_type())
    return tuple(
        one
        for one in FORMATS
        if not list(precision_conflicts(spec.name, kept, Numerics(precision=one)))
    )


def _ways(spec: ExtractorSpec, device: str) -> Iterator[NetworkBenchmark]:
    batches = BATCHES_ON_A_GPU if is_gpu(device) else (1,)
    for precision in offered_precisions(spec):
        made = make_benchmark(spec, device, {"precision": precision})
        yield from (NetworkBenchmark(made.settings, made.extractor, windows) for windows in batches)


def _warmed_up(
    one: NetworkBenchmark, window: Sequence[Frame], flop: int, lanes: RowExecutor, device: str
) -> bool:
    """Computed once, unmeasured; False if the device has no memory for such a batch."""
    try:
        measure_round(one, window, flop, lanes, device)
    except torch.OutOfMemoryError:
        return False
    one.forget()
    return True


def _precision_line(spec: ExtractorSpec, best: Mapping[str, float]) -> str:
    drifts = [
        allowed_error(spec.name, array, Numerics(precision="bf16"))
        for array in spec.arrays(spec.settings_type())
    ]
    most = max(drift.norm for drift in drifts if drift is not None)
    return (
        f"# precision = bf16   is {best['bf16'] / best['fp32']:.1f} times as fast; rows move by up to {most:.1%}, "
        "so such features have a fingerprint of their own"
    )


def windows_per_second(sampling: Sampling, frames_per_second: float) -> float:
    """Windows in a second of film of so many frames."""
    if isinstance(sampling, ConsecutiveFrames):
        return frames_per_second / sampling.stride_frames
    if isinstance(sampling, FramesAtRate | FramesAtRateWithHistory):
        return min(sampling.frames_per_second, frames_per_second)
    return frames_per_second
