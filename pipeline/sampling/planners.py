"""Frame times in, rows-to-be out: which frames make a row, and what span of seconds the row
describes.

Arithmetic on numbers. Refuses to know disks, decoders, pixels and networks. Frame i covers `[pts_i,
pts_{i+1})`, the last one `[pts, end)`; spans come from these times alone, never from a nominal
frame rate. To add a way of sampling: write a planner class below and add it to `PLANNERS`.
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
    YuvSampling: lambda asked: make_planner(asked.sampling),
}
"""Type of a sampling → what plans it."""


def needs_picture_times(one: Planner) -> TypeGuard[SegmentsPlanner]:
    """Whether a planner must be told of the video's pictures, with `place`, before the first
    frame.
    """
    return isinstance(one, SegmentsPlanner)


def make_planner(sampling: VideoSampling) -> Planner:
    """A fresh planner for one video. Raises TypeError for a sampling that `PLANNERS` does not
    list.
    """
    if type(sampling) not in PLANNERS:
        known = ", ".join(kind.__name__ for kind in PLANNERS)
        raise TypeError(f"no planner for {type(sampling).__name__}; there are planners for {known}")
    return PLANNERS[type(sampling)](sampling)


def plan_windows(
    pts_seconds: Iterable[float], end_seconds: float, sampling: Sampling
) -> list[Window]:
    """All windows of a video whose frames are shown at `pts_seconds` and whose last frame ends at
    `end_seconds`.
    """
    one = make_planner(sampling)
    windows = [window for pts in pts_seconds for window in one.push(pts)]
    return windows + one.finish(end_seconds)
