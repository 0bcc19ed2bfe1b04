"""What a GPU gives: `python -m benchmarks.device VIDEO --out FOLDER`, within minutes, with seeded random weights.

- parity: every kept array on the GPU against the CPU's (fp32, parity), in fp32, bf16 and with the fast resize;
- speed: windows a second at several batch sizes, pictures brought and rows fetched included; and the network alone,
  as a share of a matrix product of its number format in the same run;
- engine: a shard of copies of the video, against decoding alone and computing alone;
- PHD2: the hours that follow, beside what was published.

Writes `device.md` and `device.json`, each section as soon as it is known. Random weights: numbers here are times and
errors of arithmetic, not results. With `--device cpu` it only shows that it runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.engine import Stubbed
from models.extractors.drift import drifts, matches
from models.extractors.golden import window_frames
from models.extractors.numerics import Numerics, allowed, is_gpu
from models.extractors.spec import Extractor, ExtractorSpec, Frame
from models.extractors.table import EXTRACTORS
from pipeline import process
from pipeline.clips import VideoSampling
from pipeline.decode import Decoding
from pipeline.decoder import ChildDecoder, FrameEvent, PlanesEvent
from pipeline.extract import TrackBuilder, Variant
from pipeline.lanes import Lanes, Work
from pipeline.media import Media
from pipeline.probe import DEFAULT_LIMITS
from pipeline.process import ShardJob, process_shard
from pipeline.proof import device_name
from pipeline.times import Times
from storage.layout import Layout

NETWORKS = ("c3d", "yolov5", "tased", "keypoint_rcnn")
ARRAYS: dict[str, dict[str, Any]] = {
    "c3d": {"arrays": ("pool5", "fc6", "fc7", "fc6_linear", "fc7_linear")},
    "yolov5": {"arrays": ("p3", "p4", "p5", "detections")},
}
"""Settings of the parity table that keep more than the defaults do."""
CHOICES: dict[str, dict[str, str]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fast": {"resize": "fast"},
    "bf16, fast": {"precision": "bf16", "resize": "fast"},
}
SIZES = {"c3d": (1, 8, 32, 64, 128), "yolov5": (1, 8, 32, 64), "tased": (1, 4, 8, 16), "keypoint_rcnn": (1, 2, 4, 8)}
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIDE = {"fp32": 4096, "bf16": 8192}
"""Of the matrices whose product shows the peak of a number format."""
PHD2_SECONDS = 36.76e6
PHD2_NATIVE_FRAMES = 1.103e9
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


@dataclass
class Report:
    """What is known so far, on disk after every section."""

    folder: Path
    found: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def attempt(self, work: Callable[[], None], what: str) -> None:
        """Do it; what breaks is told, and costs no other part of the report."""
        try:
            work()
        except Exception:  # noqa: BLE001  a machine is lent for minutes
            self.section(f"{what} broke", [("traceback",), (traceback.format_exc()[-1500:],)], traceback.format_exc())

    def section(self, title: str, table: Sequence[Sequence[Any]], rows: Any) -> None:
        """A heading and a table, whose first row is its head; `rows` is what the JSON keeps."""
        head, *body = table
        lines = [f"\n## {title}\n", _row(head), "|" + "-|" * len(head), *map(_row, body)]
        lines.append(f"\n({time.perf_counter() - self.began:.0f} s since the start)")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        self.text += lines
        self.found[title] = rows
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "device.md").write_text("\n".join(self.text) + "\n")
        (self.folder / "device.json").write_text(json.dumps(self.found, indent=1, default=str))


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def settings_of(spec: ExtractorSpec, choice: str, **others: Any) -> Any:
    """The defaults in a precision and a resize; the pipeline's own refusals do not hold here."""
    return spec.settings_type(**{**others, **CHOICES[choice]})


def build(name: str, choice: str, device: str, **others: Any) -> Extractor:
    """An extractor with seeded random weights."""
    spec = EXTRACTORS[name]
    return spec.build(settings_of(spec, choice, **others), "random:0", device)


