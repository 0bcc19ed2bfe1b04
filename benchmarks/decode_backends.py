"""Frames per core-second of each decode backend, against ffmpeg's decoder alone: `-m
benchmarks.decode_backends`.

Every run is a fresh interpreter on one file: processor time until the last frame is RGB, with the
libraries loaded before; interleaved rounds, medians. Give a file, or let the bundled ffmpeg draw
one. For a person's own machine there is `python -m pipeline bench`, which measures in the same way.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.decoding.video_reader import BACKENDS
from pipeline.diagnostics.bench.decoding import (
    FFMPEG,
    measure_backend,
    measure_ffmpeg,
    warm_up_video,
)

EVERY = (1, 15)
"""Of how many frames one is asked for as RGB."""


def draw(path: Path) -> None:
    """A minute of 640x360 at 30 frames a second, with some noise, as a video site would encode
    it.
    """
    source = "testsrc2=size=640x360:rate=30:duration=60,noise=alls=6:allf=t"
    codec = ["-c:v", "libx264", "-crf", "30", "-g", "250", "-pix_fmt", "yuv420p"]
    subprocess.run(
        [FFMPEG, "-v", "error", "-f", "lavfi", "-i", source, *codec, "-y", path], check=True
    )


def compare(path: Path, rounds: int, warm: Path) -> list[str]:
    """A Markdown table of medians."""
    rates: dict[tuple[str, int], list[float]] = {}
    memory: dict[str, float] = {}
    floor: list[float] = []
    frames = 0
    for _ in range(rounds):
        for every in EVERY:
            for backend in BACKENDS:
                one = measure_backend(backend, path, every, warm)
                rates.setdefault((backend, every), []).append(one.per_core_second)
                memory[backend] = max(memory.get(backend, 0.0), one.peak_megabytes)
                frames = one.frames
        floor.append(frames / measure_ffmpeg(path))
    base = statistics.median(floor)
    lines = [
        "| backend | one RGB frame in | frames per core-second | of ffmpeg's | peak MB |",
        "|-|-|-|-|-|",
    ]
    for (backend, every), values in rates.items():
        rate = statistics.median(values)
        lines.append(
            f"| {backend} | {every} | {rate:.0f} | {rate / base:.2f} | {memory[backend]:.0f} |"
        )
    return [*lines, f"| ffmpeg -f null | - | {base:.0f} | 1.00 | - |"]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("video", type=Path, nargs="?", help="a video file; drawn if not given")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm, video = Path(folder) / "warm.mp4", chosen.video or Path(folder) / "drawn.mp4"
        warm_up_video(warm)
        if chosen.video is None:
            draw(video)
        sys.stdout.write("\n".join(compare(video, chosen.rounds, warm)) + "\n")


if __name__ == "__main__":
    main()
