"""Chooses the planner of a sampling: frame times in, windows with their time spans out.

Frame i covers `[pts_i, pts_{i+1})`, the last one `[pts, end)`. Spans come from these times, never
from a nominal frame rate. To add a sampling, write a planner class in a file of this folder and add
it to `PLANNERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from models.extractors.base.sampling import (
    ConsecutiveFrames,
    EveryFrame,
    FramesAtRate,
    FramesAtRateWithHistory,
    Sampling,
)
from pipeline.sampling.annotated_segments import SegmentsPlanner
from pipeline.sampling.consecutive_frames import ConsecutiveFramesPlanner
from pipeline.sampling.frames_with_history import HistoryPlanner
from pipeline.sampling.planner import Planner, VideoSampling, Window, YuvSampling
from pipeline.sampling.segment_alignment import SegmentsOfVideo
from pipeline.sampling.single_frames import EveryFramePlanner, FramesAtRatePlanner

PLANNERS: Mapping[type[Any], Callable[[Any], Planner]] = {
    ConsecutiveFrames: ConsecutiveFramesPlanner,
    FramesAtRate: FramesAtRatePlanner,
    FramesAtRateWithHistory: HistoryPlanner,
    EveryFrame: EveryFramePlanner,
    SegmentsOfVideo: SegmentsPlanner,
    YuvSampling: lambda wrapped: make_planner(wrapped.sampling),
}
"""Type of a sampling → its planner."""


def needs_picture_times(planner: Planner) -> TypeGuard[SegmentsPlanner]:
    """Whether `align` must give a planner the video's picture times before the first frame."""
    return isinstance(planner, SegmentsPlanner)


def make_planner(sampling: VideoSampling) -> Planner:
    """A new planner for one video. Raises TypeError for a sampling not listed in `PLANNERS`."""
    if type(sampling) not in PLANNERS:
        known = ", ".join(kind.__name__ for kind in PLANNERS)
        raise TypeError(f"no planner for {type(sampling).__name__}; there are planners for {known}")
    return PLANNERS[type(sampling)](sampling)


def plan_windows(
    pts_seconds: Iterable[float], end_seconds: float, sampling: Sampling
) -> list[Window]:
    """All windows of a video with the given frame times, whose last frame ends at `end_seconds`."""
    planner = make_planner(sampling)
    windows = [window for pts in pts_seconds for window in planner.push(pts)]
    return windows + planner.finish(end_seconds)
