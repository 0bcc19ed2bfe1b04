"""The planner of annotated segments: frames spread over each."""

from __future__ import annotations

import math
from collections import deque
from operator import itemgetter

from pipeline.sampling.planner import NONE_PICKED, Window, check_next
from pipeline.sampling.segment_alignment import (
    SLACK_SECONDS,
    AlignedSegment,
    PictureTimes,
    SegmentAlignment,
    SegmentsOfVideo,
    align_segments,
)


class SegmentsPlanner:
    """A window for each segment of a video, in the table's order; `place` must come before the
    first frame.

    Frames are chosen by the instants at which the file's packets say they are shown. Where such a
    frame does not decode, the one that is on the screen then takes its place; a segment of which
    nothing decodes makes no row.
    """

    lacking = 0

    def __init__(self, asked: SegmentsOfVideo) -> None:
        self._asked = asked
        self._waiting: deque[tuple[AlignedSegment, list[int]]] = deque()
        self._targets: deque[tuple[float, list[int]]] = deque()
        self._count = 0
        self._first = 0.0
        self._newest: float | None = None
        self.picked: frozenset[int] = NONE_PICKED

    def place(self, pictures: PictureTimes) -> SegmentAlignment:
        """Say when the video's pictures are shown; returns the account of its segments."""
        alignment, places = align_segments(self._asked, pictures)
        self._waiting = deque((one, []) for one in places)
        targets = [
            (instant, frames) for one, frames in self._waiting for instant in one.instants_seconds
        ]
        self._targets = deque(
            sorted(targets, key=itemgetter(0))
        )  # stable: a segment's own stay in their order
        return alignment

    @property
    def first_undecided_frame(self) -> int:
        """As `Planner.first_undecided_frame`."""
        return max(0, self._count - 1)

    def push(self, pts_seconds: float) -> list[Window]:
        """As `Planner.push`."""
        check_next(self._newest, pts_seconds, self._count)
        if self._newest is None:
            self._first = pts_seconds
        else:
            self._take_until(pts_seconds)
        self._newest = pts_seconds
        self._count += 1
        return self._whole()

    def finish(self, end_seconds: float) -> list[Window]:
        """As `Planner.finish`."""
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
        self.picked = frozenset((self._count - 1,)) if picked else NONE_PICKED

    def _whole(self) -> list[Window]:
        """Windows whose frames are all known, up to the first in the table's order that has one
        missing.
        """
        windows = []
        while self._waiting and len(self._waiting[0][1]) == self._asked.length_frames:
            one, frames = self._waiting.popleft()
            if one.end_seconds > self._first + SLACK_SECONDS:
                windows.append(
                    Window(tuple(frames), one.start_seconds, one.end_seconds, one.segment)
                )
        return windows
