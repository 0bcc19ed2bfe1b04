"""Frames per core-second of each decode backend, against ffmpeg's decoder alone: `-m benchmarks.decode_backends`.

Every run is a fresh interpreter on one file: processor time until the last frame is RGB, with the libraries loaded
before; interleaved rounds, medians. Give a file, or let the bundled ffmpeg draw one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg

from pipeline.decode import BACKENDS, Decoding
from pipeline.probe import DEFAULT_LIMITS

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
EVERY = (1, 15)
"""Of how many frames one is asked for as RGB."""


def draw(path: Path) -> None:
    """A minute of 640x360 at 30 frames a second, with some noise, as a video site would encode it."""
    source = "testsrc2=size=640x360:rate=30:duration=60,noise=alls=6:allf=t"
    codec = ["-c:v", "libx264", "-crf", "30", "-g", "250", "-pix_fmt", "yuv420p"]
    subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", source, *codec, "-y", path], check=True)


def decode_all(backend: str, path: Path, every: int) -> int:
    """Decode in this process; the number of frames."""
    count = 0
    for frame in Decoding("v", path, backend=backend, limits=DEFAULT_LIMITS, beat=lambda: None):
        if frame.index % every == 0:
            frame.to_rgb()
        count += 1
    return count


def run_here(backend: str, path: Path, every: int, warm: Path) -> None:
    """One measurement, as JSON on stdout. Loading the library is paid by `warm`, a second-long video."""
    decode_all(backend, warm, 1)
    before = time.process_time()
    count = decode_all(backend, path, every)
    spent = time.process_time() - before
    peak_megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"rate": count / spent, "megabytes": peak_megabytes, "frames": count}) + "\n")


def measure(backend: str, path: Path, every: int, warm: Path) -> dict[str, float]:
    """One run in a fresh interpreter."""
    options = ["--one", backend, "--every", str(every), "--warm", str(warm)]
    command = [sys.executable, "-m", "benchmarks.decode_backends", str(path), *options]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure_ffmpeg(path: Path, frames: float) -> float:
    """Frames per core-second of `ffmpeg -threads 1 -i FILE -f null -`."""
    before = os.times()
    subprocess.run([FFMPEG, "-v", "error", "-threads", "1", "-i", path, "-an", "-f", "null", "-"], check=True)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return frames / spent


def compare(path: Path, rounds: int, warm: Path) -> list[str]:
    """A Markdown table of medians."""
    rates: dict[tuple[str, int], list[float]] = {}
    memory: dict[str, float] = {}
    floor: list[float] = []
    frames = 0.0
    for _ in range(rounds):
        for every in EVERY:
            for backend in BACKENDS:
                one = measure(backend, path, every, warm)
                rates.setdefault((backend, every), []).append(one["rate"])
                memory[backend] = max(memory.get(backend, 0.0), one["megabytes"])
                frames = one["frames"]
        floor.append(measure_ffmpeg(path, frames))
    base = statistics.median(floor)
    lines = ["| backend | one RGB frame in | frames per core-second | of ffmpeg's | peak MB |", "|-|-|-|-|-|"]
    for (backend, every), values in rates.items():
        rate = statistics.median(values)
        lines.append(f"| {backend} | {every} | {rate:.0f} | {rate / base:.2f} | {memory[backend]:.0f} |")
    return [*lines, f"| ffmpeg -f null | - | {base:.0f} | 1.00 | - |"]


def main() -> None:
    """Measure, or be one measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?", help="a video file; drawn if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=list(BACKENDS), help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        run_here(chosen.one, chosen.video, chosen.every, chosen.warm)
        return
    with tempfile.TemporaryDirectory() as folder:
        warm, video = Path(folder) / "warm.mp4", chosen.video or Path(folder) / "drawn.mp4"
        subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=duration=1", warm], check=True)
        if chosen.video is None:
            draw(video)
        sys.stdout.write("\n".join(compare(video, chosen.rounds, warm)) + "\n")


if __name__ == "__main__":
    main()
