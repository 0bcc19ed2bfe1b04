"""A video cut into equal segments of true time, and what falls into each: frames of a grid, true
ones, scores of rows.

Time is looked at through a grid of f frames a second: frame i stands for the instant (i + 1/2) / f,
and a video of D seconds has the frames whose instants lie before D. Refuses to know users, datasets
and the frame rate of any file.
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
    """The segments of one video; the last one is shorter unless it comes out even."""

    duration_seconds: float
    segment_seconds: float
    frames_per_second: float

    def __post_init__(self) -> None:
        per_segment = self.segment_seconds * self.frames_per_second
        if not 0 < self.duration_seconds < math.inf:
            raise ValueError(
                f"a video lasts more than 0 seconds, and not forever; got {self.duration_seconds}"
            )
        if per_segment < 1 or per_segment != round(per_segment):
            raise ValueError(f"a segment holds a whole number of frames, got {per_segment}")

    @property
    def n_frames(self) -> int:
        """Frames of the grid inside the video; 0 for a video shorter than half a frame."""
        return math.ceil(self.duration_seconds * self.frames_per_second - 0.5)

    @cached_property
    def frames(self) -> Counts:
        """`(M,)`: how many frames each segment holds; a segment without any is no segment."""
        whole, rest = divmod(self.n_frames, round(self.segment_seconds * self.frames_per_second))
        full = np.full(whole, round(self.segment_seconds * self.frames_per_second), np.int64)
        return np.append(full, rest) if rest else full

    @cached_property
    def spans(self) -> Floats:
        """`(M, 2)` seconds, `[start, end)`."""
        starts = np.arange(len(self.frames)) * self.segment_seconds
        return np.stack(
            [starts, np.minimum(starts + self.segment_seconds, self.duration_seconds)], axis=1
        )

    def covered_frames(self, spans: Floats) -> Counts:
        """`(M,)`: how many frames of each segment lie in at least one of the `(G, 2)` spans, cut at
        the video's end.
        """
        marked = np.zeros(self.n_frames, np.bool_)
        first_and_end = np.ceil(spans * self.frames_per_second - 0.5)
        for first, end in np.clip(first_and_end, 0, self.n_frames).astype(np.int64):
            marked[first:end] = True
        starts = np.cumsum(self.frames) - self.frames
        return (
            np.add.reduceat(marked, starts, dtype=np.int64)
            if len(starts)
            else np.zeros(0, np.int64)
        )

    def mean_scores(self, spans: Floats, scores: Floats) -> Floats:
        """`(M,)`: each segment's mean over the `(T, 2)` rows that overlap it, weighted by how long
        they do.

        Rows of one score give exactly that score, so ties stay ties. A segment that no row touches
        takes the score of the row whose middle is nearest to its own, the earlier of two: the end
        of a video often has no row.
        """
        segments = self.spans
        if not len(segments):
            return np.zeros(0)
        rows, homes = _overlaps(spans, self.segment_seconds, len(segments))
        shared = np.minimum(spans[rows, 1], segments[homes, 1]) - np.maximum(
            spans[rows, 0], segments[homes, 0]
        )
        rows, homes, shared = rows[shared > 0], homes[shared > 0], shared[shared > 0]
        # A sum of differences to one of the segment's own scores is exactly 0 where all of them are
        # equal.
        means = np.zeros(len(segments))
        means[homes] = scores[rows]
        weight = np.bincount(homes, shared, len(segments))
        above = np.bincount(homes, shared * (scores[rows] - means[homes]), len(segments))
        means += above / np.where(weight > 0, weight, 1.0)
        if len(bare := np.flatnonzero(weight == 0)):
            means[bare] = scores[_nearest(spans, segments[bare])]
        return means


def _overlaps(spans: Floats, segment_seconds: float, n_segments: int) -> tuple[Counts, Counts]:
    """Every pair of a row and a segment that may overlap, as two `(P,)` arrays of numbers."""
    first = np.clip(np.floor(spans[:, 0] / segment_seconds), 0, n_segments - 1).astype(np.int64)
    last = np.clip(np.floor(spans[:, 1] / segment_seconds), 0, n_segments - 1).astype(np.int64)
    counts = last - first + 1
    rows = np.repeat(np.arange(len(spans), dtype=np.int64), counts)
    return rows, first[rows] + np.arange(len(rows), dtype=np.int64) - np.repeat(
        np.cumsum(counts) - counts, counts
    )


def _nearest(spans: Floats, segments: Floats) -> Counts:
    middles = spans.mean(axis=1)
    order = np.argsort(middles, kind="stable")
    wanted = segments.mean(axis=1)
    after = np.clip(np.searchsorted(middles[order], wanted), 1, max(1, len(order) - 1))
    before, after = order[after - 1], order[np.minimum(after, len(order) - 1)]
    is_before = np.abs(wanted - middles[before]) <= np.abs(wanted - middles[after])
    return np.asarray(np.where(is_before, before, after), np.int64)