def frames_of(video: Path) -> list[Frame]:
    """All of them."""
    decoding = Decoding("v", video, backend="pyav", limits=DEFAULT_LIMITS, beat=lambda: None)
    return [frame.to_rgb() for frame in decoding]


def windows_of(name: str, frames: Sequence[Frame], count: int) -> list[list[Frame]]:
    """Windows of consecutive frames from all over the video."""
    spec = EXTRACTORS[name]
    length = window_frames(spec.sampling(spec.settings_type()))
    starts = [(len(frames) - length) * number // max(count - 1, 1) for number in range(count)]
    return [list(frames[start : start + length]) for start in starts]


def prepared(extractor: Extractor, windows: Sequence[Sequence[Frame]]) -> list[list[Any]]:
    """The windows as the extractor wants them."""
    return [[extractor.prepare(frame) for frame in window] for window in windows]


# ---- parity


def on_cpu(name: str, windows: Sequence[Sequence[Frame]], **others: Any) -> dict[str, list[Any]]:
    """Rows as a CPU gives them: alone, one thread each."""
    extractor = build(name, "fp32", "cpu", **others)
    with Lanes("cpu") as lanes:
        futures = [lanes.compute(Work(extractor, [clip])) for clip in prepared(extractor, windows)]
        rows = [future.result() for future in futures]
    return {array: [row[array][0] for row in rows] for array in rows[0]}


def parity(name: str, windows: Sequence[Sequence[Frame]], device: str) -> Iterator[dict[str, Any]]:
    """A line for each choice and array."""
    spec, others = EXTRACTORS[name], ARRAYS.get(name, {})
    reference = on_cpu(name, windows, **others)
    for choice in CHOICES:
        extractor = build(name, choice, device, **others)
        found = extractor.extract(prepared(extractor, windows))
        for array, drift in drifts(reference, found).items():
            limit = allowed(spec.name, array, Numerics(**CHOICES[choice]))
            limit_text = "1e-4" if choice == "fp32" else "refused" if limit is None else str(limit)
            line = {"extractor": name, "choice": choice, "array": array, "norm": drift.norm, "largest": drift.largest}
            yield {**line, "unmatched": drift.unmatched, "allowed": limit_text}
        if name == "keypoint_rcnn":
            yield {"extractor": name, "choice": choice, "array": "of persons", **persons(reference, found)}


def persons(reference: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Errors in pixels and scores over matched persons, and how many joints lie within 0.05 px."""
    boxes, scores, joints, count = [0.0], [0.0], [], 0
    for row, (one, other) in enumerate(zip(reference["boxes"], found["boxes"], strict=True)):
        ones, others = matches(one, other)
        count += len(ones)
        if ones:
            boxes.append(float(np.abs(one[ones, :4] - other[others, :4]).max()))
            scores.append(float(np.abs(one[ones, 4] - other[others, 4]).max()))
            apart = reference["joints"][row][ones, :, :2] - found["joints"][row][others, :, :2]
            joints += list(np.linalg.norm(apart, axis=-1).reshape(-1))
    near = float(np.mean(np.array(joints) <= 0.05)) if joints else 0.0
    said = f"{count} persons: boxes {max(boxes):.1e} px, scores {max(scores):.1e}, {near:.2%} of {len(joints)} joints"
    return {"norm": max(boxes), "largest": max(scores), "unmatched": 1 - near, "allowed": f"{said} within 0.05 px"}


# ---- speed


def synchronize(device: str) -> None:
    """Wait until a GPU has done all it was given."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def median_seconds(work: Callable[[], Any], device: str, budget_seconds: float) -> float:
    """Of one call, after one to warm up: as many as the budget allows, three at least."""
    work()
    synchronize(device)
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < budget_seconds and len(taken) < 50):
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def peak(precision: str, device: str) -> float:
    """FLOP a second of a matrix product of random numbers."""
    side = SIDE[precision] if is_gpu(device) else 1024
    one, other = (torch.randn(side, side, device=device, dtype=FORMATS[precision]) for _ in range(2))
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
    name: str, choice: str, windows: Sequence[Sequence[Frame]], given: argparse.Namespace, peaks: Mapping[str, float]
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
            rate = size / median_seconds(lambda batch=batch: extractor.extract(batch), device, budget)
            seen = seen_by(part, extractor, batch)
            with torch.inference_mode():
                network = size / median_seconds(lambda seen=seen: part(*seen), device, budget)
                graph = _graph_rate(part, seen, size, device, budget)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return
        share = network * alone.get_total_flops() / peaks[precision]
        yield Speed(name, choice, size, rate, network, graph, share, whole.get_total_flops() / 1e9)


def _graph_rate(part: torch.nn.Module, given: tuple[Any, ...], size: int, device: str, budget: float) -> float:
    if not is_gpu(device):
        return 0.0
    try:
        return size / median_seconds(graphed(part, given), device, budget)
    except RuntimeError as error:
        sys.stderr.write(f"no graph of {type(part).__name__}: {str(error).splitlines()[0]}\n")
        torch.cuda.synchronize()
        return 0.0


def top_kernels(name: str, choice: str, windows: Sequence[Sequence[Frame]], batch: int) -> Iterator[str]:
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
    yield f"{name} {choice} x{batch}: {total / 1e3:.1f} ms on the GPU, {host / 1e3:.1f} ms of the host"
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:8]:
        yield f"  {event.self_device_time_total / total:5.1%} {event.count:5d}x {event.key[:100]}"


