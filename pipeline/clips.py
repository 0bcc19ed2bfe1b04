"""Frame times in, rows-to-be out: which frames make a row, and what span of seconds the row describes.

Arithmetic on numbers. Refuses to know disks, decoders, pixels and networks. Frame i covers `[pts_i, pts_{i+1})`, the
last one `[pts, end)`; spans come from these times alone, never from a nominal frame rate. To add a way of sampling:
write a planner class below and add it to `PLANNERS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.extractors.spec import ConsecutiveFrames, EveryFrame, FramesAtRate, FramesAtRateWithHistory, Sampling

SLACK_SECONDS = 1e-9
"""A frame this little after an instant counts as shown at it. Time bases tick in microseconds or slower; float64 errs
by about 1e-11 s ten hours into a video; so a nanosecond hides every rounding and no real difference."""


class BadTimestamps(ValueError):
    """Frame times that do not increase, or are no numbers: rows would have no spans."""


@dataclass(frozen=True)
class Window:
    """One row to be: its frames, and the half-open span it describes."""

    frame_indices: tuple[int, ...]
    """Numbers of consecutive decoded frames, the first of the video being 0; rising, or falling in a window that is
    looked at backwards. From window to window of a sampling, the last number rises."""
    start_seconds: float
    end_seconds: float


class Planner(Protocol):
    """Turns one stream of frame times into the windows of one sampling, each as soon as it is certain."""

    @property
    def undecided_from(self) -> int:
        """Frames below this number that no returned window holds are in none: they can be dropped."""
        ...

    def push(self, pts_seconds: float) -> list[Window]:
        """Take the next frame's time; return the windows that became certain. Raises BadTimestamps."""
        ...

    def finish(self, end_seconds: float) -> list[Window]:
        """Say that the last frame ends at `end_seconds`; return the rest. Raises BadTimestamps."""
        ...


def check_next(previous_seconds: float | None, pts_seconds: float, index: int) -> None:
    """Raise BadTimestamps unless frame `index` has a finite time after the one before it."""
    if not math.isfinite(pts_seconds):
        raise BadTimestamps(f"frame {index} is shown at {pts_seconds} s; a time must be a finite number")
    if previous_seconds is not None and pts_seconds <= previous_seconds:
        raise BadTimestamps(f"frame {index} is shown at {pts_seconds} s, not after {previous_seconds} s before it")


class _SingleFrames:
    """What planners of one-frame rows share: the newest frame waits until the next one tells where it ends."""

    def __init__(self) -> None:
        self._count = 0
        self._newest: float | None = None

    @property
    def undecided_from(self) -> int:
        return max(0, self._count - 1)

    def push(self, pts_seconds: float) -> list[Window]:
        check_next(self._newest, pts_seconds, self._count)
        windows = self._close(pts_seconds)
        self._newest = pts_seconds
        self._count += 1
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        check_next(self._newest, end_seconds, self._count)
        return self._close(end_seconds)

    def _close(self, end_seconds: float) -> list[Window]:
        if self._newest is None or not self._takes(self._newest, end_seconds):
            return []
        return [Window((self._count - 1,), self._newest, end_seconds)]

    def _takes(self, start_seconds: float, end_seconds: float) -> bool:
        """Whether the frame shown in `[start, end)` is a row."""
        return True


class _EveryFramePlanner(_SingleFrames):
    """Every frame is a row."""

    def __init__(self, sampling: EveryFrame) -> None:
        super().__init__()


class _FramesAtRatePlanner(_SingleFrames):
    """The frame shown at `first frame's time + k / rate`, for k = 0, 1, 2, ...; each frame at most once.

    k is an integer and every instant is computed afresh from it, so no error adds up.
    """

    def __init__(self, sampling: FramesAtRate) -> None:
        super().__init__()
        self._rate = sampling.frames_per_second
        self._first: float | None = None
        self._k = 0

    def _instant(self, k: int) -> float:
        return (self._first or 0.0) + k / self._rate + SLACK_SECONDS

    def _takes(self, start_seconds: float, end_seconds: float) -> bool:
        if self._first is None:
            self._first = start_seconds
        if self._instant(self._k) >= end_seconds:
            return False
        self._skip_to(end_seconds)
        return True

    def _skip_to(self, end_seconds: float) -> None:
        """Let `_k` be the first instant at or after `end_seconds`: by division, for a gap may hold millions of them."""
        self._k = max(self._k + 1, math.floor((end_seconds - (self._first or 0.0)) * self._rate) - 1)
        while self._instant(self._k) < end_seconds:
            self._k += 1


class _ConsecutiveFramesPlanner:
    """Windows of L consecutive frames every S frames; a rest shorter than L makes no row."""

    def __init__(self, sampling: ConsecutiveFrames) -> None:
        self._length = sampling.length_frames
        self._stride = sampling.stride_frames
        self._times: deque[float] = deque(maxlen=self._length)
        self._count = 0
        self._next_start = 0
        self._decided = 0

    @property
    def undecided_from(self) -> int:
        return max(self._next_start, self._decided)

    def push(self, pts_seconds: float) -> list[Window]:
        check_next(self._times[-1] if self._times else None, pts_seconds, self._count)
        windows = self._close(pts_seconds)
        self._times.append(pts_seconds)
        self._count += 1
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        check_next(self._times[-1] if self._times else None, end_seconds, self._count)
        return self._close(end_seconds)

    def _close(self, end_seconds: float) -> list[Window]:
        """The window that ends with the newest frame, if one does; the deque holds exactly its times."""
        start = self._next_start
        if self._count != start + self._length:
            return []
        self._next_start = start + self._stride
        self._decided = self._count
        return [Window(tuple(range(start, self._count)), self._times[0], end_seconds)]


