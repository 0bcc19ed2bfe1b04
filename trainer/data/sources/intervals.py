"""Arithmetic on half-open intervals `[start, end)` in seconds, arrays `(n, 2)` of float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Intervals = NDArray[np.float64]
"""`(n, 2)`: start and end of each, in seconds."""

NO_INTERVALS: Intervals = np.zeros((0, 2))
_SLIVER = 1e-6
"""Seconds; a shorter interval comes from rounding and is dropped."""


def union(intervals: Intervals) -> Intervals:
    """The union as disjoint intervals, ascending; intervals that touch become one."""
    if not len(intervals):
        return NO_INTERVALS
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    latest_ends = np.maximum.accumulate(ordered[:, 1])
    # A group opens where an interval starts after all earlier ones have ended.
    opens_group = np.concatenate([[True], ordered[1:, 0] > latest_ends[:-1]])
    closes_group = np.concatenate([opens_group[1:], [True]])
    return np.stack([ordered[opens_group, 0], latest_ends[closes_group]], 1)


def clamp_to_video(intervals: Intervals, end_seconds: float) -> Intervals:
    """Each interval cut to `[0, end_seconds)`; intervals outside of it are dropped."""
    clamped = np.clip(intervals, 0.0, end_seconds)
    return np.asarray(clamped[clamped[:, 1] - clamped[:, 0] > _SLIVER])


def gaps(disjoint: Intervals, end_seconds: float) -> Intervals:
    """The gaps of `[0, end_seconds)` between intervals that are disjoint, ascending and inside."""
    starts = np.append(0.0, disjoint[:, 1])
    ends = np.append(disjoint[:, 0], end_seconds)
    between = np.stack([starts, ends], 1)
    return np.asarray(between[between[:, 1] - between[:, 0] > _SLIVER])


def chunks(start: float, end: float, seconds: float) -> Intervals:
    """`[start, end)` cut into pieces of `seconds`; the last may be shorter."""
    count = max(1, math.ceil((end - start) / seconds - _SLIVER))
    edges = np.append(start + seconds * np.arange(count), end)
    return np.stack([edges[:-1], edges[1:]], 1)


def split_longer(intervals: Intervals, than_seconds: float, into_seconds: float) -> Intervals:
    """Intervals, those longer than `than_seconds` cut into pieces of `into_seconds`."""
    if not len(intervals):
        return NO_INTERVALS
    parts = []
    for start, end in intervals:
        is_long = end - start > than_seconds + _SLIVER
        parts.append(chunks(start, end, into_seconds) if is_long else np.array([[start, end]]))
    return np.concatenate(parts)


def covered_seconds(spans: Intervals, disjoint: Intervals) -> NDArray[np.float64]:
    """`(n,)` seconds of each span that lie in the intervals, which are disjoint and ascending."""
    if not len(disjoint):
        return np.zeros(len(spans))
    edges = disjoint.reshape(-1)
    totals = np.cumsum(disjoint[:, 1] - disjoint[:, 0])
    # Seconds covered before each edge. They grow inside an interval and stay the same in a gap, so
    # that linear interpolation is exact.
    covered_before = np.stack([np.append(0.0, totals[:-1]), totals], 1).reshape(-1)
    before = np.interp(spans, edges, covered_before)
    return np.asarray(before[:, 1] - before[:, 0])
