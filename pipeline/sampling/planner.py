"""What every planner gives: windows of frames, each with the span of seconds that it describes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from models.extractors.base.sampling import (
    Sampling,
)
from pipeline.sampling.segment_alignment import SegmentsOfVideo


class BadTimestamps(ValueError):
    """Frame times that do not increase, or are no numbers: rows would have no spans."""


@dataclass(frozen=True)
class Window:
    """One row to be: its frames, and the half-open span it describes."""

    frame_indices: tuple[int, ...]
    """Numbers of decoded frames, the first of the video being 0. Consecutive: rising, or falling in
    a window that is looked at backwards, and from window to window of a sampling the last number
    rises. Of a segment: never falling, and from segment to segment the first number never falls.
    """
    start_seconds: float
    end_seconds: float
    segment: int | None = None
    """Number of the annotated segment it is about, if it is about one."""

    @property
    def oldest(self) -> int:
        """No later window of its sampling has a frame below this number."""
        return min(self.frame_indices[0], self.frame_indices[-1] - len(self.frame_indices) + 1)


@dataclass(frozen=True)
class YuvSampling:
    """A sampling whose frames may come as the planes they were decoded to, where those say exactly
    what RGB is.
    """

    sampling: Sampling | SegmentsOfVideo


VideoSampling = Sampling | SegmentsOfVideo | YuvSampling
"""What is asked of one video: a sampling, with the video's own segments where it is about
segments.
"""


class Planner(Protocol):
    """Turns one stream of frame times into the windows of one sampling, each as soon as it is
    certain.
    """

    @property
    def first_undecided_frame(self) -> int:
        """Frames below this number that no returned window holds are in none: they can be
        dropped.
        """
        ...

    @property
    def picked(self) -> frozenset[int]:
        """Frames of windows not yet returned that are certain to be in one."""
        ...

    @property
    def lacking(self) -> int:
        """Rows that the sampling's instants ask for, and that the video is too short for; known
        once it is finished.
        """
        ...

    def push(self, pts_seconds: float) -> list[Window]:
        """Take the next frame's time; return the windows that became certain. Raises
        BadTimestamps.
        """
        ...

    def finish(self, end_seconds: float) -> list[Window]:
        """Say that the last frame ends at `end_seconds`; return the rest. Raises BadTimestamps."""
        ...


def check_next(previous_seconds: float | None, pts_seconds: float, index: int) -> None:
    """Raise BadTimestamps unless frame `index` has a finite time after the one before it."""
    if not math.isfinite(pts_seconds):
        raise BadTimestamps(
            f"frame {index} is shown at {pts_seconds} s; a time must be a finite number"
        )
    if previous_seconds is not None and pts_seconds <= previous_seconds:
        raise BadTimestamps(
            f"frame {index} is shown at {pts_seconds} s, not after {previous_seconds} s before it"
        )


NONE_PICKED: frozenset[int] = frozenset()
