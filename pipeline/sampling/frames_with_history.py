"""The planner of frames at a rate, each with the frames before it."""

from __future__ import annotations

from collections import deque

from models.extractors.base.sampling import FramesAtRate, FramesAtRateWithHistory
from pipeline.sampling.planner import NO_FRAMES, Window
from pipeline.sampling.single_frames import FramesAtRatePlanner


class HistoryPlanner:
    """Frames at a rate, each at the end of a clip of L consecutive frames.

    The first L - 1 frames have too few frames before them: their clips hold the frames after them,
    reversed. Windows keep the order of their target frames, so one that waits for later frames
    delays those behind it. In a video of fewer than 2 L - 2 frames, the targets in the middle have
    neither L - 1 frames before nor after them: they are counted as `rows_lacking`.
    """

    pending_frames = NO_FRAMES

    def __init__(self, sampling: FramesAtRateWithHistory) -> None:
        self._length = sampling.history_frames
        self._targets = FramesAtRatePlanner(FramesAtRate(sampling.frames_per_second))
        self._waiting: deque[Window] = deque()
        self._count = 0
        self._returned_below = 0
        self.rows_lacking = 0

    @property
    def first_undecided_frame(self) -> int:
        """As `Planner.first_undecided_frame`."""
        # Frames of returned windows are gap-free where it matters: the first window holds frames 0
        # to L - 1, reversed ones overlap it, and each other reaches L - 1 frames back from its
        # target, and the next one reaches no further.
        target = self._targets.first_undecided_frame
        if self._waiting:
            target = self._waiting[0].frame_indices[0]
        return max(self._returned_below, target - self._length + 1)

    def push(self, pts_seconds: float) -> list[Window]:
        """As `Planner.push`."""
        self._waiting += self._targets.push(pts_seconds)
        self._count += 1
        windows = []
        # In order: a target that waits for later frames stops those behind it.
        while self._waiting:
            window = self._with_history(self._waiting[0])
            if window is None:
                break
            self._waiting.popleft()
            windows.append(window)
        return windows

    def finish(self, end_seconds: float) -> list[Window]:
        """As `Planner.finish`."""
        self._waiting += self._targets.finish(end_seconds)
        clips = [self._with_history(target) for target in self._waiting]
        windows = [clip for clip in clips if clip is not None]
        self.rows_lacking = len(self._waiting) - len(windows)
        return windows

    def _with_history(self, target: Window) -> Window | None:
        """The clip of `target`'s single frame; None until all frames it needs are there."""
        (index,) = target.frame_indices
        if index >= self._length - 1:
            frames = range(index - self._length + 1, index + 1)
        elif index + self._length <= self._count:
            frames = range(index + self._length - 1, index - 1, -1)
        else:
            return None
        self._returned_below = max(self._returned_below, frames[0] + 1, frames[-1] + 1)
        return Window(tuple(frames), target.start_seconds, target.end_seconds)