# ---- engine


def variants_of(names: Sequence[str], choices: Mapping[str, str]) -> list[Variant]:
    """As a build has them; `choices` says which depart from fp32 and parity."""
    found = []
    for name in names:
        spec = EXTRACTORS[name]
        others = {"arrays": ("p5",)} if name == "yolov5" and "bf16" in choices.get(name, "") else {}
        settings = settings_of(spec, choices.get(name, "fp32"), **others) if name != "frames" else spec.settings_type()
        found.append(Variant(name, spec, settings, "random:0" if spec.needs_weights else ""))
    return found


def shard(video: Path, copies: int, variants: Sequence[Variant], device: str, decoders: int) -> tuple[float, Times]:
    """Seconds that a shard of so many copies takes from files to parts."""
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        ids = tuple(f"copy{number:04d}" for number in range(copies))
        job = ShardJob(Layout(Path(folder), "copies"), 0, ids, tuple(variants), 256_000_000)
        crew = [ChildDecoder() for _ in range(decoders)]
        began = time.perf_counter()
        try:
            process_shard(
                job,
                fetch=lambda *_: Media(video, "0" * 64, video.stat().st_size),
                decoder=crew[0],
                beside=crew[1:],
                device=device,
                on_video=lambda *_: None,
                times=times,
            )
        finally:
            for one in crew:
                one.close()
        taken = time.perf_counter() - began
        if not job.is_complete():
            raise RuntimeError("the shard is not complete")
        return taken, times


def asked_of(variant: Variant, extractor: Extractor) -> VideoSampling:
    """What a build asks a decoder for."""
    return TrackBuilder("v", variant, extractor).sampling


