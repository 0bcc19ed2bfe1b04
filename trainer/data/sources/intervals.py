"""Arithmetic on half-open intervals `[start, end)` of seconds: arrays of shape `(n, 2)`, float64.

Refuses to know what an interval stands for.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Intervals = NDArray[np.float64]
"""`(n, 2)`: start and end of each, in seconds."""

NO_INTERVALS: Intervals = np.zeros((0, 2))
_SLIVER = 1e-6
"""Seconds; what is shorter comes from rounding and is nobody's interval."""


def union(intervals: Intervals) -> Intervals:
    """The same instants as disjoint intervals, ascending; those that touch become one."""
    if not len(intervals):
        return NO_INTERVALS
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    opens = np.concatenate([[True], ordered[1:, 0] > reach[:-1]])
    return np.stack([ordered[opens, 0], reach[np.concatenate([opens[1:], [True]])]], 1)


def clamp_to_video(intervals: Intervals, end_seconds: float) -> Intervals:
    """What of each interval lies in `[0, end_seconds)`; those that lie outside are left out."""
    cut = np.clip(intervals, 0.0, end_seconds)
    return np.asarray(cut[cut[:, 1] - cut[:, 0] > _SLIVER])


def gaps(disjoint: Intervals, end_seconds: float) -> Intervals:
    """What `[0, end_seconds)` has beside intervals that are disjoint, ascending and inside it."""
    between = np.stack([np.append(0.0, disjoint[:, 1]), np.append(disjoint[:, 0], end_seconds)], 1)
    return np.asarray(between[between[:, 1] - between[:, 0] > _SLIVER])


def chunks(start: float, end: float, seconds: float) -> Intervals:
    """`[start, end)` cut into pieces of `seconds`; the last may be shorter."""
    count = max(1, math.ceil((end - start) / seconds - _SLIVER))
    edges = np.append(start + seconds * np.arange(count), end)
    return np.stack([edges[:-1], edges[1:]], 1)


def split_longer(intervals: Intervals, than_seconds: float, into_seconds: float) -> Intervals:
    """Intervals longer than `than_seconds` cut into pieces of `into_seconds`; the others as they
    are.
    """
    if not len(intervals):
        return NO_INTERVALS
    pieces = [
        chunks(start, end, into_seconds)
        if end - start > than_seconds + _SLIVER
        else np.array([[start, end]])
        for start, end in intervals
    ]
    return np.concatenate(pieces)


def covered_seconds(spans: Intervals, disjoint: Intervals) -> NDArray[np.float64]:
    """`(n,)`: how much of each span lies inside the intervals, which are disjoint and ascending."""
    if not len(disjoint):
        return np.zeros(len(spans))
    edges = disjoint.reshape(-1)
    lengths = disjoint[:, 1] - disjoint[:, 0]
    covered_until = np.stack(
        [np.append(0.0, np.cumsum(lengths)[:-1]), np.cumsum(lengths)], 1
    ).reshape(-1)
    before = np.interp(spans, edges, covered_until)
    return np.asarray(before[:, 1] - before[:, 0])
