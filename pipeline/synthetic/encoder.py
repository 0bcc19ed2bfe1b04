"""Encodes frames to an mp4 file that has the same bytes every time.

For this, it uses the ffmpeg that pip installed, one thread, and no creation time.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SystemicFault

TICKS_PER_SECOND = 1200
QUOTED_LINES = 3
"""Lines of ffmpeg's errors that a message quotes: the cause comes first, consequences follow."""


@dataclass(frozen=True)
class FrameClock:
    """The times of frames: frame N is at `gap_ticks * N + floor(slowing * N² / 4)` ticks.

    A tick is 1/1200 s.
    """

    gap_ticks: int = 100
    slowing: int = 0
    """0 for a constant rate; if above 0, every gap is longer than the one before."""

    @property
    def expression(self) -> str:
        """The formula for ffmpeg's `setpts` filter."""
        return f"N*{self.gap_ticks}+floor({self.slowing}*N*N/4)"

    def times_seconds(self, duration_seconds: float) -> NDArray[np.float64]:
        """`(T,)` times of the frames that begin in `[0, duration_seconds)`."""
        numbers = np.arange(int(duration_seconds * TICKS_PER_SECOND / self.gap_ticks) + 1)
        ticks = numbers * self.gap_ticks + self.slowing * numbers * numbers // 4
        times = ticks / TICKS_PER_SECOND
        return times[times < duration_seconds]


CONSTANT_RATE = FrameClock()
"""12 frames per second."""
VARIABLE_RATE = FrameClock(gap_ticks=60, slowing=1)
"""As a phone films when it gets dark: from 20 frames per second down to 9 after 12 seconds."""


def encode_mp4(frames: NDArray[np.uint8], clock: FrameClock) -> bytes:
    """An mp4 (H.264, index first) of `(T, H, W, 3)` uint8 RGB frames; H and W are even.

    Raises `SystemicFault` if ffmpeg fails.
    """
    height, width = frames.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        source = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=12
        )
        timed = source.filter("settb", f"1/{TICKS_PER_SECOND}").filter("setpts", clock.expression)
        _run(timed.output(str(path), **_OPTIONS), np.ascontiguousarray(frames).tobytes())
        return path.read_bytes()


def set_rotation(video: bytes, degrees_counterclockwise: int) -> bytes:
    """The same coded frames, with metadata that makes players turn them."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.mp4", Path(folder) / "after.mp4"
        before.write_bytes(video)
        source = ffmpeg.input(str(before), display_rotation=degrees_counterclockwise)
        options = {"movflags": "+faststart", "fflags": "+bitexact", "map_metadata": -1}
        _run(source.output(str(after), c="copy", **options))
        return after.read_bytes()


_OPTIONS = {
    "an": None,
    "c:v": "libx264",
    # The encoder must not round the planned times to a frame rate.
    "enc_time_base": f"1:{TICKS_PER_SECOND}",
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    # Frames are neither dropped nor repeated to reach a constant rate.
    "fps_mode": "passthrough",
    "g": 24,
    "map_metadata": -1,
    "movflags": "+faststart",
    "pix_fmt": "yuv420p",
    "preset": "veryfast",
    # A constant quantiser, because rate control computes in floating point, which processors may
    # round differently.
    "qp": 22,
    "sws_flags": "+accurate_rnd+bitexact",
    "threads": 1,
    "video_track_timescale": 10 * TICKS_PER_SECOND,
}


def _run(stream: object, stdin: bytes = b"") -> None:
    command = ffmpeg.compile(stream, cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True)
    # One filter thread, so that nothing depends on the number of cores.
    quiet = ["-nostdin", "-hide_banner", "-loglevel", "error", "-filter_threads", "1"]
    arguments = [command[0], *quiet, *command[1:]]
    # With a second pipe, subprocess writes the frames in pieces of 4 kB: 30,000 calls for a sample.
    with tempfile.TemporaryFile() as stderr:
        done = subprocess.run(
            arguments, input=stdin, stdout=subprocess.DEVNULL, stderr=stderr, check=False
        )
        stderr.seek(0)
        messages = stderr.read().decode(errors="replace")
    if done.returncode != 0:
        cause = "\n".join(messages.splitlines()[:QUOTED_LINES])
        raise SystemicFault(
            f"ffmpeg ended with status {done.returncode} while making the sample: {cause}"
        )
