"""Windows per second at several batch sizes, the share of the GPU's peak, and hours for PHD2."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.device.parts import (
    FORMATS,
    build,
    median_seconds,
    prepared,
    synchronize,
    windows_of,
)
from benchmarks.device.report import Report
from models.extractors.base.contract import Extractor, Frame
from models.extractors.base.precision import is_gpu

SIZES = {
    "c3d": (1, 8, 32, 64, 128),
    "yolov5": (1, 8, 32, 64),
    "tased": (1, 4, 8, 16),
    "keypoint_rcnn": (1, 2, 4, 8),
}
SIDE = {"fp32": 4096, "bf16": 8192}
"""Of the matrices whose product shows the peak of a number format."""
PHD2_UNITS = {
    "c3d": {"clips of 16 native frames": 68.9e6},
    "yolov5": {"2 a second": 73.5e6, "5 a second": 183.8e6, "every native frame": 1102.9e6},
    "tased": {"2 a second": 73.5e6, "every native frame": 1102.9e6},
    "keypoint_rcnn": {"2 a second": 73.5e6, "5 a second": 183.8e6},
}
PUBLISHED = {
    "c3d": "2,688 V100-hours (two weeks on 8)",
    "yolov5": "30 s a frame on an A100, with Detectron2",
    "keypoint_rcnn": "30 s a frame on an A100, with YOLOv5",
}


def peak(precision: str, device: str) -> float:
    """FLOP a second of a matrix product of random numbers."""
    side = SIDE[precision] if is_gpu(device) else 1024
    one, other = (
        torch.randn(side, side, device=device, dtype=FORMATS[precision]) for _ in range(2)
    )
    return 2 * side**3 / median_seconds(lambda: one @ other, device, 0.3)


def heavy_part(extractor: Any) -> torch.nn.Module:
    """Of an extractor, the network that does nearly all arithmetic."""
    network = extractor.network if hasattr(extractor, "network") else extractor.detector
    network = getattr(network, "network", network)
    part: torch.nn.Module = getattr(network, "backbone", network)
    return part


def seen_by(part: torch.nn.Module, extractor: Extractor, clips: Sequence[Any]) -> tuple[Any, ...]:
    """What the network is given when the extractor computes these windows."""
    inputs: list[tuple[Any, ...]] = []
    hook = part.register_forward_pre_hook(lambda _, given: inputs.append(given))
    extractor.extract(clips)
    hook.remove()
    return inputs[0]


def graphed(part: torch.nn.Module, given: tuple[Any, ...]) -> Callable[[], None]:
    """The network as one CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        part(*given)
        part(*given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        part(*given)
    return graph.replay


@dataclass(frozen=True)
class Speed:
    """One extractor in one way."""

    extractor: str
    choice: str
    batch: int
    windows_per_second: float
    """Through `extract`: pictures brought, computed, rows fetched, one thread."""
    network_per_second: float
    """The network alone, its input on the device."""
    graph_per_second: float
    """The same as a CUDA graph; 0 where it cannot be one, or was not tried."""
    share_of_peak: float
    """Of the network alone."""
    gigaflop: float
    """Of one window, all of it that torch counts; of the network alone for the share."""


def speeds(
    name: str,
    choice: str,
    windows: Sequence[Sequence[Frame]],
    given: argparse.Namespace,
    peaks: Mapping[str, float],
) -> Iterator[Speed]:
    """At every batch size that fits."""
    device, budget = given.device, given.seconds
    sizes = SIZES[name][-given.sizes :] if is_gpu(device) else (1,)
    extractor = build(name, choice, device)
    part = heavy_part(extractor)
    clips = prepared(extractor, windows)
    with FlopCounterMode(display=False) as whole:
        extractor.extract(clips[:1])
    first = seen_by(part, extractor, clips[:1])
    with torch.inference_mode(), FlopCounterMode(display=False) as alone:
        part(*first)
    precision = "bf16" if "bf16" in choice else "fp32"
    for size in sizes:
        batch = [clips[number % len(clips)] for number in range(size)]
        try:
            rate = size / median_seconds(
                lambda batch=batch: extractor.extract(batch), device, budget
            )
            seen = seen_by(part, extractor, batch)
            with torch.inference_mode():
                network = size / median_seconds(lambda seen=seen: part(*seen), device, budget)
                graph = _graph_rate(part, seen, size, device, budget)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        share = network * alone.get_total_flops() / peaks[precision]
        yield Speed(name, choice, size, rate, network, graph, share, whole.get_total_flops() / 1e9)


def _graph_rate(
    part: torch.nn.Module, given: tuple[Any, ...], size: int, device: str, budget: float
) -> float:
    if not is_gpu(device):
        return 0.0
    try:
        return size / median_seconds(graphed(part, given), device, budget)
    except RuntimeError as error:
        sys.stderr.write(f"no graph of {type(part).__name__}: {str(error).splitlines()[0]}\n")
        torch.cuda.synchronize()
        return 0.0


def top_kernels(
    name: str, choice: str, windows: Sequence[Sequence[Frame]], batch: int
) -> Iterator[str]:
    """Where a batch's time goes on the GPU."""
    extractor = build(name, choice, "cuda")
    clips = prepared(extractor, windows)
    batch_clips = [clips[number % len(clips)] for number in range(batch)]
    extractor.extract(batch_clips)
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        extractor.extract(batch_clips)
        torch.cuda.synchronize()
    kernels = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    total = sum(event.self_device_time_total for event in kernels)
    host = sum(event.self_cpu_time_total for event in profiled.key_averages())
    times = f"{total / 1e3:.1f} ms on the GPU, {host / 1e3:.1f} ms of the host"
    yield f"{name} {choice} x{batch}: {times}"
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:8]:
        yield f"  {event.self_device_time_total / total:5.1%} {event.count:5d}x {event.key[:100]}"