class _HistoryPlanner:
    """The frames of a rate, each at the end of L consecutive frames; the first L - 1 look at their future, reversed.

    Rows keep the order of the frames they are about: those that wait for their future hold back the ones behind them.
    """

    def __init__(self, sampling: FramesAtRateWithHistory) -> None:
        self._length = sampling.history_frames
        self._targets = _FramesAtRatePlanner(FramesAtRate(sampling.frames_per_second))
        self._waiting: deque[Window] = deque()
        self._count = 0
        self._returned_below = 0

    @property
    def undecided_from(self) -> int:
        # Returned windows leave no hole that matters: the first holds frames 0 to L - 1, those played backwards overlap
        # it, and the others reach L - 1 back from where they end, which is as far as the next one reaches.
        target = self._waiting[0].frame_indices[0] if self._waiting else self._targets.undecided_from
        return max(self._returned_below, target - self._length + 1)

    def push(self, pts_seconds: float) -> list[Window]:
        self._waiting += self._targets.push(pts_seconds)
        self._count += 1
        windows = []
        while self._waiting and (window := self._with_history(self._waiting[0])):
            self._waiting.popleft()
            windows.append(window)
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        self._waiting += self._targets.finish(end_seconds)
        return [window for target in self._waiting if (window := self._with_history(target))]

    def _with_history(self, target: Window) -> Window | None:
        """The window about `target`'s one frame; None as long as the frames it needs are not there."""
        (index,) = target.frame_indices
        if index >= self._length - 1:
            frames = range(index - self._length + 1, index + 1)
        elif index + self._length <= self._count:
            frames = range(index + self._length - 1, index - 1, -1)
        else:
            return None
        self._returned_below = max(self._returned_below, frames[0] + 1, frames[-1] + 1)
        return Window(tuple(frames), target.start_seconds, target.end_seconds)


PLANNERS: Mapping[type[Any], Callable[[Any], Planner]] = {
    ConsecutiveFrames: _ConsecutiveFramesPlanner,
    FramesAtRate: _FramesAtRatePlanner,
    FramesAtRateWithHistory: _HistoryPlanner,
    EveryFrame: _EveryFramePlanner,
}
"""Type of a sampling → what plans it."""


def planner(sampling: Sampling) -> Planner:
    """A fresh planner for one video. Raises TypeError for a sampling that `PLANNERS` does not list."""
    if type(sampling) not in PLANNERS:
        known = ", ".join(kind.__name__ for kind in PLANNERS)
        raise TypeError(f"no planner for {type(sampling).__name__}; there are planners for {known}")
    return PLANNERS[type(sampling)](sampling)


def plan(pts_seconds: Iterable[float], end_seconds: float, sampling: Sampling) -> list[Window]:
    """All windows of a video whose frames are shown at `pts_seconds` and whose last frame ends at `end_seconds`."""
    one = planner(sampling)
    windows = [window for pts in pts_seconds for window in one.push(pts)]
    return windows + one.finish(end_seconds)


@dataclass(frozen=True)
class FrameDue:
    """Frame `index` goes out now, for the samplings at these positions. Comes once a frame, in rising order."""

    index: int
    wanted_by: tuple[int, ...]


@dataclass(frozen=True)
class WindowDue:
    """All frames of `window` went out before; `sampling` is a position in the list of samplings."""

    sampling: int
    window: Window


Due = FrameDue | WindowDue


class JointPlanner:
    """Several samplings over one pass: each wanted frame once and in order, each window right after its newest frame,
    or right after the window before it in the same sampling, whichever is later.

    A frame waits until every sampling has decided about it: at most as long as the longest window.
    """

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self._planners = [planner(sampling) for sampling in samplings]
        self._wanted: dict[int, set[int]] = {}
        self._due_at = [0] * len(samplings)
        self._waiting: list[tuple[int, WindowDue]] = []
        self._sent_below = 0
        self._count = 0

    @property
    def undecided_from(self) -> int:
        """Frames below this number are out already, or in no window: they can be dropped."""
        return min((one.undecided_from for one in self._planners), default=self._count)

    def push(self, pts_seconds: float) -> list[Due]:
        """Take the next frame's time; return what goes out now. Raises BadTimestamps."""
        self._count += 1
        for position, one in enumerate(self._planners):
            self._note(position, one.push(pts_seconds))
        return self._release(self.undecided_from)

    def finish(self, end_seconds: float) -> list[Due]:
        """Say that the last frame ends at `end_seconds`; return the rest. Raises BadTimestamps."""
        for position, one in enumerate(self._planners):
            self._note(position, one.finish(end_seconds))
        return self._release(self._count)

    def _note(self, position: int, windows: list[Window]) -> None:
        for window in windows:
            self._due_at[position] = max(self._due_at[position], *window.frame_indices)
            self._waiting.append((self._due_at[position], WindowDue(position, window)))
            for index in window.frame_indices:
                if index >= self._sent_below:
                    self._wanted.setdefault(index, set()).add(position)

    def _release(self, below: int) -> list[Due]:
        self._sent_below = below
        ready: list[tuple[int, Due]] = [(at, due) for at, due in self._waiting if at < below]
        self._waiting = [(at, due) for at, due in self._waiting if at >= below]
        indices = [index for index in self._wanted if index < below]
        ready += [(index, FrameDue(index, tuple(sorted(self._wanted.pop(index))))) for index in indices]
        return [due for _, due in sorted(ready, key=_order)]


def _order(ready: tuple[int, Due]) -> tuple[int, int, float]:
    """By the frame it comes with: the frame itself, then windows by sampling and time."""
    at, due = ready
    if isinstance(due, FrameDue):
        return (at, -1, 0.0)
    return (at, due.sampling, due.window.start_seconds)
