"""Windows of frames, and the interface of the planners that choose them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from models.extractors.base.sampling import Sampling
from pipeline.sampling.segment_alignment import SegmentsOfVideo


class BadTimestamps(ValueError):
    """Frame times that do not increase, or are not finite: windows would have no time span."""


@dataclass(frozen=True)
class Window:
    """The frames of one feature row, and the half-open time span that it describes."""

    frame_indices: tuple[int, ...]
    """Numbers of decoded frames; the video's first frame is 0.

    Frames of a clip are consecutive, and falling if it is played backwards; from clip to clip the
    last number rises. Frames of a segment never fall, and from segment to segment the first number
    never falls.
    """
    start_seconds: float
    end_seconds: float
    segment: int | None = None
    """Number of the annotated segment that the window covers, if it covers one."""

    @property
    def oldest(self) -> int:
        """The lowest frame number that a later window of the same sampling may have."""
        # A reversed clip ends with its lowest frame, and the clip after it may start that low:
        # the first number alone would let its frames be dropped too early.
        return min(self.frame_indices[0], self.frame_indices[-1] - len(self.frame_indices) + 1)


@dataclass(frozen=True)
class YuvSampling:
    """A sampling whose frames may come as YUV planes, where RGB follows from them exactly."""

    sampling: Sampling | SegmentsOfVideo


VideoSampling = Sampling | SegmentsOfVideo | YuvSampling
"""Which frames of one video are wanted; of annotated segments, with those of the video."""


class Planner(Protocol):
    """Turns frame times into the windows of one sampling, each as soon as it is certain."""

    @property
    def first_undecided_frame(self) -> int:
        """Frames below this number are in a returned window, or in no window at all."""
        ...

    @property
    def pending_frames(self) -> frozenset[int]:
        """Frames that are certain to be in a window that was not returned yet."""
        ...

    @property
    def rows_lacking(self) -> int:
        """Number of rows that the video is too short for; known after `finish`."""
        ...

    def push(self, pts_seconds: float) -> list[Window]:
        """Add the next frame's time; returns the windows that became certain.

        Raises BadTimestamps.
        """
        ...

    def finish(self, end_seconds: float) -> list[Window]:
        """End the last frame at `end_seconds`; returns the other windows. Raises BadTimestamps."""
        ...


def check_next(previous_seconds: float | None, pts_seconds: float, index: int) -> None:
    """Raise BadTimestamps unless frame `index` has a finite time after the one before it."""
    if not math.isfinite(pts_seconds):
        raise BadTimestamps(
            f"frame {index} has the time {pts_seconds} s; it must be a finite number"
        )
    if previous_seconds is not None and pts_seconds <= previous_seconds:
        raise BadTimestamps(
            f"frame {index} has the time {pts_seconds} s; "
            f"it must be later than {previous_seconds} s, the frame before it"
        )


NO_FRAMES: frozenset[int] = frozenset()
"""For planners whose windows are returned with their last frame."""
