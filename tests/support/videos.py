"""Videos made from formulas, losslessly, so that decoding is tested by equality; written by the
bundled ffmpeg.

A frame says its own number: each bit is a black or white block, so that the number survives any
upright picture.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

BITS = 8
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run the bundled ffmpeg; its stdout. Fails the test if it fails."""
    command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def coded_frame(number: int, height: int = 32, width: int = 64) -> NDArray[np.uint8]:
    """`(H, W, 3)`: bit b of `number` is the brightness of column block b in the upper half; the
    lower half is grey.
    """
    frame = np.full((height, width, 3), 100, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        frame[: height // 2, left:right] = 235 if number >> bit & 1 else 16
    return frame


def read_code(frame: NDArray[np.uint8]) -> int:
    """The number a `coded_frame` holds, from the middle of its blocks."""
    height, width, _ = frame.shape
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(
        int(frame[height // 4, middle, 1] > 128) << bit for bit, middle in enumerate(middles)
    )


def encode(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    *options: str,
    fps: str = "10",
    codec: str = "libx264",
) -> Path:
    """Write `(H, W, 3)` frames losslessly, at a constant rate; options go before the output."""
    height, width, _ = frames[0].shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-")
    lossless = ("-qp", "0") if codec == "libx264" else ()
    ffmpeg(
        *raw,
        "-c:v",
        codec,
        *lossless,
        *options,
        path,
        stdin=b"".join(frame.tobytes() for frame in frames),
    )
    return path


def coded_video(path: Path, count: int, *options: str, fps: str = "10") -> Path:
    """`count` coded frames."""
    return encode(path, [coded_frame(number) for number in range(count)], *options, fps=fps)


def cli_frames(path: Path, height: int, width: int, *options: str) -> NDArray[np.uint8]:
    """`(N, H, W, 3)`: what the ffmpeg program itself delivers as rgb24."""
    raw = ffmpeg(
        "-threads",
        "1",
        *options,
        "-i",
        path,
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-pix_fmt",
        "rgb24",
        "-f",
        "rawvideo",
        "-",
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
