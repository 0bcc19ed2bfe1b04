"""Frame times in, rows-to-be out: which frames make a row, and what span of seconds the row describes.

Arithmetic on numbers. Refuses to know disks, decoders, pixels and networks. Frame i covers `[pts_i, pts_{i+1})`, the
last one `[pts, end)`; spans come from these times alone, never from a nominal frame rate. To add a way of sampling:
write a planner class below and add it to `PLANNERS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol, TypeGuard

from models.extractors.base.sampling import (
    ConsecutiveFrames,
    EveryFrame,
    FramesAtRate,
    FramesAtRateWithHistory,
    Sampling,
)
from pipeline.sampling.segment_alignment import SLACK_SECONDS, Pictures, Place, Placement, SegmentsOfVideo, place


class BadTimestamps(ValueError):
    """Frame times that do not increase, or are no numbers: rows would have no spans."""


@dataclass(frozen=True)
class Window:
    """One row to be: its frames, and the half-open span it describes."""

    frame_indices: tuple[int, ...]
    """Numbers of decoded frames, the first of the video being 0. Consecutive: rising, or falling in a window that is
    looked at backwards, and from window to window of a sampling the last number rises. Of a segment: never falling,
    and from segment to segment the first number never falls."""
    start_seconds: float
    end_seconds: float
    segment: int | None = None
    """Number of the annotated segment it is about, if it is about one."""

    @property
    def oldest(self) -> int:
        """No later window of its sampling has a frame below this number."""
        return min(self.frame_indices[0], self.frame_indices[-1] - len(self.frame_indices) + 1)


@dataclass(frozen=True)
class InPlanes:
    """A sampling whose frames may come as the planes they were decoded to, where those say exactly what RGB is."""

    sampling: Sampling | SegmentsOfVideo


VideoSampling = Sampling | SegmentsOfVideo | InPlanes
"""What is asked of one video: a sampling, with the video's own segments where it is about segments."""


class Planner(Protocol):
    """Turns one stream of frame times into the windows of one sampling, each as soon as it is certain."""

    @property
    def undecided_from(self) -> int:
        """Frames below this number that no returned window holds are in none: they can be dropped."""
        ...

    @property
    def picked(self) -> frozenset[int]:
        """Frames of windows not yet returned that are certain to be in one."""
        ...

    @property
    def lacking(self) -> int:
        """Rows that the sampling's instants ask for, and that the video is too short for; known once it is finished."""
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


_NONE_PICKED: frozenset[int] = frozenset()


class _SingleFrames:
    """What planners of one-frame rows share: the newest frame waits until the next one tells where it ends."""

    picked = _NONE_PICKED
    lacking = 0

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

    picked = _NONE_PICKED
    lacking = 0

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
    In a video of fewer than 2 L - 2 frames, those in the middle have neither so long a past nor so long a future: they
    are `lacking`.
    """

    picked = _NONE_PICKED

    def __init__(self, sampling: FramesAtRateWithHistory) -> None:
        self._length = sampling.history_frames
        self._targets = _FramesAtRatePlanner(FramesAtRate(sampling.frames_per_second))
        self._waiting: deque[Window] = deque()
        self._count = 0
        self._returned_below = 0
        self.lacking = 0

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
        windows = [window for target in self._waiting if (window := self._with_history(target))]
        self.lacking = len(self._waiting) - len(windows)
        return windows

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


class _SegmentsPlanner:
    """A window for each segment of a video, in the table's order; `place` must come before the first frame.

    Frames are chosen by the instants at which the file's packets say they are shown. Where such a frame does not
    decode, the one that is on the screen then takes its place; a segment of which nothing decodes makes no row.
    """

    lacking = 0

    def __init__(self, asked: SegmentsOfVideo) -> None:
        self._asked = asked
        self._waiting: deque[tuple[Place, list[int]]] = deque()
        self._targets: deque[tuple[float, list[int]]] = deque()
        self._count = 0
        self._first = 0.0
        self._newest: float | None = None
        self.picked: frozenset[int] = _NONE_PICKED

    def place(self, pictures: Pictures) -> Placement:
        """Say when the video's pictures are shown; returns the account of its segments."""
        placement, places = place(self._asked, pictures)
        self._waiting = deque((one, []) for one in places)
        targets = [(instant, frames) for one, frames in self._waiting for instant in one.instants_seconds]
        self._targets = deque(sorted(targets, key=itemgetter(0)))  # stable: a segment's own stay in their order
        return placement

    @property
    def undecided_from(self) -> int:
        return max(0, self._count - 1)

    def push(self, pts_seconds: float) -> list[Window]:
        check_next(self._newest, pts_seconds, self._count)
        if self._newest is None:
            self._first = pts_seconds
        else:
            self._take_until(pts_seconds)
        self._newest = pts_seconds
        self._count += 1
        return self._whole()

    def finish(self, end_seconds: float) -> list[Window]:
        check_next(self._newest, end_seconds, self._count)
        if self._newest is not None:
            self._take_until(math.inf)
        seen = [one for one in self._waiting if one[0].start_seconds < end_seconds - SLACK_SECONDS]
        self._waiting = deque(seen if self._newest is not None else ())
        return self._whole()

    def _take_until(self, next_seconds: float) -> None:
        """The newest frame is what is on the screen before `next_seconds`."""
        picked = False
        while self._targets and self._targets[0][0] + SLACK_SECONDS < next_seconds:
            self._targets.popleft()[1].append(self._count - 1)
            picked = True
        self.picked = frozenset((self._count - 1,)) if picked else _NONE_PICKED

    def _whole(self) -> list[Window]:
        """Windows whose frames are all known, up to the first in the table's order that has one missing."""
        windows = []
        while self._waiting and len(self._waiting[0][1]) == self._asked.length_frames:
            one, frames = self._waiting.popleft()
            if one.end_seconds > self._first + SLACK_SECONDS:
                windows.append(Window(tuple(frames), one.start_seconds, one.end_seconds, one.segment))
        return windows


PLANNERS: Mapping[type[Any], Callable[[Any], Planner]] = {
    ConsecutiveFrames: _ConsecutiveFramesPlanner,
    FramesAtRate: _FramesAtRatePlanner,
    FramesAtRateWithHistory: _HistoryPlanner,
    EveryFrame: _EveryFramePlanner,
    SegmentsOfVideo: _SegmentsPlanner,
    InPlanes: lambda asked: planner(asked.sampling),
}
"""Type of a sampling → what plans it."""


def takes_pictures(one: Planner) -> TypeGuard[_SegmentsPlanner]:
    """Whether a planner must be told of the video's pictures, with `place`, before the first frame."""
    return isinstance(one, _SegmentsPlanner)


def planner(sampling: VideoSampling) -> Planner:
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
