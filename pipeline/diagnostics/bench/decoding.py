"""Measures decode backends: frames per core-second, with one decoder and with several in parallel.

Every measurement runs in a new interpreter, which decodes one file. Its clock starts once its
libraries are loaded.
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
from typing import Any

import imageio_ffmpeg

from pipeline.decoding.video_reader import BACKENDS, DecodeSummary, VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CLEAR_SPEEDUP = 1.1
"""Something else than the default is recommended only if it is this many times as fast."""


class BackendFailed(Exception):
    """A backend cannot be measured: a library is missing, or it cannot decode the file."""


@dataclass(frozen=True)
class DecodeSpeed:
    """Result of one decoder, or the sum of several in parallel."""

    frames: int
    video_seconds: float
    """Duration of the decoded video."""
    core_seconds: float
    wall_seconds: float
    peak_megabytes: float
    """The largest of any process."""

    @property
    def per_core_second(self) -> float:
        """Frames per second of CPU time."""
        return self.frames / self.core_seconds

    @property
    def per_second(self) -> float:
        """Frames per second of elapsed time."""
        return self.frames / self.wall_seconds


def warm_up_video(path: Path) -> None:
    """Write a second of synthetic video, whose decoding loads a backend's libraries."""
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=duration=1", "-y", path], check=True
    )


def measure_backend(
    backend: str, path: Path, every: int, warm: Path, decoders: int = 1
) -> DecodeSpeed:
    """Decode `path` in `decoders` new interpreters; each converts every `every`-th frame to RGB.

    Raises BackendFailed, with the last line of its output, if one of them fails.
    """
    program = [sys.executable, "-m", "pipeline.diagnostics.bench.decoding"]
    results = _run_in_parallel([*program, backend, str(every), str(warm), str(path)], decoders)
    began = min(result["began"] for result in results)
    ended = max(result["ended"] for result in results)
    return DecodeSpeed(
        frames=sum(result["frames"] for result in results),
        video_seconds=sum(result["video_seconds"] for result in results),
        core_seconds=sum(result["core_seconds"] for result in results),
        # The monotonic clock is common to all processes of a machine. Waiting for the others to
        # start counts too.
        wall_seconds=ended - began,
        peak_megabytes=max(result["peak_megabytes"] for result in results),
    )


def _run_in_parallel(command: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Run a command several times at once; returns the JSON that each printed last."""
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    outputs = [process.communicate() for process in processes]
    results = []
    for process, (output, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
            raise BackendFailed(lines[-1])
        results.append(json.loads(output.splitlines()[-1]))
    return results


def measure_ffmpeg(path: Path) -> float:
    """Core-seconds of `ffmpeg -threads 1 -i FILE -f null -`, including 0.1 s to start."""
    before = os.times()
    subprocess.run(
        [FFMPEG, "-v", "quiet", "-threads", "1", "-i", path, "-an", "-f", "null", "-"], check=True
    )
    after = os.times()
    user_seconds = after.children_user - before.children_user
    system_seconds = after.children_system - before.children_system
    return user_seconds + system_seconds


def decode_all(backend: str, path: Path, every: int) -> DecodeSummary:
    """Decode in this process. Raises VideoError if the file is not a video."""
    reader = VideoReader("v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    for frame in reader:
        if frame.index % every == 0:
            frame.to_rgb()
    return reader.summary()


def main(arguments: Sequence[str]) -> None:
    """Measure once and print JSON. Arguments: BACKEND EVERY WARM_UP_VIDEO VIDEO."""
    backend, every, warm, path = arguments
    if backend not in BACKENDS:
        raise SystemExit(f"unknown backend {backend!r}; known are {', '.join(BACKENDS)}")
    # Loads the libraries of the backend, whose start-up must not be measured.
    decode_all(backend, Path(warm), 1)
    cpu_began, began = time.process_time(), time.monotonic()
    summary = decode_all(backend, Path(path), int(every))
    result = {
        "frames": summary.frames_decoded,
        "video_seconds": summary.covered_seconds,
        "core_seconds": time.process_time() - cpu_began,
        "began": began,
        "ended": time.monotonic(),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
