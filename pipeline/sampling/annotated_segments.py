"""The planner of annotated segments: one window a segment, with frames spread over it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from operator import itemgetter

from pipeline.sampling.planner import NO_FRAMES, Window, check_next
from pipeline.sampling.segment_alignment import (
    SLACK_SECONDS,
    AlignedSegment,
    PictureTimes,
    SegmentAlignment,
    SegmentsOfVideo,
    align_segments,
)


@dataclass
class _OpenSegment:
    """A segment whose window is not complete yet."""

    segment: AlignedSegment
    frames: list[int] = field(default_factory=list)
    """Frame numbers chosen so far, one for each instant that has passed, in the instants' order."""


class SegmentsPlanner:
    """A window for each segment of a video, in the table's order.

    `align` must be called before the first frame. Frames are chosen by the instants at which the
    file's packets show them. If such a frame does not decode, the frame on screen at that instant
    is taken instead. A segment of which nothing decodes makes no window.
    """

    rows_lacking = 0

    def __init__(self, sampling: SegmentsOfVideo) -> None:
        self._sampling = sampling
        self._open: deque[_OpenSegment] = deque()
        """Segments without their window, in the table's order."""
        self._instants: deque[tuple[float, _OpenSegment]] = deque()
        """Instants still to come, in rising order, each with the segment that wants its frame."""
        self._count = 0
        self._first_seconds = 0.0
        self._newest: float | None = None
        self.pending_frames: frozenset[int] = NO_FRAMES

    def align(self, pictures: PictureTimes) -> SegmentAlignment:
        """Find the segments in the video by its picture times; returns how they were aligned."""
        alignment, segments = align_segments(self._sampling, pictures)
        self._open = deque(_OpenSegment(segment) for segment in segments)
        instants = [
            (instant, waiting)
            for waiting in self._open
            for instant in waiting.segment.instants_seconds
        ]
        # The sort is stable: equal instants of one segment stay in the order of its frames.
        self._instants = deque(sorted(instants, key=itemgetter(0)))
        return alignment

    @property
    def first_undecided_frame(self) -> int:
        """As `Planner.first_undecided_frame`."""
        return max(0, self._count - 1)

    def push(self, pts_seconds: float) -> list[Window]:
        """As `Planner.push`."""
        check_next(self._newest, pts_seconds, self._count)
        if self._newest is None:
            self._first_seconds = pts_seconds
        else:
            self._assign_newest_frame(pts_seconds)
        self._newest = pts_seconds
        self._count += 1
        return self._complete_windows()

    def finish(self, end_seconds: float) -> list[Window]:
        """As `Planner.finish`."""
        check_next(self._newest, end_seconds, self._count)
        if self._newest is None:
            self._open.clear()
            return []
        self._assign_newest_frame(math.inf)
        # What starts behind the last decoded frame has no picture, although an instant may have
        # been assigned to that frame.
        last_start = end_seconds - SLACK_SECONDS
        self._open = deque(
            waiting for waiting in self._open if waiting.segment.start_seconds < last_start
        )
        return self._complete_windows()

    def _assign_newest_frame(self, until_seconds: float) -> None:
        """Choose the newest frame for all instants at which it is on screen."""
        is_chosen = False
        while self._instants and self._instants[0][0] + SLACK_SECONDS < until_seconds:
            _, waiting = self._instants.popleft()
            waiting.frames.append(self._count - 1)
            is_chosen = True
        self.pending_frames = frozenset((self._count - 1,)) if is_chosen else NO_FRAMES

    def _complete_windows(self) -> list[Window]:
        """Windows that have all their frames, up to the first in the table's order that lacks
        one.
        """
        windows = []
        while self._open and len(self._open[0].frames) == self._sampling.length_frames:
            waiting = self._open.popleft()
            segment = waiting.segment
            # A segment that ends before the first decoded frame has no picture.
            if segment.end_seconds > self._first_seconds + SLACK_SECONDS:
                frames = tuple(waiting.frames)
                windows.append(
                    Window(frames, segment.start_seconds, segment.end_seconds, segment.segment)
                )
        return windows
