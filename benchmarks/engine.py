"""Compares the extraction engine with its slowest part.

`python -m benchmarks.engine VIDEO --extractors c3d,yolov5` measures each extractor, and all of them
together, in interleaved rounds of one run, and prints medians of wall seconds:

- decode: the child decodes, and every frame is prepared as the networks want it; nothing is
  computed;
- forward: the windows of the same video, prepared beforehand, through the network on as many
  threads;
- engine: `process_video`, as a build does it; and once more with a network that answers nothing at
  once (`stubbed`).

Weights are random: numbers here are times. Ratios hold within a line; a machine at work elsewhere
spoils them. Then `--clock cpu` counts processor seconds of this process and of the decode child
instead: what overhead costs, not what overlaps.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import Extractor, accepts_planes
from models.extractors.registry import EXTRACTORS
from pipeline.compute.cpu_executor import RowExecutor
from pipeline.decoding.events import DecodeEnd, Event, FrameEvent, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_video import process_video
from pipeline.extraction.track_builder import extract_rows
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from pipeline.sampling.planner import VideoSampling, Window

Fed = Sequence[tuple[Variant, Extractor]]
Work = tuple[Extractor, list[Window], dict[int, Any]]


@dataclass(frozen=True)
class Stubbed:
    """Prepares frames as the extractor does, but returns zeros."""

    variant: Variant
    inner: Extractor

    def prepare(self, frame: Any) -> Any:
        """As the extractor."""
        return self.inner.prepare(frame)

    @property
    def planar(self) -> bool:
        """As the extractor."""
        return accepts_planes(self.inner)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Zeros, or no items."""
        rows = {}
        for name, array in self.variant.arrays.items():
            shape = (0, *array.item_shape) if array.ragged else array.item_shape
            rows[name] = [np.zeros(shape)] * len(windows)
        return rows


def decoded(video: Path, decoder: SubprocessDecoder, fed: Fed) -> list[Work]:
    """All windows with their prepared frames: decoding without computing."""
    kept: list[dict[int, Any]] = [{} for _ in fed]
    windows: list[list[Window]] = [[] for _ in fed]
    for event in decoder.decode("v", video, [variant.sampling_of("v") for variant, _ in fed]):
        if isinstance(event, FrameEvent):
            for place in event.wanted_by:
                kept[place][event.index] = fed[place][1].prepare(event.rgb)
        elif isinstance(event, WindowEvent):
            windows[event.sampling].append(event.window)
    return [(extractor, windows[place], kept[place]) for place, (_, extractor) in enumerate(fed)]


def forward(work: Sequence[Work], fed: Fed, executor: RowExecutor) -> None:
    """All windows through the networks, in the batches of a build."""
    futures = []
    for (variant, _), (extractor, windows, prepared) in zip(fed, work, strict=True):
        size = variant.spec.windows_per_batch
        for first in range(0, len(windows), size):
            futures.append(
                executor.submit(extract_rows, extractor, windows[first : first + size], prepared)
            )
    for future in futures:
        future.result()


class Counted(SubprocessDecoder):
    """Adds up the processor time of its children."""

    spent = 0.0

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Generator[Event, None, None]:
        """As the decoder does it."""
        for event in super().decode(video_id, path, samplings):
            if isinstance(event, DecodeEnd):
                self.spent += event.cpu_seconds or 0.0
            yield event


def seconds(work: Callable[[], object], decoder: Counted, clock: str) -> float:
    """Of one call: wall, or processor."""

    def now() -> float:
        return time.perf_counter() if clock == "wall" else time.process_time() + decoder.spent

    began = now()
    work()
    return now() - began


def measure(
    video: Path, fed: Fed, decoder: Counted, executor: RowExecutor, chosen: argparse.Namespace
) -> dict[str, float]:
    """Column → median seconds."""
    media = Media(video, "", video.stat().st_size)
    stubs: Fed = [(variant, Stubbed(variant, extractor)) for variant, extractor in fed]
    prepared = decoded(video, decoder, fed)
    ways: dict[str, Callable[[], object]] = {
        "decode": lambda: decoded(video, decoder, fed),
        "forward": lambda: forward(prepared, fed, executor),
        "engine": lambda: process_video("v", media, fed, decoder, executor.compute),
        "stubbed": lambda: process_video("v", media, stubs, decoder, executor.compute),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.rounds):
        for name, way in ways.items():
            taken[name].append(seconds(way, decoder, chosen.clock))
    return {name: statistics.median(values) for name, values in taken.items()}


def line(name: str, found: Mapping[str, float]) -> str:
    """One row of the table."""
    ratio = found["engine"] / max(found["decode"], found["forward"])
    spent = found["engine"] / (found["decode"] + found["forward"])
    host = found["stubbed"] / found["decode"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    columns = " | ".join(
        f"{found[column]:.2f}" for column in ("decode", "forward", "engine", "stubbed")
    )
    return f"| {name} | {columns} | {ratio:.2f} | {spent:.2f} | {host:.2f} | {peak:.0f} |"


def main() -> None:
    """Measure each extractor alone, then all together."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--extractors", default=",".join(EXTRACTORS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    chosen = parser.parse_args()
    specs = [EXTRACTORS[name] for name in chosen.extractors.split(",")]
    variants = [
        Variant(s.name, s, s.settings_type(), "random:0" if s.needs_weights else "") for s in specs
    ]
    fed = [(variant, variant.build("cpu")) for variant in variants]
    sys.stdout.write(
        "| extractor | decode s | forward s | engine s | stubbed s | engine / max | engine / sum "
        "| stubbed / decode | peak MB |\n|-|-|-|-|-|-|-|-|-|\n"
    )
    with Counted() as decoder, RowExecutor("cpu") as executor:
        groups = {variant.name: [(variant, extractor)] for variant, extractor in fed}
        for name, group in (groups | ({"all": fed} if len(fed) > 1 else {})).items():
            found = measure(chosen.video, group, decoder, executor, chosen)
            sys.stdout.write(line(name, found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
