"""A shard of copies of one video through the engine, against decoding alone and computing alone."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.device.parts import prepared, settings_of, windows_of
from benchmarks.device.report import Report
from benchmarks.engine import Stubbed
from models.extractors.base.contract import Extractor, Frame
from models.extractors.base.precision import is_gpu
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import ComputeRequest
from pipeline.decoding.events import FrameEvent, YuvFrameEvent
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction import process_shard as process
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.timing import Times
from pipeline.extraction.track_builder import TrackBuilder
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.media_file import Media
from pipeline.sampling.planner import VideoSampling
from storage.base.paths import Layout

PHD2_SECONDS = 36.76e6
PHD2_NATIVE_FRAMES = 1.103e9


def variants_of(names: Sequence[str], choices: Mapping[str, str]) -> list[Variant]:
    """As a build has them; `choices` says which depart from fp32 and parity."""
    found = []
    for name in names:
        spec = EXTRACTORS[name]
        others = {"arrays": ("p5",)} if name == "yolov5" and "bf16" in choices.get(name, "") else {}
        settings = (
            settings_of(spec, choices.get(name, "fp32"), **others)
            if name != "frames"
            else spec.settings_type()
        )
        found.append(Variant(name, spec, settings, "random:0" if spec.needs_weights else ""))
    return found


def shard(
    video: Path, copies: int, variants: Sequence[Variant], device: str, decoders: int
) -> tuple[float, Times]:
    """Seconds that a shard of so many copies takes from files to parts."""
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        ids = tuple(f"copy{number:04d}" for number in range(copies))
        job = ShardJob(Layout(Path(folder), "copies"), 0, ids, tuple(variants), 256_000_000)
        crew = [SubprocessDecoder() for _ in range(decoders)]
        began = time.perf_counter()
        try:
            process_shard(
                job,
                fetch=lambda *_: Media(video, "0" * 64, video.stat().st_size),
                decoder=crew[0],
                more_decoders=crew[1:],
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


def decoding_seconds(
    video: Path, copies: int, fed: Sequence[tuple[Variant, Extractor]], decoders: int
) -> float:
    """Seconds to decode and prepare all copies, without computing or keeping anything."""
    left = iter(range(copies))
    lock = threading.Lock()

    def prepare_frame(event: object) -> None:
        if not isinstance(event, FrameEvent | YuvFrameEvent):
            return
        frame = event.rgb if isinstance(event, FrameEvent) else event.planes
        for place in event.wanted_by:
            fed[place][1].prepare(frame)

    def work() -> None:
        with SubprocessDecoder() as decoder:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                for event in decoder.decode("v", video, [asked_of(*one) for one in fed]):
                    prepare_frame(event)

    threads = [threading.Thread(target=work) for _ in range(decoders)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def computing_seconds(
    frames: Sequence[Frame],
    copies: int,
    rows: Mapping[str, int],
    fed: Sequence[tuple[Variant, Extractor]],
    device: str,
) -> float:
    """Seconds to compute the windows of all copies, prepared beforehand, in a build's batches."""
    with process.make_executor(device) as lanes:
        clips = {
            variant.name: prepared(extractor, windows_of(variant.name, frames, 8))
            for variant, extractor in fed
        }
        began = time.perf_counter()
        futures = []
        for number in range(copies):
            for variant, extractor in fed:
                for row in range(rows[variant.name]):
                    clip = clips[variant.name][(number + row) % 8]
                    futures.append(
                        lanes.compute(
                            ComputeRequest(extractor, [clip], variant.spec.windows_on_gpu)
                        )
                    )
        for future in futures:
            future.result()
        return time.perf_counter() - began


def rows_of_copy(video: Path, variants: Sequence[Variant]) -> dict[str, int]:
    """Variant → how many windows of the video it has."""
    counts = dict.fromkeys((variant.name for variant in variants), 0)
    with SubprocessDecoder() as decoder:
        for event in decoder.decode("v", video, [variant.sampling_of("v") for variant in variants]):
            if hasattr(event, "window"):
                counts[variants[event.sampling].name] += 1
    return counts


def engine(
    video: Path,
    frames: Sequence[Frame],
    names: Sequence[str],
    choices: Mapping[str, str],
    given: argparse.Namespace,
) -> dict[str, Any]:
    """One line of the engine's table."""
    variants = variants_of(names, choices)
    fed = [(variant, process.cached_extractor(variant, given.device)) for variant in variants]
    rows = rows_of_copy(video, variants)
    computing_seconds(frames, 1, rows, fed, given.device)  # warms up
    shard(video, min(2, given.copies), variants, given.device, 2)
    decode = decoding_seconds(video, given.copies, fed, given.decoders)
    compute = computing_seconds(
        frames, given.copies, rows, [one for one in fed if one[0].name != "frames"], given.device
    )
    wall, times = shard(video, given.copies, variants, given.device, given.decoders)
    stubs = [(variant, Stubbed(variant, extractor)) for variant, extractor in fed]
    kept = process.cached_extractor
    process.cached_extractor = lambda variant, _: {one.name: stub for one, stub in stubs}[
        variant.name
    ]  # type: ignore[assignment]
    try:
        stubbed, _ = shard(video, given.copies, variants, given.device, given.decoders)
    finally:
        process.cached_extractor = kept
    spent: dict[str, float] = {}
    for of_video in times.by_video().values():
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
            decoding = VideoReader(
                "v", video, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
            )
            count += sum(1 for _ in decoding)
            if salvaged := decoding.summary().salvaged_by:
                raise RuntimeError(salvaged)
        return count

    with ThreadPoolExecutor(decoders) as pool:
        counts = [future.result() for future in [pool.submit(work) for _ in range(decoders)]]
    return sum(counts) / (time.perf_counter() - began)


def tell_engine(
    report: Report, video: Path, frames: Sequence[Frame], given: argparse.Namespace
) -> None:
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
        lines.append(
            engine(
                video,
                frames,
                names,
                choices,
                argparse.Namespace(**{**vars(given), "copies": copies}),
            )
        )
        sys.stdout.write(f"{lines[-1]}\n")
        sys.stdout.flush()

    for names, choices, copies in sets[: given.sets]:
        report.attempt(partial(measure, names, choices, copies), f"engine with {names}")
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
    table: list[Sequence[Any]] = [("way", "side by side", "frames/s", "PHD2 h")]

    def measure(backend: str, count: int) -> None:
        rate = decoders_alone(video, count, 2.0, backend)
        table.append((backend, count, f"{rate:.0f}", f"{PHD2_NATIVE_FRAMES / rate / 3600:.1f}"))

    on_gpu = [("nvdec", count) for count in (1, 4, 8)] if is_gpu(given.device) else []
    for backend, count in [("pyav", 1), ("pyav", given.decoders), *on_gpu]:
        report.attempt(partial(measure, backend, count), f"{backend}, {count} side by side")
    report.section("decoding alone, threads of one process", table, table)
