"""`python -m pipeline bench VIDEO...`: what this machine decodes and computes, and the settings
that follow from it.

Measures each backend on the given files, one decoder and several side by side, then each
extractor's network in the precisions that are offered for what it keeps by default. Ends in lines
for `workflows.cfg`. Knows options, tables and advice; how a thing is measured lies in `decoding.py`
and `forward.py`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.extractors.registry import EXTRACTORS
from pipeline.decoding.video_reader import BACKENDS
from pipeline.diagnostics.bench_decoding import (
    BackendFailed,
    measure_backend,
    measure_ffmpeg,
    warm_up_video,
)
from pipeline.diagnostics.bench_throughput import CLEAR_SPEEDUP
from storage.base.errors import SettingsError

DEFAULT_BACKEND = "pyav"


@dataclass(frozen=True)
class BackendSpeed:
    """One backend on all files; medians."""

    per_core_second: float
    of_ffmpeg: float
    megabytes: float
    side_by_side: Mapping[int, float]
    """Decoders → frames a second by the clock, all together."""
    frames_per_second: float
    """Of the videos."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything the command takes."""
    parser.add_argument(
        "videos",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="like those to be built, a minute or more",
    )
    parser.add_argument(
        "--extractors", default=",".join(sorted(EXTRACTORS)), help="which, by comma; all by default"
    )
    parser.add_argument(
        "--backends", default=",".join(BACKENDS), help="which decoders, by comma; all by default"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 and so on")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    backends, extractors = options.backends.split(","), options.extractors.split(",")
    faults = [
        f"no backend is called {name!r}; there are {', '.join(BACKENDS)}"
        for name in {*backends} - {*BACKENDS}
    ]
    faults += [f"no extractor is called {name!r}; there are {', '.join(EXTRACTORS)}"
               for name in {*extractors} - {*EXTRACTORS}]  # fmt: skip
    faults += [f"{path} is no file" for path in options.videos if not path.is_file()]
    faults += [f"--rounds is 1 or more, got {options.rounds}"] * (options.rounds < 1)
    if faults:
        raise SettingsError(tuple(sorted(faults)))
    found: dict[str, BackendSpeed] = {}
    counts = _counts()
    _say(
        f"{'decoder':<12}{'frames/core-second':>20}{'of ffmpeg':>11}{'peak MB':>9}   frames/s of several at once"
    )
    for backend in backends:
        try:
            found[backend] = one = _decoder(backend, options.videos, counts, options.rounds)
        except BackendFailed as error:
            _say(f"{backend:<12}of no use here: {error}")
        else:
            abreast = ", ".join(f"{count}: {rate:.0f}" for count, rate in one.side_by_side.items())
            _say(
                f"{backend:<12}{one.per_core_second:>20.0f}{one.of_ffmpeg:>11.2f}{one.megabytes:>9.0f}   {abreast}"
            )
    if not found:
        return 1
    from pipeline.diagnostics.bench_networks import (
        measure_networks,
    )  # torch takes seconds to import

    fps = next(iter(found.values())).frames_per_second
    networks = measure_networks(extractors, options.device, fps, options.rounds, _say)
    for line in advice(found, networks.video_seconds_per_second, networks.settings):
        _say(line)
    return 0


def _counts() -> tuple[int, ...]:
    """1, 2, 4, ... and as many decoders as cores."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return tuple(
        sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})
    )


def _decoder(
    backend: str, videos: Sequence[Path], counts: Sequence[int], rounds: int
) -> BackendSpeed:
    alone, floors, rates = [], [], dict[int, list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm.mp4"
        warm_up_video(warm)
        for video in list(videos) * rounds:
            alone.append(measure_backend(backend, video, 1, warm))
            floors.append(measure_ffmpeg(video))
            for count in counts:
                one = alone[-1] if count == 1 else measure_backend(backend, video, 1, warm, count)
                rates.setdefault(count, []).append(one.per_second)
    return BackendSpeed(
        per_core_second=statistics.median(one.per_core_second for one in alone),
        of_ffmpeg=statistics.median(
            floor / one.core_seconds for one, floor in zip(alone, floors, strict=True)
        ),
        megabytes=max(one.peak_megabytes for one in alone),
        side_by_side={count: statistics.median(values) for count, values in rates.items()},
        frames_per_second=sum(one.frames for one in alone)
        / sum(one.video_seconds for one in alone),
    )


def advice(
    found: Mapping[str, BackendSpeed],
    video_seconds_per_second: Mapping[str, float],
    settings: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """What the numbers say: who waits for whom, and lines for `workflows.cfg`."""
    # By the clock, with as many at once as were tried: that is how a run decodes.
    rates = {name: one.side_by_side[max(one.side_by_side)] for name, one in found.items()}
    best = max(rates, key=lambda name: rates[name])
    if DEFAULT_BACKEND in rates and rates[best] < CLEAR_SPEEDUP * rates[DEFAULT_BACKEND]:
        best = DEFAULT_BACKEND
    decoder = found[best].side_by_side[1] / found[best].frames_per_second
    if video_seconds_per_second:
        networks = 1 / sum(1 / rate for rate in video_seconds_per_second.values())
        busy = math.ceil(networks / decoder)
        yield (
            f"\nA decoder gives {decoder:.3g} seconds of film in a second; these networks together, in fp32, take "
            f"{networks:.3g}: {'one decoder keeps' if busy == 1 else f'{busy} decoders keep'} them busy."
        )
    yield "\nFor workflows.cfg:\n"
    yield f"[decode]\nbackend = {best}"
    for section, lines in settings.items():
        yield "\n".join([f"\n[{section}]", *lines])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
