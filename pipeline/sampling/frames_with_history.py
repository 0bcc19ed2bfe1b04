"""The planner of frames at a rate, each with the frames before it."""

from __future__ import annotations

from collections import deque

from models.extractors.base.sampling import (
    FramesAtRate,
    FramesAtRateWithHistory,
)
from pipeline.sampling.planner import NONE_PICKED, Window
from pipeline.sampling.single_frames import FramesAtRatePlanner


class HistoryPlanner:
    """The frames of a rate, each at the end of L consecutive frames; the first L - 1 look at their
    future, reversed.

    Rows keep the order of the frames they are about: those that wait for their future hold back the
    ones behind them. In a video of fewer than 2 L - 2 frames, those in the middle have neither so
    long a past nor so long a future: they are `lacking`.
    """

    picked = NONE_PICKED

    def __init__(self, sampling: FramesAtRateWithHistory) -> None:
        self._length = sampling.history_frames
        self._targets = FramesAtRatePlanner(FramesAtRate(sampling.frames_per_second))
        self._waiting: deque[Window] = deque()
        self._count = 0
        self._returned_below = 0
        self.lacking = 0

    @property
    def first_undecided_frame(self) -> int:
        """As `Planner.first_undecided_frame`."""
        # Returned windows leave no hole that matters: the first holds frames 0 to L - 1, those
        # played backwards overlap it, and the others reach L - 1 back from where they end, which is
        # as far as the next one reaches.
        target = (
            self._waiting[0].frame_indices[0]
            if self._waiting
            else self._targets.first_undecided_frame
        )
        return max(self._returned_below, target - self._length + 1)

    def push(self, pts_seconds: float) -> list[Window]:
        """As `Planner.push`."""
        self._waiting += self._targets.push(pts_seconds)
        self._count += 1
        windows = []
        while self._waiting and (window := self._with_history(self._waiting[0])):
            self._waiting.popleft()
            windows.append(window)
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        """As `Planner.finish`."""
        self._waiting += self._targets.finish(end_seconds)
        windows = [window for target in self._waiting if (window := self._with_history(target))]
        self.lacking = len(self._waiting) - len(windows)
        return windows

    def _with_history(self, target: Window) -> Window | None:
        """The window about `target`'s one frame; None as long as the frames it needs are not
        there.
        """
        (index,) = target.frame_indices
        if index >= self._length - 1:
            frames = range(index - self._length + 1, index + 1)
        elif index + self._length <= self._count:
            frames = range(index + self._length - 1, index - 1, -1)
        else:
            return None
        self._returned_below = max(self._returned_below, frames[0] + 1, frames[-1] + 1)
        return Window(tuple(frames), target.start_seconds, target.end_seconds)
