"""Runs several samplings in one pass over a video.

Each wanted frame is returned once, and each window after its frames. Arithmetic on numbers: how a
sampling chooses frames is up to its planner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sampling.planner import VideoSampling, Window
from pipeline.sampling.planners import make_planner, needs_picture_times
from pipeline.sampling.segment_alignment import PictureTimes, SegmentAlignment


@dataclass(frozen=True)
class FrameDue:
    """Frame `index` is wanted by the samplings at these positions. Comes in rising order."""

    index: int
    wanted_by: tuple[int, ...]


@dataclass(frozen=True)
class WindowDue:
    """A window whose frames were all returned before; `sampling` is a position in the list."""

    sampling: int
    window: Window


Due = FrameDue | WindowDue


class MultiPlanner:
    """Merges the windows of several planners over one pass.

    Each wanted frame is returned once and in order. Each window is returned right after its newest
    frame, or right after the window before it in the same sampling, whichever is later. A frame
    waits until every sampling has decided about it: at most as long as the longest window.
    """

    def __init__(self, samplings: Sequence[VideoSampling]) -> None:
        self._planners = [make_planner(sampling) for sampling in samplings]
        self._wanted_by: dict[int, set[int]] = {}
        """Frame number → positions of the samplings that want it."""
        self._newest_frame = [0] * len(samplings)
        """For each sampling, the highest frame number of its windows so far."""
        self._waiting: list[tuple[int, WindowDue]] = []
        """Windows not returned yet, each with the frame after which it is due."""
        self._returned_below = 0
        self._count = 0

    @property
    def first_undecided_frame(self) -> int:
        """Frames below this number were returned, or are in no window: they can be dropped."""
        undecided = (planner.first_undecided_frame for planner in self._planners)
        return min(undecided, default=self._count)

    @property
    def rows_lacking(self) -> tuple[int, ...]:
        """For each sampling, how many rows the video is too short for; known after `finish`."""
        return tuple(planner.rows_lacking for planner in self._planners)

    @property
    def needs_pictures(self) -> bool:
        """Whether `align` must be called before the first frame."""
        return any(needs_picture_times(planner) for planner in self._planners)

    def align(self, pictures: PictureTimes) -> list[tuple[int, SegmentAlignment]]:
        """Give the picture times to the samplings of segments.

        Returns the position of each such sampling, and how its segments were aligned.
        """
        return [
            (position, planner.align(pictures))
            for position, planner in enumerate(self._planners)
            if needs_picture_times(planner)
        ]

    def push(self, pts_seconds: float) -> list[Due]:
        """Add the next frame's time; returns what is due now. Raises BadTimestamps."""
        self._count += 1
        for position, planner in enumerate(self._planners):
            self._collect(position, planner.push(pts_seconds), planner.pending_frames)
        return self._release(self.first_undecided_frame)

    def finish(self, end_seconds: float) -> list[Due]:
        """End the last frame at `end_seconds`; returns the rest. Raises BadTimestamps."""
        for position, planner in enumerate(self._planners):
            self._collect(position, planner.finish(end_seconds), planner.pending_frames)
        return self._release(self._count)

    def _collect(
        self, position: int, windows: list[Window], pending_frames: frozenset[int]
    ) -> None:
        for index in pending_frames:
            self._want(index, position)
        for window in windows:
            newest = max(self._newest_frame[position], *window.frame_indices)
            self._newest_frame[position] = newest
            self._waiting.append((newest, WindowDue(position, window)))
            for index in window.frame_indices:
                # Frames below were returned already, for an earlier window or as pending frames.
                if index >= self._returned_below:
                    self._want(index, position)

    def _want(self, index: int, position: int) -> None:
        self._wanted_by.setdefault(index, set()).add(position)

    def _release(self, below: int) -> list[Due]:
        """Everything that is due with a frame below this number, in order."""
        self._returned_below = below
        ready: list[tuple[int, Due]] = []
        still_waiting: list[tuple[int, WindowDue]] = []
        # A window is due when all its frames are out, which all samplings must have decided about.
        for newest, window in self._waiting:
            if newest < below:
                ready.append((newest, window))
            else:
                still_waiting.append((newest, window))
        self._waiting = still_waiting
        for index in [index for index in self._wanted_by if index < below]:
            wanted_by = tuple(sorted(self._wanted_by.pop(index)))
            ready.append((index, FrameDue(index, wanted_by)))
        return [due for _, due in sorted(ready, key=_order)]


def _order(ready: tuple[int, Due]) -> tuple[int, int, float]:
    """By frame number: first the frame itself, then its windows by sampling and time."""
    newest, due = ready
    if isinstance(due, FrameDue):
        return (newest, -1, 0.0)
    return (newest, due.sampling, due.window.start_seconds)