def tell_speed(
    report: Report, frames: Sequence[Frame], given: argparse.Namespace, found: list[Speed]
) -> None:
    """The table of speeds, and the share of the peak; fills `found`."""
    peaks = {precision: peak(precision, given.device) for precision in FORMATS}
    for name in given.extractors:
        for choice in ("fp32", "bf16"):
            windows = windows_of(name, frames, 8)
            rates = speeds(name, choice, windows, given, peaks)
            report.attempt(lambda rates=rates: found.extend(rates), f"{name} {choice}")  # type: ignore[misc]
    table: list[Sequence[Any]] = [
        (
            "extractor",
            "precision",
            "batch",
            "windows/s",
            "network alone/s",
            "as a graph/s",
            "of peak",
            "GFLOP a window",
        )
    ]
    for one in found:
        rates = (one.windows_per_second, one.network_per_second, one.graph_per_second)
        cells = (
            *(f"{rate:.4g}" for rate in rates),
            f"{one.share_of_peak:.1%}",
            f"{one.gigaflop:.4g}",
        )
        table.append((one.extractor, one.choice, one.batch, *cells))
    peaks_text = ", ".join(
        f"{precision} {flops / 1e12:.1f} TFLOP/s" for precision, flops in peaks.items()
    )
    report.section(
        f"speed; a matrix product reaches {peaks_text}",
        table,
        [dataclasses.asdict(one) for one in found],
    )


def best(found: Sequence[Speed]) -> dict[tuple[str, str], Speed]:
    """The fastest batch size of each extractor and precision."""
    chosen: dict[tuple[str, str], Speed] = {}
    for one in found:
        key = (one.extractor, one.choice)
        if key not in chosen or one.windows_per_second > chosen[key].windows_per_second:
            chosen[key] = one
    return chosen


def tell_kernels(report: Report, frames: Sequence[Frame]) -> None:
    """Where the time of each extractor's largest batches goes."""
    lines: list[str] = []
    for name, choice in (
        ("tased", "bf16"),
        ("keypoint_rcnn", "fp32"),
        ("yolov5", "bf16"),
        ("c3d", "bf16"),
    ):
        kernels = top_kernels(name, choice, windows_of(name, frames, 8), SIZES[name][-2])
        report.attempt(lambda kernels=kernels: lines.extend(kernels), f"kernels of {name}")  # type: ignore[misc]
    report.section("kernels", [("time",), *((line.replace("|", "/"),) for line in lines)], lines)


def tell_benchmark_mode(
    report: Report, frames: Sequence[Frame], found: Sequence[Speed], given: Any
) -> None:
    """Whether letting cuDNN try its algorithms pays."""
    table: list[Sequence[Any]] = [
        ("extractor", "precision", "batch", "windows/s", "with cudnn.benchmark", "first call s")
    ]
    torch.backends.cudnn.benchmark = True
    try:
        for (name, choice), one in best(found).items():
            extractor = build(name, choice, given.device)
            clips = prepared(extractor, windows_of(name, frames, 8))
            batch = [clips[number % 8] for number in range(one.batch)]
            began = time.perf_counter()
            extractor.extract(batch)
            synchronize(given.device)
            first = time.perf_counter() - began
            rate = one.batch / median_seconds(
                lambda e=extractor, b=batch: e.extract(b), given.device, given.seconds
            )
            table.append(
                (
                    name,
                    choice,
                    one.batch,
                    f"{one.windows_per_second:.4g}",
                    f"{rate:.4g}",
                    f"{first:.1f}",
                )
            )
    finally:
        torch.backends.cudnn.benchmark = False
    report.section("cudnn.benchmark", table, table)


def tell_phd2(report: Report, found: Sequence[Speed]) -> None:
    """Hours of one GPU for all of PHD2, from the best rates."""
    table: list[Sequence[Any]] = [
        ("extractor", "precision", "sampling", "units", "GPU-hours", "published")
    ]
    for (name, choice), one in best(found).items():
        for sampling, units in PHD2_UNITS[name].items():
            hours = units / one.windows_per_second / 3600
            table.append(
                (name, choice, sampling, f"{units:.3g}", f"{hours:.3g}", PUBLISHED.get(name, ""))
            )
    report.section("PHD2: 95,111 videos, 10,212 hours", table, table)
