"""Cuts a video into equal segments of true time, and maps frames, labels and scores to them.

Time is sampled by a grid of f frames per second: frame i stands for the instant (i + 1/2) / f, and
a video of D seconds has the frames whose instants lie before D. The frame rate of the video file
does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.metrics.ranking import Floats

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class TimeGrid:
    """The segments of one video; the last one may be shorter."""

    duration_seconds: float
    segment_seconds: float
    frames_per_second: float

    def __post_init__(self) -> None:
        per_segment = self.segment_seconds * self.frames_per_second
        if not 0 < self.duration_seconds < math.inf:
            raise ValueError(
                f"a video's duration must be positive and finite, got {self.duration_seconds}"
            )
        if per_segment < 1 or per_segment != round(per_segment):
            raise ValueError(f"a segment must hold a whole number of frames, got {per_segment}")

    @property
    def n_frames(self) -> int:
        """Frames of the grid inside the video; 0 for a video shorter than half a frame."""
        return math.ceil(self.duration_seconds * self.frames_per_second - 0.5)

    @cached_property
    def frames(self) -> Counts:
        """`(M,)`: number of frames of each segment. Segments without a frame are left out."""
        per_segment = round(self.segment_seconds * self.frames_per_second)
        n_full, rest = divmod(self.n_frames, per_segment)
        counts = np.full(n_full, per_segment, np.int64)
        return np.append(counts, rest) if rest else counts

    @cached_property
    def spans(self) -> Floats:
        """`(M, 2)` seconds, `[start, end)`."""
        starts = np.arange(len(self.frames)) * self.segment_seconds
        ends = np.minimum(starts + self.segment_seconds, self.duration_seconds)
        return np.stack([starts, ends], axis=1)

    def covered_frames(self, spans: Floats) -> Counts:
        """`(M,)`: frames of each segment that lie in at least one of the `(G, 2)` spans."""
        is_covered = np.zeros(self.n_frames, np.bool_)
        # Frame i stands for the instant (i + 1/2) / f, so a span covers it from i + 1/2 on.
        first_and_end = np.ceil(spans * self.frames_per_second - 0.5)
        for first, end in np.clip(first_and_end, 0, self.n_frames).astype(np.int64):
            is_covered[first:end] = True
        starts = np.cumsum(self.frames) - self.frames
        if not len(starts):
            return np.zeros(0, np.int64)
        return np.add.reduceat(is_covered, starts, dtype=np.int64)

    def mean_scores(self, spans: Floats, scores: Floats) -> Floats:
        """`(M,)`: each segment's mean score over the `(T, 2)` rows that overlap it.

        Rows are weighted by the length of the overlap. Rows of one score give exactly that score,
        so ties stay ties. A segment that no row overlaps takes the score of the row whose middle is
        nearest, the earlier of two; the end of a video often has no row.
        """
        segments = self.spans
        if not len(segments):
            return np.zeros(0)
        rows, homes = _candidate_pairs(spans, self.segment_seconds, len(segments))
        starts = np.maximum(spans[rows, 0], segments[homes, 0])
        shared = np.minimum(spans[rows, 1], segments[homes, 1]) - starts
        is_overlap = shared > 0
        rows, homes, shared = rows[is_overlap], homes[is_overlap], shared[is_overlap]
        # The mean is one of the segment's own scores plus the weighted mean of the differences to
        # it: where all scores are equal, the sum of differences is exactly 0.
        means = np.zeros(len(segments))
        means[homes] = scores[rows]
        weight = np.bincount(homes, shared, len(segments))
        above = np.bincount(homes, shared * (scores[rows] - means[homes]), len(segments))
        means += above / np.where(weight > 0, weight, 1.0)
        without_row = np.flatnonzero(weight == 0)
        if len(without_row):
            means[without_row] = scores[_nearest_rows(spans, segments[without_row])]
        return means


def _candidate_pairs(
    spans: Floats, segment_seconds: float, n_segments: int
) -> tuple[Counts, Counts]:
    """Every pair of a row and a segment that may overlap, as two `(P,)` arrays of indices."""
    first = np.clip(np.floor(spans[:, 0] / segment_seconds), 0, n_segments - 1).astype(np.int64)
    last = np.clip(np.floor(spans[:, 1] / segment_seconds), 0, n_segments - 1).astype(np.int64)
    counts = last - first + 1
    rows = np.repeat(np.arange(len(spans), dtype=np.int64), counts)
    # The position of each pair among the pairs of its row: 0, 1, ... counts - 1.
    first_pairs = np.repeat(np.cumsum(counts) - counts, counts)
    return rows, first[rows] + np.arange(len(rows), dtype=np.int64) - first_pairs


def _nearest_rows(spans: Floats, segments: Floats) -> Counts:
    """`(n,)`: for each segment the row whose middle is nearest, the earlier of two."""
    middles = spans.mean(axis=1)
    order = np.argsort(middles, kind="stable")
    wanted = segments.mean(axis=1)
    after = np.clip(np.searchsorted(middles[order], wanted), 1, max(1, len(order) - 1))
    before, after = order[after - 1], order[np.minimum(after, len(order) - 1)]
    is_before = np.abs(wanted - middles[before]) <= np.abs(wanted - middles[after])
    return np.asarray(np.where(is_before, before, after), np.int64)