def decoding_seconds(video: Path, copies: int, fed: Sequence[tuple[Variant, Extractor]], decoders: int) -> float:
    """Seconds that decoding and preparing all copies takes, with nothing computed and nothing kept."""
    left = iter(range(copies))
    lock = threading.Lock()

    def work() -> None:
        with ChildDecoder() as decoder:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                for event in decoder.decode("v", video, [asked_of(*one) for one in fed]):
                    if isinstance(event, FrameEvent | PlanesEvent):
                        frame = event.rgb if isinstance(event, FrameEvent) else event.planes
                        for place in event.wanted_by:
                            fed[place][1].prepare(frame)

    threads = [threading.Thread(target=work) for _ in range(decoders)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def computing_seconds(
    frames: Sequence[Frame], copies: int, rows: Mapping[str, int], fed: Sequence[tuple[Variant, Extractor]], device: str
) -> float:
    """Seconds that the windows of all copies take, prepared beforehand, through the batches of a build."""
    with process.computing(device) as lanes:
        clips = {variant.name: prepared(extractor, windows_of(variant.name, frames, 8)) for variant, extractor in fed}
        began = time.perf_counter()
        futures = []
        for number in range(copies):
            for variant, extractor in fed:
                for row in range(rows[variant.name]):
                    clip = clips[variant.name][(number + row) % 8]
                    futures.append(lanes.compute(Work(extractor, [clip], variant.spec.windows_on_gpu)))
        for future in futures:
            future.result()
        return time.perf_counter() - began


def rows_of_copy(video: Path, variants: Sequence[Variant]) -> dict[str, int]:
    """How many windows the video gives each."""
    counts = dict.fromkeys((variant.name for variant in variants), 0)
    with ChildDecoder() as decoder:
        for event in decoder.decode("v", video, [variant.sampling_of("v") for variant in variants]):
            if hasattr(event, "window"):
                counts[variants[event.sampling].name] += 1
    return counts


def engine(
    video: Path, frames: Sequence[Frame], names: Sequence[str], choices: Mapping[str, str], given: argparse.Namespace
) -> dict[str, Any]:
    """One line of the engine's table."""
    variants = variants_of(names, choices)
    fed = [(variant, process.built(variant, given.device)) for variant in variants]
    rows = rows_of_copy(video, variants)
    computing_seconds(frames, 1, rows, fed, given.device)  # warms up
    shard(video, min(2, given.copies), variants, given.device, 2)
    decode = decoding_seconds(video, given.copies, fed, given.decoders)
    compute = computing_seconds(
        frames, given.copies, rows, [one for one in fed if one[0].name != "frames"], given.device
    )
    wall, times = shard(video, given.copies, variants, given.device, given.decoders)
    stubs = [(variant, Stubbed(variant, extractor)) for variant, extractor in fed]
    kept = process.built
    process.built = lambda variant, _: {one.name: stub for one, stub in stubs}[variant.name]  # type: ignore[assignment]
    try:
        stubbed, _ = shard(video, given.copies, variants, given.device, given.decoders)
    finally:
        process.built = kept
    spent: dict[str, float] = {}
    for of_video in times.of_videos().values():
        for what, seconds in of_video.items():
            spent[what] = round(spent.get(what, 0.0) + seconds, 3)
    frames_per_second = len(frames) * given.copies / wall
    return {
        "extractors": f"{given.copies} copies: "
        + ", ".join(f"{name} {choices[name]}" if name in choices else name for name in names),
        "decode_seconds": decode,
        "compute_seconds": compute,
        "engine_seconds": wall,
        "stubbed_seconds": stubbed,
        "over_max": wall / max(decode, compute),
        "stubbed_over_decode": stubbed / decode,
        "native_frames_per_second": frames_per_second,
        "phd2_hours": PHD2_NATIVE_FRAMES / frames_per_second / 3600,
        "spent": spent,
    }


def decoders_alone(video: Path, decoders: int, seconds: float, backend: str) -> float:
    """Frames a second that so many threads decode of a video; only nvdec's are also converted."""
    began = time.perf_counter()

    def work() -> int:
        count = 0
        while time.perf_counter() < began + seconds:
            decoding = Decoding("v", video, backend=backend, limits=DEFAULT_LIMITS, beat=lambda: None)
            count += sum(1 for _ in decoding)
            if salvaged := decoding.summary().salvaged_by:
                raise RuntimeError(salvaged)
        return count

    with ThreadPoolExecutor(decoders) as pool:
        counts = [future.result() for future in [pool.submit(work) for _ in range(decoders)]]
    return sum(counts) / (time.perf_counter() - began)


# ---- all of it


def tell_parity(report: Report, frames: Sequence[Frame], given: argparse.Namespace) -> None:
    """The table of errors."""
    lines: list[dict[str, Any]] = []
    for name in given.extractors:
        of_one = parity(name, windows_of(name, frames, given.windows), given.device)
        report.attempt(lambda of_one=of_one: lines.extend(of_one), f"parity of {name}")  # type: ignore[misc]
    table: list[Sequence[Any]] = [("extractor", "choice", "array", "norm", "largest", "unmatched", "allowed")]
    table += [
        (
            line["extractor"],
            line["choice"],
            line["array"],
            f"{line['norm']:.1e}",
            f"{line['largest']:.1e}",
            f"{line['unmatched']:.2%}",
            line["allowed"],
        )
        for line in lines
    ]
    report.section(f"parity with the CPU, {given.windows} windows each", table, lines)


def tell_speed(report: Report, frames: Sequence[Frame], given: argparse.Namespace, found: list[Speed]) -> None:
    """The table of speeds, and the share of the peak; fills `found`."""
    peaks = {precision: peak(precision, given.device) for precision in FORMATS}
    for name in given.extractors:
        for choice in ("fp32", "bf16"):
            windows = windows_of(name, frames, 8)
            rates = speeds(name, choice, windows, given, peaks)
            report.attempt(lambda rates=rates: found.extend(rates), f"{name} {choice}")  # type: ignore[misc]
    table: list[Sequence[Any]] = [
        ("extractor", "precision", "batch", "windows/s", "network alone/s", "as a graph/s", "of peak", "GFLOP a window")
    ]
    for one in found:
        rates = (one.windows_per_second, one.network_per_second, one.graph_per_second)
        cells = (*(f"{rate:.4g}" for rate in rates), f"{one.share_of_peak:.1%}", f"{one.gigaflop:.4g}")
        table.append((one.extractor, one.choice, one.batch, *cells))
    peaks_text = ", ".join(f"{precision} {flops / 1e12:.1f} TFLOP/s" for precision, flops in peaks.items())
    report.section(f"speed; a matrix product reaches {peaks_text}", table, [dataclasses.asdict(one) for one in found])


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
    for name, choice in (("tased", "bf16"), ("keypoint_rcnn", "fp32"), ("yolov5", "bf16"), ("c3d", "bf16")):
        kernels = top_kernels(name, choice, windows_of(name, frames, 8), SIZES[name][-2])
        report.attempt(lambda kernels=kernels: lines.extend(kernels), f"kernels of {name}")  # type: ignore[misc]
    report.section("kernels", [("time",), *((line.replace("|", "/"),) for line in lines)], lines)


def tell_benchmark_mode(report: Report, frames: Sequence[Frame], found: Sequence[Speed], given: Any) -> None:
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
            rate = one.batch / median_seconds(lambda e=extractor, b=batch: e.extract(b), given.device, given.seconds)
            table.append((name, choice, one.batch, f"{one.windows_per_second:.4g}", f"{rate:.4g}", f"{first:.1f}"))
    finally:
        torch.backends.cudnn.benchmark = False
    report.section("cudnn.benchmark", table, table)


def tell_engine(report: Report, video: Path, frames: Sequence[Frame], given: argparse.Namespace) -> None:
    """The engine against its parts."""
    quick = {"c3d": "bf16, fast", "yolov5": "bf16, fast", "tased": "bf16, fast"}
    five = ("c3d", "yolov5", "keypoint_rcnn", "tased", "frames")
    few = max(2, given.copies // 6)
    sets: list[tuple[Sequence[str], dict[str, str], int]] = [
        (("c3d",), {"c3d": "bf16, fast"}, given.copies),
        (five, quick, few),
        (("c3d", "yolov5", "tased", "frames"), quick, few),
        (("c3d",), {"c3d": "bf16"}, given.copies),
        (("frames",), {}, given.copies),
        (("c3d",), {}, given.copies),
        (five, {}, few),
    ]
    lines: list[dict[str, Any]] = []

    def measure(names: Sequence[str], choices: Mapping[str, str], copies: int) -> None:
        lines.append(engine(video, frames, names, choices, argparse.Namespace(**{**vars(given), "copies": copies})))
        sys.stdout.write(f"{lines[-1]}\n")
        sys.stdout.flush()

    for names, choices, copies in sets[: given.sets]:
        report.attempt(lambda n=names, c=choices, k=copies: measure(n, c, k), f"engine with {names}")  # type: ignore[misc]
    head = (
        "extractors",
        "decode s",
        "compute s",
        "engine s",
        "stubbed s",
        "engine / max",
        "stubbed / decode",
        "frames/s",
    )
    table: list[Sequence[Any]] = [(*head, "PHD2 h")]
    for line in lines:
        numbers = list(line.values())[1:-1]
        table.append((line["extractors"], *(f"{number:.4g}" for number in numbers)))
    report.section(f"engine, {given.decoders} decoders, {os.cpu_count()} cores", table, lines)


def tell_decoding(report: Report, video: Path, given: argparse.Namespace) -> None:
    """What decoding alone gives, by processor and by NVDEC."""
    from pipeline.decode import BACKENDS

    table: list[Sequence[Any]] = [("way", "side by side", "frames/s", "PHD2 h")]
    ways = [("pyav", 1), ("pyav", given.decoders)] + [(b, n) for b in BACKENDS if b == "nvdec" for n in (1, 4, 8)]
    for backend, count in ways:
        try:
            rate = decoders_alone(video, count, 2.0, backend)
        except Exception as error:  # noqa: BLE001  one way that fails must not cost the others
            table.append((backend, count, f"{type(error).__name__}: {str(error)[:150]}", ""))
        else:
            table.append((backend, count, f"{rate:.0f}", f"{PHD2_NATIVE_FRAMES / rate / 3600:.1f}"))
    report.section("decoding alone, threads of one process", table, table)


def tell_phd2(report: Report, found: Sequence[Speed]) -> None:
    """Hours of one GPU for all of PHD2, from the best rates."""
    table: list[Sequence[Any]] = [("extractor", "precision", "sampling", "units", "GPU-hours", "published")]
    for (name, choice), one in best(found).items():
        for sampling, units in PHD2_UNITS[name].items():
            hours = units / one.windows_per_second / 3600
            table.append((name, choice, sampling, f"{units:.3g}", f"{hours:.3g}", PUBLISHED.get(name, "")))
    report.section("PHD2: 95,111 videos, 10,212 hours", table, table)


def main() -> None:
    """Everything, in the order of importance."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", type=Path, default=Path("device-report"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--extractors", type=lambda text: text.split(","), default=list(NETWORKS))
    parser.add_argument("--windows", type=int, default=16, help="of the parity table")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each median")
    parser.add_argument("--copies", type=int, default=96, help="videos of the engine's shard")
    parser.add_argument("--decoders", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--sets", type=int, default=7, help="of extractors that the engine is measured with")
    parser.add_argument("--sizes", type=int, default=9, help="so many of the batch sizes, the largest")
    parser.add_argument("--sections", type=lambda text: text.split(","), default=[], help="in this order; all if empty")
    parser.add_argument("--limit", type=float, default=280.0, help="no section is begun after so many seconds")
    given = parser.parse_args()
    report = Report(given.out)
    frames = frames_of(given.video)
    torch.set_num_threads(max(1, given.decoders))
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    what = [("video", "frames", "decoders"), (given.video.name, len(frames), given.decoders)]
    report.section(f"{device_name(given.device)}, {versions}", what, versions)
    found: list[Speed] = []
    sections: dict[str, Callable[[], None]] = {
        "speed": lambda: tell_speed(report, frames, given, found),
        "phd2": lambda: tell_phd2(report, found),
        "engine": lambda: tell_engine(report, given.video, frames, given),
        "parity": lambda: tell_parity(report, frames, given),
        "decoding": lambda: tell_decoding(report, given.video, given),
    }
    if is_gpu(given.device):
        sections["kernels"] = lambda: tell_kernels(report, frames)
        sections["algorithms"] = lambda: tell_benchmark_mode(report, frames, found, given)
    chosen = [name for name in given.sections or sections if name in sections]
    for number, name in enumerate(chosen):
        if time.perf_counter() - report.began > given.limit:
            report.section(f"left out for lack of time: {', '.join(chosen[number:])}", [("",)], [])
            break
        report.attempt(sections[name], name)


if __name__ == "__main__":
    main()
