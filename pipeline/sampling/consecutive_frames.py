"""The planner of windows of consecutive frames."""

from __future__ import annotations

from collections import deque

from models.extractors.base.sampling import ConsecutiveFrames
from pipeline.sampling.planner import NO_FRAMES, Window, check_next


class ConsecutiveFramesPlanner:
    """Windows of L consecutive frames every S frames; fewer than L at the end make no window."""

    pending_frames = NO_FRAMES
    rows_lacking = 0

    def __init__(self, sampling: ConsecutiveFrames) -> None:
        self._length = sampling.length_frames
        self._stride = sampling.stride_frames
        self._times: deque[float] = deque(maxlen=self._length)
        self._count = 0
        self._next_start = 0
        self._decided = 0

    @property
    def first_undecided_frame(self) -> int:
        """As `Planner.first_undecided_frame`."""
        # With a stride above the length, frames before the next window are in none.
        return max(self._next_start, self._decided)

    def push(self, pts_seconds: float) -> list[Window]:
        """As `Planner.push`."""
        check_next(self._times[-1] if self._times else None, pts_seconds, self._count)
        windows = self._close(pts_seconds)
        self._times.append(pts_seconds)
        self._count += 1
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        """As `Planner.finish`."""
        check_next(self._times[-1] if self._times else None, end_seconds, self._count)
        return self._close(end_seconds)

    def _close(self, end_seconds: float) -> list[Window]:
        """The window that ends with the newest frame, if there is one."""
        start = self._next_start
        if self._count != start + self._length:
            return []
        self._next_start = start + self._stride
        self._decided = self._count
        # The deque keeps as many times as a window has frames: its first is the window's start.
        return [Window(tuple(range(start, self._count)), self._times[0], end_seconds)]
