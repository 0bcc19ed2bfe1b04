"""The F-score of a video summary: the best shots that fit, compared with users' summaries.

SumMe takes the best of a video's users, TVSum their mean. Follows
KaiyangZhou/pytorch-vsumm-reinforce (`vsum_tools.py`, `knapsack.py`), the code behind the field's
tables. Shots come from `trainer.evaluation.kts`.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.metrics.ranking import Floats

SUMMARY_SHARE = 0.15
"""The share of a video's frames that a summary may take."""


def hold_scores(scores: ArrayLike, positions: ArrayLike, n_frames: int) -> Floats:
    """Scores of sampled frames → `(n_frames,)`: each holds until the next sampled frame.

    Frames before the first sampled frame score 0. `positions` are the numbers of the sampled
    frames, ascending, inside the video.
    """
    values, numbers = np.asarray(scores, np.float64), np.asarray(positions, np.int64)
    has_same_shape = values.shape == numbers.shape
    ascends = bool((np.diff(numbers) > 0).all())
    if not (has_same_shape and ascends and numbers[0] >= 0 and numbers[-1] < n_frames):
        raise ValueError(
            f"positions must ascend inside {n_frames} frames, one for each score; "
            f"got {len(numbers)} positions for {len(values)} scores"
        )
    lengths = np.diff(numbers, append=n_frames)
    return np.concatenate([np.zeros(numbers[0]), np.repeat(values, lengths)])


def shot_means(frame_scores: ArrayLike, boundaries: ArrayLike) -> Floats:
    """`(S,)`: the mean frame score of each shot, frames `[boundaries[i], boundaries[i + 1])`."""
    values, edges = np.asarray(frame_scores, np.float64), _check_boundaries(boundaries)
    if edges[-1] > len(values):
        raise ValueError(
            f"the last shot ends at frame {edges[-1]}, but there are {len(values)} frame scores"
        )
    return np.add.reduceat(values[: edges[-1]], edges[:-1]) / np.diff(edges)


def knapsack(values: ArrayLike, weights: ArrayLike, capacity: int) -> NDArray[np.bool_]:
    """`(S,)` bool: the items with the largest sum of values within `capacity`; exact.

    Weights are whole numbers above 0. An item that adds nothing is not taken, so items with
    negative values never are; of equally good choices the one without the later items is taken.
    Time and memory grow as items × capacity.
    """
    item_values, sizes = np.asarray(values, np.float64), np.asarray(weights, np.int64)
    _check_knapsack(item_values, sizes, capacity)
    # `best[c]`: the largest sum of the items so far within the capacity c.
    best = np.zeros(capacity + 1)
    is_taken = np.zeros((len(item_values), capacity + 1), np.bool_)
    for item, (value, size) in enumerate(zip(item_values, sizes, strict=True)):
        if size <= capacity:
            with_item = best[: capacity + 1 - size] + value
            is_taken[item, size:] = with_item > best[size:]
            best[size:] = np.maximum(with_item, best[size:])
    # Walk back from the last item to find which items made up the best sum.
    chosen = np.zeros(len(item_values), np.bool_)
    remaining = capacity
    for item in reversed(range(len(item_values))):
        if is_taken[item, remaining]:
            chosen[item] = True
            remaining -= int(sizes[item])
    return chosen


def _check_knapsack(values: Floats, weights: NDArray[np.int64], capacity: int) -> None:
    if values.ndim != 1 or values.shape != weights.shape:
        raise ValueError(
            f"knapsack needs one weight for each value; got {weights.shape} for {values.shape}"
        )
    if (weights < 1).any():
        raise ValueError(f"weights must be at least 1; got {weights}")
    if np.isnan(values).any():
        raise ValueError(f"values must not be NaN; got {values}")
    if capacity < 0:
        raise ValueError(f"capacity must be at least 0; got {capacity}")


def key_shots(
    frame_scores: ArrayLike, boundaries: ArrayLike, *, share: float = SUMMARY_SHARE
) -> NDArray[np.bool_]:
    """`(T,)` bool: the summary of whole shots with the largest score within `share` of T frames."""
    frames, edges = np.asarray(frame_scores, np.float64), _check_boundaries(boundaries)
    chosen = knapsack(shot_means(frames, edges), np.diff(edges), math.floor(len(frames) * share))
    summary = np.zeros(len(frames), np.bool_)
    summary[edges[0] : edges[-1]] = np.repeat(chosen, np.diff(edges))
    return summary


def summary_f(summary: ArrayLike, people: ArrayLike, over: Literal["max", "mean"]) -> float:
    """F-score of a `(T,)` summary against users' `(U, T')`: the best (SumMe) or the mean (TVSum).

    Any value above 0 is in the summary. Frames beyond T' are cut, and missing frames are not in the
    summary, as in the reference.
    """
    user_summaries = np.asarray(people) > 0
    if user_summaries.ndim != 2:
        raise ValueError(f"people must have shape (users, frames); got {user_summaries.shape}")
    if over not in ("max", "mean"):
        raise ValueError(f"over must be 'max' or 'mean'; got {over!r}")
    predicted = np.zeros(user_summaries.shape[1], np.bool_)
    given = np.asarray(summary)[: len(predicted)] > 0
    predicted[: len(given)] = given
    shared = (user_summaries & predicted).sum(axis=1)
    sizes = user_summaries.sum(axis=1) + predicted.sum()
    f_scores = 2 * shared / np.maximum(sizes, 1)
    return float(f_scores.max() if over == "max" else f_scores.mean())


def _check_boundaries(boundaries: ArrayLike) -> NDArray[np.int64]:
    edges = np.asarray(boundaries, np.int64)
    if edges.ndim != 1 or len(edges) < 2:
        raise ValueError(f"boundaries must be two or more frame numbers; got {edges}")
    ascends = bool((np.diff(edges) >= 1).all())
    if edges[0] < 0 or not ascends:
        raise ValueError(f"boundaries must ascend from 0 on; got {edges}")
    return edges
