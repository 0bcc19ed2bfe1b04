"""The F-score of a video summary: shot scores, the best shots that fit, and their overlap with
people's summaries.

SumMe takes the best of a video's users, TVSum their mean. Follows
KaiyangZhou/pytorch-vsumm-reinforce (`vsum_tools.py`, `knapsack.py`), the code that the field's
tables rest on. Refuses to know how shots are found; see `trainer.evaluation.kts`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.metrics.ranking import Floats

SUMMARY_SHARE = 0.15
"""Of a video's frames that a summary may take."""


def hold_scores(scores: ArrayLike, positions: ArrayLike, n_frames: int) -> Floats:
    """Scores of sampled frames → `(n_frames,)`: each holds until the next sampled frame; 0 before
    the first.

    `positions` are the frames' numbers, ascending, inside the video.
    """
    values, places = np.asarray(scores, np.float64), np.asarray(positions, np.int64)
    if (
        values.shape != places.shape
        or (np.diff(places) <= 0).any()
        or not (0 <= places[0] <= places[-1] < n_frames)
    ):
        raise ValueError(
            f"positions ascend inside {n_frames} frames, one per score; got {len(places)} of {len(values)}"
        )
    lengths = np.diff(places, append=n_frames)
    return np.concatenate([np.zeros(places[0]), np.repeat(values, lengths)])


def shot_means(frame_scores: ArrayLike, boundaries: ArrayLike) -> Floats:
    """`(S,)`: the mean frame score of each shot; shot i is frames `[boundaries[i], boundaries[i +
    1])`.
    """
    values, edges = np.asarray(frame_scores, np.float64), _check_boundaries(boundaries)
    if edges[-1] > len(values):
        raise ValueError(
            f"the last shot ends at frame {edges[-1]}, there are scores for {len(values)}"
        )
    return np.add.reduceat(values[: edges[-1]], edges[:-1]) / np.diff(edges)


def knapsack(values: ArrayLike, weights: ArrayLike, capacity: int) -> NDArray[np.bool_]:
    """`(S,)`: which items to take so that their values add up to the most within `capacity`; exact.

    Weights are whole numbers above 0. An item that adds nothing is left out, so negative values
    never get in; of equally good choices the one without the later items is taken. Time and memory
    grow as items × capacity.
    """
    worth, sizes = np.asarray(values, np.float64), np.asarray(weights, np.int64)
    if (
        worth.shape != sizes.shape
        or worth.ndim != 1
        or (sizes < 1).any()
        or np.isnan(worth).any()
        or capacity < 0
    ):
        raise ValueError(
            f"a value and a weight above 0 per item, a capacity from 0 on; got {worth}, {sizes}, {capacity}"
        )
    best = np.zeros(capacity + 1)
    taken = np.zeros((len(worth), capacity + 1), np.bool_)
    for item, (value, size) in enumerate(zip(worth, sizes, strict=True)):
        if size <= capacity:
            with_it = best[: capacity + 1 - size] + value
            taken[item, size:] = with_it > best[size:]
            best[size:] = np.maximum(with_it, best[size:])
    chosen, room = np.zeros(len(worth), np.bool_), capacity
    for item in range(len(worth) - 1, -1, -1):
        chosen[item] = taken[item, room]
        room -= int(sizes[item]) * bool(chosen[item])
    return chosen


def key_shots(
    frame_scores: ArrayLike, boundaries: ArrayLike, *, share: float = SUMMARY_SHARE
) -> NDArray[np.bool_]:
    """`(T,)`: the summary that takes whole shots, worth the most, within `floor(share * T)` frames
    of the T scored.
    """
    frames, edges = np.asarray(frame_scores, np.float64), _check_boundaries(boundaries)
    chosen = knapsack(shot_means(frames, edges), np.diff(edges), math.floor(len(frames) * share))
    summary = np.zeros(len(frames), np.bool_)
    summary[edges[0] : edges[-1]] = np.repeat(chosen, np.diff(edges))
    return summary


def summary_f(summary: ArrayLike, people: ArrayLike, over: Literal["max", "mean"]) -> float:
    """F-score of a `(T,)` summary against `(U, T')` summaries by people: the best of them (SumMe),
    or the mean (TVSum).

    Any value above 0 is "in". Frames beyond T' are cut, and missing ones count as left out, as the
    reference has it.
    """
    theirs = np.asarray(people) > 0
    if theirs.ndim != 2 or over not in ("max", "mean"):
        raise ValueError(
            f"people are (users, frames) and over is 'max' or 'mean'; got {theirs.shape}, {over!r}"
        )
    ours = np.zeros(theirs.shape[1], np.bool_)
    given = np.asarray(summary)[: len(ours)] > 0
    ours[: len(given)] = given
    f_scores = 2 * (theirs & ours).sum(axis=1) / np.maximum(theirs.sum(axis=1) + ours.sum(), 1)
    return float(f_scores.max() if over == "max" else f_scores.mean())


def _check_boundaries(boundaries: ArrayLike) -> NDArray[np.int64]:
    edges = np.asarray(boundaries, np.int64)
    if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or (np.diff(edges) < 1).any():
        raise ValueError(
            f"boundaries are at least two ascending frame numbers from 0 on, got {edges}"
        )
    return edges
