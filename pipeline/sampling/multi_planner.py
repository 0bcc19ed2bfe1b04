"""Several samplings over one pass of one video: each wanted frame goes out once, each window when
its frames are out.

Arithmetic on numbers. Refuses to know how a sampling chooses frames, and what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sampling.planner import VideoSampling, Window
from pipeline.sampling.planners import make_planner, needs_picture_times
from pipeline.sampling.segment_alignment import PictureTimes, SegmentAlignment


@dataclass(frozen=True)
class FrameDue:
    """Frame `index` goes out now, for the samplings at these positions. Comes once a frame, in
    rising order.
    """

    index: int
    wanted_by: tuple[int, ...]


@dataclass(frozen=True)
class WindowDue:
    """All frames of `window` went out before; `sampling` is a position in the list of samplings."""

    sampling: int
    window: Window


Due = FrameDue | WindowDue


class MultiPlanner:
    """Several samplings over one pass: each wanted frame once and in order, each window right after
    its newest frame, or right after the window before it in the same sampling, whichever is later.

    A frame waits until every sampling has decided about it: at most as long as the longest window.
    """

    def __init__(self, samplings: Sequence[VideoSampling]) -> None:
        self._planners = [make_planner(sampling) for sampling in samplings]
        self._wanted: dict[int, set[int]] = {}
        self._due_at = [0] * len(samplings)
        self._waiting: list[tuple[int, WindowDue]] = []
        self._sent_below = 0
        self._count = 0

    @property
    def first_undecided_frame(self) -> int:
        """Frames below this number are out already, or in no window: they can be dropped."""
        return min((one.first_undecided_frame for one in self._planners), default=self._count)

    @property
    def lacking(self) -> tuple[int, ...]:
        """For each sampling, how many rows the video is too short for; known once it is
        finished.
        """
        return tuple(one.lacking for one in self._planners)

    @property
    def needs_pictures(self) -> bool:
        """Whether some sampling must be told of the video's pictures before its first frame."""
        return any(needs_picture_times(one) for one in self._planners)

    def place(self, pictures: PictureTimes) -> list[tuple[int, SegmentAlignment]]:
        """Tell them; returns what became of the segments of each such sampling, by position."""
        return [
            (i, one.place(pictures))
            for i, one in enumerate(self._planners)
            if needs_picture_times(one)
        ]

    def push(self, pts_seconds: float) -> list[Due]:
        """Take the next frame's time; return what goes out now. Raises BadTimestamps."""
        self._count += 1
        for position, one in enumerate(self._planners):
            self._note(position, one.push(pts_seconds), one.picked)
        return self._release(self.first_undecided_frame)

    def finish(self, end_seconds: float) -> list[Due]:
        """Say that the last frame ends at `end_seconds`; return the rest. Raises BadTimestamps."""
        for position, one in enumerate(self._planners):
            self._note(position, one.finish(end_seconds), one.picked)
        return self._release(self._count)

    def _note(self, position: int, windows: list[Window], picked: frozenset[int]) -> None:
        for index in picked:
            self._wanted.setdefault(index, set()).add(position)
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
        ready += [
            (index, FrameDue(index, tuple(sorted(self._wanted.pop(index))))) for index in indices
        ]
        return [due for _, due in sorted(ready, key=_order)]


def _order(ready: tuple[int, Due]) -> tuple[int, int, float]:
    """By the frame it comes with: the frame itself, then windows by sampling and time."""
    at, due = ready
    if isinstance(due, FrameDue):
        return (at, -1, 0.0)
    return (at, due.sampling, due.window.start_seconds)
