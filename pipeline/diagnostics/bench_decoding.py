"""How fast a decode backend is: frames per core-second of one decoder, and of several that decode
side by side.

Every measurement is a fresh interpreter that decodes one file and counts from when its libraries
are loaded. Refuses to know which backend is worth choosing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from pipeline.decoding.video_reader import BACKENDS, DecodeSummary, VideoReader
from pipeline.media.probe import DEFAULT_LIMITS

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


class BackendFailed(Exception):
    """A decoder that cannot be measured: its libraries are not here, or it cannot decode the
    file.
    """


@dataclass(frozen=True)
class DecodeSpeed:
    """What one or more decoders did."""

    frames: int
    video_seconds: float
    """That the frames cover."""
    core_seconds: float
    wall_seconds: float
    peak_megabytes: float
    """Of one process."""

    @property
    def per_core_second(self) -> float:
        """Frames for a second of one core's time."""
        return self.frames / self.core_seconds

    @property
    def per_second(self) -> float:
        """Frames by the clock."""
        return self.frames / self.wall_seconds


def warm_up_video(path: Path) -> None:
    """A second of drawn video, on which a library loads itself."""
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=duration=1", "-y", path], check=True
    )


def measure_backend(
    backend: str, path: Path, every: int, warm: Path, decoders: int = 1
) -> DecodeSpeed:
    """`decoders` fresh interpreters, each of which decodes `path` and makes every so many-th frame
    RGB.

    Raises BackendFailed, with the last line that it said, if one fails: the backend is of no use
    for this file here.
    """
    command = [
        sys.executable,
        "-m",
        "pipeline.diagnostics.bench_decoding",
        backend,
        str(every),
        str(warm),
        str(path),
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(decoders)]  # fmt: skip
    said = [process.communicate() for process in running]
    for process, (_, complaint) in zip(running, said, strict=True):
        if process.returncode:
            raise BackendFailed(
                (complaint.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            )
    told = [json.loads(lines.splitlines()[-1]) for lines, _ in said]
    return DecodeSpeed(
        frames=sum(one["frames"] for one in told),
        video_seconds=sum(one["video_seconds"] for one in told),
        core_seconds=sum(one["core_seconds"] for one in told),
        # The clock is the machine's, and all start within it: what each waited for the others'
        # start counts.
        wall_seconds=max(one["ended"] for one in told) - min(one["began"] for one in told),
        peak_megabytes=max(one["peak_megabytes"] for one in told),
    )


def measure_ffmpeg(path: Path) -> float:
    """Core-seconds of `ffmpeg -threads 1 -i FILE -f null -`: decoding, and a tenth of a second to
    start.
    """
    before = os.times()
    subprocess.run(
        [FFMPEG, "-v", "quiet", "-threads", "1", "-i", path, "-an", "-f", "null", "-"], check=True
    )
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def decode_all(backend: str, path: Path, every: int) -> DecodeSummary:
    """Decode in this process. Raises VideoError for what is no video."""
    decoding = VideoReader("v", path, backend=backend, limits=DEFAULT_LIMITS, beat=lambda: None)
    for frame in decoding:
        if frame.index % every == 0:
            frame.to_rgb()
    return decoding.summary()


def main(arguments: Sequence[str]) -> None:
    """Be one measurement, told as JSON on stdout: BACKEND EVERY WARM_UP_VIDEO VIDEO."""
    backend, every, warm, path = arguments
    if backend not in BACKENDS:
        raise SystemExit(f"no backend is called {backend!r}; there are {', '.join(BACKENDS)}")
    decode_all(backend, Path(warm), 1)
    spent, began = time.process_time(), time.monotonic()
    found = decode_all(backend, Path(path), int(every))
    told = {
        "frames": found.frames_decoded,
        "video_seconds": found.covered_seconds,
        "core_seconds": time.process_time() - spent,
        "began": began,
        "ended": time.monotonic(),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
