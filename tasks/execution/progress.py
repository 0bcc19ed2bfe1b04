"""Output of a run: progress on stderr, results on stdout.

Progress is a bar with rate and time left on a terminal, and plain lines in a batch log. One bar
counts all videos of a run, whichever shards they belong to. `tasks.execution.eta` estimates the
time that is left.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from storage.base.video_status import State, VideoStatus
from tasks.execution.eta import RemainingTime

LINE_EVERY_SECONDS = 30.0
"""How often a batch log gets a line."""
MIN_SECONDS_FOR_RATE = 1.0
"""Below this, a rate says nothing."""
MAX_LINE_CHARACTERS = 300
BAR_FORMAT = "{desc} |{bar}| {n_fmt}/{total_fmt} {unit}s, {rate_fmt}{postfix}"


class ProgressBar:
    """Counts `unit`s towards a total."""

    def __init__(self, title: str, unit: str, total: int) -> None:
        self.total = total
        self.done = 0
        self._title = title
        self._unit = unit
        self._started = time.monotonic()
        self._last_line = self._started - LINE_EVERY_SECONDS
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                desc=title, unit=unit, total=total, file=sys.stderr, bar_format=BAR_FORMAT
            )

    def advance_to(self, done: int, note: str = "", left_seconds: float | None = None) -> None:
        """Show that `done` units are finished.

        Without `left_seconds`, the rest is assumed to go at the rate of what is done.
        """
        now = time.monotonic()
        elapsed = now - self._started
        has_rate = elapsed >= MIN_SECONDS_FOR_RATE
        if left_seconds is None and done and has_rate:
            left_seconds = (self.total - done) * elapsed / done
        ending = "" if left_seconds is None else f", {format_clock(left_seconds)} left"
        if note:
            ending += f"; {note}"
        advanced = done - self.done
        self.done = done
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(ending.removeprefix(", "), refresh=False)
            self._bar.update(advanced)
            return
        is_due = now - self._last_line >= LINE_EVERY_SECONDS
        if is_due or done >= self.total:
            self._last_line = now
            rate = f", {done / elapsed * 60:.1f} a minute" if has_rate else ""
            log_line(f"{self._title}: {done}/{self.total} {self._unit}s{rate}{ending}")

    def begin(self) -> None:
        """Log that work has begun, since the first unit may take long."""
        if self._bar is None:
            log_line(
                f"{self._title}: 0/{self.total} {self._unit}s, begun; "
                "the next line comes with the first that is done"
            )

    def close(self) -> None:
        """End the bar; it stays on the screen."""
        if self._bar is not None:
            self._bar.close()


class VideoProgress:
    """The bar of a run; logs a line for each video that ends without features."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        self._planned = 0
        self._failures = 0
        self._remaining = RemainingTime()

    def plan(self, durations: Mapping[str, float | None]) -> None:
        """Expect these videos: id → duration in seconds, None where it is unknown."""
        self._planned += len(durations)
        self._remaining.expect(durations, time.monotonic())
        if self._bar is not None:
            self._bar.total = self._planned
        elif durations:
            self._bar = ProgressBar("videos", "video", self._planned)
            self._bar.begin()

    def video_ended(self, shard: int, video_id: str, status: VideoStatus) -> None:
        """Count one more video."""
        if self._bar is None:
            self._bar = ProgressBar("videos", "video", self._planned)
        is_done = status.state is State.DONE
        if not is_done:
            self._failures += 1
            log_line(f"shard {shard:03d}  {video_id}  {status}")
        note = f"{self._failures} without all features" if self._failures else ""
        self._remaining.video_ended(video_id, time.monotonic(), done=is_done)
        self._bar.advance_to(self._bar.done + 1, note, self._remaining.left_seconds())

    def close(self) -> None:
        """End the bar of the run."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


PROGRESS = VideoProgress()
"""The bar of this process."""


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function that shows (done, total) as a bar; the bar appears with the first call."""
    bar: ProgressBar | None = None

    def advance(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = ProgressBar(title, unit, total)
        bar.advance_to(done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()


def log_line(line: str) -> None:
    """Write one line to stderr, above any bar."""
    # Control characters in a raw message could move the reader's cursor.
    printable = "".join(c if c.isprintable() else " " for c in line)
    tqdm.write(printable[:MAX_LINE_CHARACTERS], file=sys.stderr)


def print_line(line: str) -> None:
    """Write one line of a result to stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def format_clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
