"""Progress on stderr: a line with rate and time left, rewritten on a terminal, repeated in a log.

For commands of a core installation, which has no progress-bar library.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta

LINE_EVERY_SECONDS = 30.0
REDRAW_EVERY_SECONDS = 0.2
MIN_SECONDS_FOR_RATE = 1.0
"""Below this, a rate says nothing."""


class ProgressLines:
    """Shows how many videos of a step are done."""

    def __init__(self) -> None:
        self._step = ""
        self._started = 0.0
        self._last_line = 0.0
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` videos are through a step."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._started, self._last_line = step, now, now
        every = REDRAW_EVERY_SECONDS if self._is_terminal else LINE_EVERY_SECONDS
        if now - self._last_line < every and done < total:
            return
        self._last_line = now
        line = progress_line(step, done, total, now - self._started)
        if self._is_terminal:
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if done >= total else ""))
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def progress_line(step: str, done: int, total: int, elapsed_seconds: float) -> str:
    """`written: 12/90 videos, 6.0 a second, 0:00:13 left`."""
    line = f"{step}: {done}/{total} videos"
    if elapsed_seconds < MIN_SECONDS_FOR_RATE or not done:
        return line
    left = timedelta(seconds=round((total - done) * elapsed_seconds / done))
    return f"{line}, {done / elapsed_seconds:.1f} a second, {left} left"
