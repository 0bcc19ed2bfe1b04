"""`python -m pipeline bench VIDEO...`: measures this machine and recommends settings.

Measures each decode backend on the given files, with one decoder and with several in parallel, then
each extractor's network in the precisions offered for its default arrays. Ends with lines for
`workflows.cfg`. How it is measured is in `pipeline.diagnostics.bench_*`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from pipeline.cli.exit_codes import FAILURE, SUCCESS
from pipeline.decoding.video_reader import BACKENDS
from pipeline.diagnostics.bench.decoding import (
    CLEAR_SPEEDUP,
    BackendFailed,
    DecodeSpeed,
    measure_backend,
    measure_ffmpeg,
    warm_up_video,
)
from pipeline.diagnostics.doctor import usable_cores
from storage.base.errors import SettingsError

DEFAULT_BACKEND = "pyav"


@dataclass(frozen=True)
class BackendSpeed:
    """Speed of one backend, as medians over all files."""

    per_core_second: float
    share_of_ffmpeg: float
    """CPU time of ffmpeg as a share of the backend's."""
    peak_megabytes: float
    parallel_rates: Mapping[int, float]
    """Number of parallel decoders → frames per second of elapsed time, of all together."""
    frames_per_second: float
    """Frame rate of the videos."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "videos",
        type=Path,
        nargs="+",
        metavar="VIDEO",
        help="typical of those to be built, at least a minute long",
    )
    parser.add_argument(
        "--extractors",
        default=",".join(sorted(EXTRACTORS)),
        help="names, separated by commas; default: all",
    )
    parser.add_argument(
        "--backends", default=",".join(BACKENDS), help="decoders, separated by commas; default: all"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--rounds", type=int, default=3, help="results are medians of this many")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    backends, extractors = options.backends.split(","), options.extractors.split(",")
    _check_options(backends, extractors, options.videos, options.rounds)
    speeds = _measure_backends(backends, options.videos, options.rounds)
    if not speeds:
        return FAILURE
    # Imports torch, which takes seconds.
    from pipeline.diagnostics.bench.networks import measure_networks

    fps = next(iter(speeds.values())).frames_per_second
    networks = measure_networks(extractors, options.device, fps, options.rounds, _say)
    for line in advice(speeds, networks.video_seconds_per_second, networks.settings):
        _say(line)
    return SUCCESS


def _check_options(
    backends: Sequence[str], extractors: Sequence[str], videos: Sequence[Path], rounds: int
) -> None:
    """Raise SettingsError with everything that is wrong."""
    faults = []
    for name in {*backends} - {*BACKENDS}:
        faults.append(f"unknown backend {name!r}; known are {', '.join(BACKENDS)}")
    for name in extractors:
        try:
            EXTRACTORS.chosen(name)
        except (KeyError, PluginError) as error:
            faults.append(str(error.args[0]))
    for path in videos:
        if not path.is_file():
            faults.append(f"{path} is not a file")
    if rounds < 1:
        faults.append(f"--rounds must be at least 1, got {rounds}")
    if faults:
        raise SettingsError(tuple(sorted(faults)))


def _measure_backends(
    backends: Sequence[str], videos: Sequence[Path], rounds: int
) -> dict[str, BackendSpeed]:
    """Print a line per backend; returns those that work here."""
    columns = f"{'decoder':<12}{'frames/core-second':>20}{'of ffmpeg':>11}{'peak MB':>9}"
    _say(f"{columns}   frames/s of several at once")
    counts = _decoder_counts()
    speeds: dict[str, BackendSpeed] = {}
    for backend in backends:
        try:
            speed = _measure_backend(backend, videos, counts, rounds)
        except BackendFailed as error:
            _say(f"{backend:<12}of no use here: {error}")
            continue
        speeds[backend] = speed
        parallel = ", ".join(f"{count}: {rate:.0f}" for count, rate in speed.parallel_rates.items())
        _say(
            f"{backend:<12}{speed.per_core_second:>20.0f}{speed.share_of_ffmpeg:>11.2f}"
            f"{speed.peak_megabytes:>9.0f}   {parallel}"
        )
    return speeds


def _decoder_counts() -> tuple[int, ...]:
    """1, 2, 4, ... and the number of cores."""
    cores = usable_cores()
    powers = [2**power for power in range(cores.bit_length())]
    return tuple(sorted({*powers, cores}))


def _measure_backend(
    backend: str, videos: Sequence[Path], counts: Sequence[int], rounds: int
) -> BackendSpeed:
    singles: list[DecodeSpeed] = []
    shares_of_ffmpeg: list[float] = []
    rates: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm.mp4"
        warm_up_video(warm)
        # Rounds alternate between the files, so that a slow moment of the machine affects all.
        for video in list(videos) * rounds:
            single = measure_backend(backend, video, 1, warm)
            singles.append(single)
            shares_of_ffmpeg.append(measure_ffmpeg(video) / single.core_seconds)
            for count in counts:
                speed = single
                if count > 1:
                    speed = measure_backend(backend, video, 1, warm, count)
                rates[count].append(speed.per_second)
    frames = sum(single.frames for single in singles)
    return BackendSpeed(
        per_core_second=statistics.median(single.per_core_second for single in singles),
        share_of_ffmpeg=statistics.median(shares_of_ffmpeg),
        peak_megabytes=max(single.peak_megabytes for single in singles),
        parallel_rates={count: statistics.median(values) for count, values in rates.items()},
        frames_per_second=frames / sum(single.video_seconds for single in singles),
    )


def advice(
    speeds: Mapping[str, BackendSpeed],
    video_seconds_per_second: Mapping[str, float],
    settings: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Lines for a person: how decoding and networks compare, and settings for `workflows.cfg`."""
    # By elapsed time, with the most decoders that were tried: that is how a run decodes.
    rates = {
        name: speed.parallel_rates[max(speed.parallel_rates)] for name, speed in speeds.items()
    }
    best = max(rates, key=lambda name: rates[name])
    if DEFAULT_BACKEND in rates and rates[best] < CLEAR_SPEEDUP * rates[DEFAULT_BACKEND]:
        best = DEFAULT_BACKEND
    decoder_rate = speeds[best].parallel_rates[1] / speeds[best].frames_per_second
    if video_seconds_per_second:
        # One second of video passes through every network, one after the other.
        networks_rate = 1 / sum(1 / rate for rate in video_seconds_per_second.values())
        decoders = math.ceil(networks_rate / decoder_rate)
        busy = "one decoder keeps" if decoders == 1 else f"{decoders} decoders keep"
        yield (
            f"\nA decoder gives {decoder_rate:.3g} seconds of film in a second; these networks "
            f"together, in fp32, take {networks_rate:.3g}: {busy} them busy."
        )
    yield "\nFor workflows.cfg:\n"
    yield f"[decode]\nbackend = {best}"
    for section, lines in settings.items():
        yield "\n".join([f"\n[{section}]", *lines])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
