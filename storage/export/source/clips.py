"""Rows of equal clips: the mean of the stored rows that overlap each clip.

Clip i is `[i * clip_seconds, (i + 1) * clip_seconds)`, counted from the container's start. A video
of `d` seconds has `ceil(d / clip_seconds)` clips, at least one, as HERO and lighthouse count them:
with clips of 2 s, 149.9 s and 150.0 s give 75, and 150.1 s gives 76.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.base.records import Array

SHORTEST_OVERLAP_SECONDS = 1e-6
"""An overlap up to this is rounding of a time, and does not count."""
RULE = (
    "Clip i is [i * clip_seconds, (i + 1) * clip_seconds) from the container's start; a video of d "
    "seconds has ceil(d / clip_seconds) clips, at least 1. d is the end of the last decoded frame, "
    "or of the last row where that is not recorded. A clip is the mean, weighted by the seconds of "
    "overlap and computed in float64, of the rows that overlap it by more than 0.000001 s; one "
    "such row alone is copied bit for bit. A clip that no row overlaps is a copy of the nearest "
    "row, the earlier of two equally near ones; ids.csv counts these clips."
)
"""The rule in words, for provenance and card."""


@dataclass(frozen=True)
class ClipRows:
    """The rows that make each clip."""

    spans: NDArray[np.float64]
    """`(clips, 2)`: `[start, end)` of each clip in seconds."""
    rows: tuple[NDArray[np.int64], ...]
    """For each clip the numbers of the rows that overlap it, or of the nearest one."""
    weights: tuple[NDArray[np.float64], ...]
    """For each clip the seconds of overlap of these rows; 1 for a nearest one."""
    filled: int
    """How many clips no row overlaps."""


def clip_count(duration_seconds: float, clip_seconds: float) -> int:
    """How many clips a video has.

    Raises:
        ValueError: a number is not above 0 and finite.
    """
    if not 0 < duration_seconds < math.inf or not 0 < clip_seconds < math.inf:
        raise ValueError(
            f"durations are above 0 and finite, got {duration_seconds} and {clip_seconds}"
        )
    # Without rounding 150.00000000000003 s, a sum of frame durations, would have 76 clips.
    return max(1, math.ceil(round(duration_seconds / clip_seconds, 6)))


def clip_rows(spans: NDArray[np.float64], duration_seconds: float, clip_seconds: float) -> ClipRows:
    """Which of the rows with `spans` `(rows, 2)`, at least one, make each clip of a video."""
    count = clip_count(duration_seconds, clip_seconds)
    numbers = np.arange(count, dtype=np.float64)
    clips = np.stack([numbers * clip_seconds, (numbers + 1) * clip_seconds], axis=1)
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    ordered = spans[order]
    # Rows may overlap each other: all rows before `first` end by the clip's start.
    latest_ends = np.maximum.accumulate(ordered[:, 1])
    first = np.searchsorted(latest_ends, clips[:, 0], side="right")
    behind = np.searchsorted(ordered[:, 0], clips[:, 1], side="left")
    rows: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    filled = 0
    for clip, start, stop in zip(clips, first, behind, strict=True):
        near = ordered[start:stop]
        overlaps = np.minimum(near[:, 1], clip[1]) - np.maximum(near[:, 0], clip[0])
        kept = overlaps > SHORTEST_OVERLAP_SECONDS
        if kept.any():
            rows.append(order[start:stop][kept])
            weights.append(overlaps[kept])
            continue
        filled += 1
        rows.append(order[[_nearest(ordered, clip)]])
        weights.append(np.ones(1))
    return ClipRows(clips, tuple(rows), tuple(weights), filled)


def _nearest(spans: NDArray[np.float64], clip: NDArray[np.float64]) -> int:
    distances = np.maximum(np.maximum(spans[:, 0] - clip[1], clip[0] - spans[:, 1]), 0)
    return int(np.argmin(distances))


def clip_means(values: Array, clips: ClipRows) -> Array:
    """`(clips, dim)`: the weighted mean of the rows of each clip, in the type of `values`.

    `values` is `(rows, ...)`, floats; the rest of its shape is flattened in C order.
    """
    flat = values.reshape(len(values), -1)
    means = np.empty((len(clips.rows), flat.shape[1]), values.dtype)
    for number, (rows, weights) in enumerate(zip(clips.rows, clips.weights, strict=True)):
        if len(rows) == 1:
            means[number] = flat[rows[0]]
            continue
        weighted = flat[rows].astype(np.float64) * weights[:, None]
        # A plain sum in the order of the rows: the same on every processor, unlike a dot product.
        with np.errstate(invalid="ignore"):
            means[number] = np.add.reduce(weighted, axis=0) / np.add.reduce(weights)
    return means
