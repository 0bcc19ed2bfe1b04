"""Progress of a run for a person: a bar with rate and time left on a terminal, plain lines in a
batch log.

One bar counts all videos of a run, whichever shards they belong to. Knows nothing of what is done
to a video; what is left of a run is `pace.py`'s question.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tqdm import tqdm

from storage.base.video_status import State, VideoStatus
from tasks.execution.eta import Pace

LINE_EVERY_SECONDS = 30.0
"""How often a batch log gets a line."""


class Bar:
    """Counts `unit`s towards a total."""

    def __init__(self, title: str, unit: str, total: int) -> None:
        self.total = total
        self.done = 0
        self._title = title
        self._unit = unit
        self._started = time.monotonic()
        self._last_line = self._started - LINE_EVERY_SECONDS
        shape = "{desc} |{bar}| {n_fmt}/{total_fmt} {unit}s, {rate_fmt}{postfix}"
        hidden = not sys.stderr.isatty()
        self._bar = (
            None
            if hidden
            else tqdm(desc=title, unit=unit, total=total, file=sys.stderr, bar_format=shape)
        )

    def advance_to(self, done: int, note: str = "", left_seconds: float | None = None) -> None:
        """Say that `done` units are finished. Unless it is told how long the rest takes, as long as
        these did.
        """
        now = time.monotonic()
        elapsed = now - self._started
        if left_seconds is None and done and elapsed >= 1:
            left_seconds = (self.total - done) * elapsed / done
        left = "" if left_seconds is None else f", {clock(left_seconds)} left"
        noted = f"; {note}" if note else ""
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(f"{left}{noted}".removeprefix(", "), refresh=False)
            self._bar.update(done - self.done)
        self.done = done
        if self._bar is None and (
            now - self._last_line >= LINE_EVERY_SECONDS or done >= self.total
        ):
            self._last_line = now
            rate = f", {done / elapsed * 60:.1f} a minute" if elapsed >= 1 else ""
            say(f"{self._title}: {done}/{self.total} {self._unit}s{rate}{left}{noted}")

    def begin(self) -> None:
        """Say in a log that work has begun: the first unit may take long."""
        if self._bar is None:
            say(
                f"{self._title}: 0/{self.total} {self._unit}s, begun; the next line comes with the first that is done"
            )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


class VideoProgress:
    """The bar of a run: every video that ends, and a line for each that ended without features."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._planned = 0
        self._failures = 0
        self._pace = Pace()

    def plan(self, seconds: Mapping[str, float | None]) -> None:
        """These videos are to come, each so long, or of unknown length."""
        self._planned += len(seconds)
        self._pace.expect(seconds, time.monotonic())
        if self._bar is not None:
            self._bar.total = self._planned
        elif seconds:
            self._bar = Bar("videos", "video", self._planned)
            self._bar.begin()

    def video(self, shard: int, video_id: str, status: VideoStatus) -> None:
        """One more video ended."""
        if self._bar is None:
            self._bar = Bar("videos", "video", self._planned)
        if status.state is not State.DONE:
            self._failures += 1
            say(f"shard {shard:03d}  {video_id}  {status}")
        note = f"{self._failures} without all features" if self._failures else ""
        self._pace.ended(video_id, time.monotonic(), done=status.state is State.DONE)
        self._bar.advance_to(self._bar.done + 1, note, self._pace.left_seconds())

    def close(self) -> None:
        """The run is over."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


PROGRESS = VideoProgress()
"""This process's bar."""


@contextmanager
def bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for something that reports (done, total); made when it first does."""
    made: list[Bar] = []

    def advance(done: int, total: int) -> None:
        if not made:
            made.append(Bar(title, unit, total))
        made[0].advance_to(done)

    try:
        yield advance
    finally:
        for one in made:
            one.close()


def say(line: str) -> None:
    """One line on stderr, above any bar. Control characters in a raw message must not move the
    reader's cursor.
    """
    tqdm.write("".join(c if c.isprintable() else " " for c in line)[:300], file=sys.stderr)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
