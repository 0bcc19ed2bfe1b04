"""What a delivered frame costs the processor, beside an ffmpeg that decodes and throws away.

`python -m benchmarks.handover VIDEO`; give it minutes of video, for what is paid once a video is
counted in. CPU seconds, user and system, of all processes; medians of interleaved rounds, so that a
busy machine matters little:

- ffmpeg: the program, one thread, `-f null`; and once more with each frame made rgb24, as `rgb`
  below makes it;
- pyav: its frames, in this process, none converted;
- planes, rgb: every frame of clips of 16, out of a decode child's shared memory, not looked at;
- rgb, 171×128: the same, and shrunk as C3D wants it, which is what decoding and resizing alone
  cost;
- sampled: two frames a second, as RGB.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio_ffmpeg

from models.extractors.base.sampling import ConsecutiveFrames, FramesAtRate, Sampling
from pipeline.decoding.events import DecodeEnd, FrameEvent, YuvFrameEvent
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.sampling.planner import VideoSampling, YuvSampling


def ffmpeg_null(video: Path, *form: str) -> float:
    """CPU seconds of the program; `form` may name a pixel format."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    options = ["-v", "error", "-threads", "1", "-i", str(video), "-an", *form, "-f", "null", "-"]
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), *options], check=True, stdin=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pyav(video: Path) -> float:
    """CPU seconds of decoding here."""
    began = time.process_time()
    for _ in VideoReader("v", video, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None):
        pass
    return time.process_time() - began


def delivered(
    video: Path, decoder: SubprocessDecoder, sampling: VideoSampling, shrink: bool = False
) -> float:
    """CPU seconds of the child and of this process, for every frame of a sampling."""
    began, spent = time.process_time(), 0.0
    for event in decoder.decode("v", video, [sampling]):
        if isinstance(event, FrameEvent):
            if shrink:
                cv2.resize(event.rgb, (171, 128), interpolation=cv2.INTER_LINEAR)
        elif isinstance(event, DecodeEnd):
            spent = event.cpu_seconds or 0.0
        elif isinstance(event, YuvFrameEvent) and shrink:
            raise TypeError("planes are not shrunk here")
    return spent + time.process_time() - began


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    every: Sampling = ConsecutiveFrames(16, 16)
    with SubprocessDecoder() as decoder:
        frames = sum(
            isinstance(event, FrameEvent) for event in decoder.decode("v", given.video, [every])
        )
        ways: dict[str, Callable[[], float]] = {
            "ffmpeg": lambda: ffmpeg_null(given.video),
            "ffmpeg, rgb24": lambda: ffmpeg_null(given.video, "-pix_fmt", "rgb24"),
            "pyav": lambda: pyav(given.video),
            "planes": lambda: delivered(given.video, decoder, YuvSampling(every)),
            "rgb": lambda: delivered(given.video, decoder, every),
            "rgb, 171×128": lambda: delivered(given.video, decoder, every, shrink=True),
            "sampled": lambda: delivered(given.video, decoder, FramesAtRate(2)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                taken[name].append(way())
    found = {name: statistics.median(values) for name, values in taken.items()}
    sys.stdout.write(
        f"{given.video.name}: {frames} frames\n\n"
        "| way | µs a frame | / ffmpeg | / pyav |\n|-|-|-|-|\n"
    )
    for name, seconds in found.items():
        ratios = f"{seconds / found['ffmpeg']:.2f} | {seconds / found['pyav']:.2f}"
        sys.stdout.write(f"| {name} | {seconds / frames * 1e6:.0f} | {ratios} |\n")


if __name__ == "__main__":
    main()
