"""Planners of windows with one frame: every frame, or frames at a rate."""

from __future__ import annotations

import math

from models.extractors.base.sampling import EveryFrame, FramesAtRate
from pipeline.sampling.planner import NO_FRAMES, Window, check_next
from pipeline.sampling.segment_alignment import SLACK_SECONDS


class _SingleFrames:
    """Base of planners of one-frame windows: a frame waits for the next one, which ends it."""

    pending_frames = NO_FRAMES
    rows_lacking = 0

    def __init__(self) -> None:
        self._count = 0
        self._newest: float | None = None

    @property
    def first_undecided_frame(self) -> int:
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
        """Whether the frame shown in `[start, end)` is a window."""
        return True


class EveryFramePlanner(_SingleFrames):
    """Every frame is a window."""

    def __init__(self, sampling: EveryFrame) -> None:
        super().__init__()


class FramesAtRatePlanner(_SingleFrames):
    """The frames shown at `first frame's time + k / rate`, k = 0, 1, 2, ...; each at most once."""

    def __init__(self, sampling: FramesAtRate) -> None:
        super().__init__()
        self._rate = sampling.frames_per_second
        self._first: float | None = None
        self._k = 0

    def _instant(self, k: int) -> float:
        # Computed from the integer k each time, so that rounding errors do not add up.
        return (self._first or 0.0) + k / self._rate + SLACK_SECONDS

    def _takes(self, start_seconds: float, end_seconds: float) -> bool:
        if self._first is None:
            self._first = start_seconds
        if self._instant(self._k) >= end_seconds:
            return False
        # All instants in this frame are skipped: a frame makes at most one window.
        self._skip_to(end_seconds)
        return True

    def _skip_to(self, end_seconds: float) -> None:
        """Let `_k` be the first instant at or after `end_seconds`."""
        # By division, since a gap may contain millions of instants; the loop corrects rounding.
        elapsed_seconds = end_seconds - (self._first or 0.0)
        self._k = max(self._k + 1, math.floor(elapsed_seconds * self._rate) - 1)
        while self._instant(self._k) < end_seconds:
            self._k += 1
