"""Ranking metrics: average precision in its published forms, nMSD and recall of the best k.

An item is a frame, a clip or a shot, or a run of frames with one score: `totals` is the number of
frames of an item and `positives` how many of them are highlights. Frames with equal scores are
pooled wherever the authors' code pools them, so runs give exactly the values of their frames, at a
fraction of the cost.

Four average precisions are in use, and their values cannot be compared: on PHD2 a random ranker
gets 12.6, 11.5 and 12.5 % by the first three. Each function names its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from storage.base.records import Array

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision and recall of the items at or above each distinct score, best score first."""

    precision: Floats
    """`(K,)` in [0, 1]."""
    recall: Floats
    """`(K,)` in [0, 1], never falling; the last is 1."""

    @property
    def gains(self) -> Floats:
        """`(K,)`: the recall that each distinct score adds."""
        return np.diff(self.recall, prepend=0.0)


def precision_recall_curve(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """The precision-recall curve of `(N,)` items.

    Without `totals` an item is one frame and `positives` is 0 or 1. Raises ValueError for NaN
    scores, for impossible counts, and if nothing is positive.
    """
    values, hits, counts = _check_items(scores, positives, totals)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    # Equal scores are pooled: only the last of them is a point of the curve.
    last_of_tie = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    true_positives = np.cumsum(hits[order])[last_of_tie]
    selected = np.cumsum(counts[order])[last_of_tie]
    return PrecisionRecallCurve(true_positives / selected, true_positives / true_positives[-1])


def interpolated_ap(curve: PrecisionRecallCurve) -> float:
    """Average precision of Video2GIF's code (`get_ap`, interpolate=True), PHD-GIFs and A-VHD.

    Precision is raised to the best at any higher recall, then averaged over the distinct scores
    that add recall. Each weighs the same, however much it adds.
    https://github.com/gyglim/video2gif_dataset/blob/master/v2g_evaluation
    """
    raised = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(raised[curve.gains > 0].mean())


def uninterpolated_ap(curve: PrecisionRecallCurve) -> float:
    """The same with interpolate=False: mean precision over the distinct scores that add recall."""
    return float(curve.precision[curve.gains > 0].mean())


def step_ap(curve: PrecisionRecallCurve) -> float:
    """scikit-learn's `average_precision_score`: precision weighted by the recall that it adds.

    Equal scores are pooled. On clips this is the mAP of the set-learning code on YouTube
    Highlights.
    """
    return float((curve.gains * curve.precision).sum())


def trapezoidal_ap(scores: ArrayLike, positives: ArrayLike) -> float:
    """Area under the curve through all items, with straight lines from precision 1 at recall 0.

    MINI-Net's and UMT's mAP on YouTube Highlights. Equal scores keep the order of the items, which
    both codes leave to their sort. Raises ValueError if nothing is positive, where UMT returns 0
    and MINI-Net NaN.
    """
    values, hits, _ = _check_items(scores, positives, None)
    return float(_trapezoid(hits[np.argsort(-values, kind="stable")][np.newaxis])[0])


def top_k_ap(scores: ArrayLike, votes: ArrayLike, k: int = 5) -> Floats:
    """`(A,)`: trapezoidal average precision of only the `k` best shots, for each annotator.

    `votes` is `(A, N)`, 0 or 1. Recall counts only the positives among those `k`, and an annotator
    without any gets 0, as in MINI-Net's `TVsumOrCoSumEvaluate_sample` and UMT's
    `TVSum.evaluate_run`, which then average over annotators. Equal scores keep the order of the
    shots.
    """
    truth = np.asarray(votes)
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    if truth.ndim != 2:
        raise ValueError(f"votes must have shape (annotators, shots); got {truth.shape}")
    values = _check_scores(scores, truth.shape[1])
    best = np.argsort(-values, kind="stable")[:k]
    return _trapezoid(truth[:, best].astype(np.int64))


def _trapezoid(hits: NDArray[np.int64]) -> Floats:
    """`(A, K)` 0 or 1, best first → `(A,)`; 0 where a row has no 1."""
    true_positives = np.cumsum(hits, axis=1)
    precision = true_positives / np.arange(1, hits.shape[1] + 1)
    precision_before = np.concatenate([np.ones((len(hits), 1)), precision[:, :-1]], axis=1)
    # Recall grows only at hits, each time by the same width.
    heights = hits * (precision_before + precision) / 2
    area: Floats = heights.sum(axis=1)
    return area / np.maximum(true_positives[:, -1], 1)


def nmsd(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None = None, *, recall: float = 0.5
) -> float:
    """Normalised meaningful summary duration: how much one must watch to see `recall` of the truth.

    Frames are watched from the best score on. With n true frames of T, the threshold is the
    `1 - recall` quantile (numpy's, linear) of the true frames' scores, D counts all frames at or
    above it, and the result is (D - recall n) / (T - recall n). 0 is ideal, a random ranker gets
    about 0.5, equal scores get 1. Lower is better. The threshold may lie between two scores, so
    unlike the other metrics this one depends on more than their order. Source: Video2GIF,
    `meaningful_summary_duration`.
    """
    values, hits, counts = _check_items(scores, positives, totals)
    if not 0 < recall < 1:
        raise ValueError(f"recall must be between 0 and 1; got {recall}")
    threshold = np.percentile(np.repeat(values, hits), 100 * (1 - recall))
    needed = recall * hits.sum()
    watched = counts[values >= threshold].sum()
    return float((watched - needed) / (counts.sum() - needed))


def recall_at_k(scores: ArrayLike, positives: ArrayLike, k: int = 5) -> float:
    """Share of the true frames in the `k` best items; of equal scores the earlier comes first.

    PHD-GIFs' Recall@5, with 5-second segments as items. It is always 1 for `k` items or fewer.
    """
    hits = np.asarray(positives, np.int64)
    values = _check_scores(scores, len(hits))
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    if hits.sum() == 0:
        raise ValueError("nothing is positive, so recall is undefined; drop this video")
    best = np.argsort(-values, kind="stable")[:k]
    return float(hits[best].sum() / hits.sum())


def _check_items(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    hits = _check_counts("positives", positives)
    values = _check_scores(scores, len(hits))
    counts = np.ones_like(hits) if totals is None else _check_counts("totals", totals)
    if counts.shape != hits.shape:
        raise ValueError(f"totals must have the shape of positives; got {counts.shape}")
    is_possible = (counts >= 1) & (hits >= 0) & (hits <= counts)
    if not is_possible.all():
        raise ValueError(
            "every item stands for at least one frame, of which 0 to all are positive; "
            f"got {int((~is_possible).sum())} items with other counts"
        )
    if hits.sum() == 0:
        raise ValueError("nothing is positive, so recall is undefined; drop this video")
    return values, hits, counts


def _check_counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    given: Array = np.asarray(values)
    counts = given.astype(np.int64)
    if given.ndim != 1 or (counts != given).any():
        raise ValueError(
            f"{name} must be whole numbers of shape (items,); got {given.dtype} {given.shape}"
        )
    return counts


def _check_scores(scores: Any, expected: int) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.shape != (expected,):
        raise ValueError(f"scores must have shape ({expected},); got {values.shape}")
    if np.isnan(values).any():
        raise ValueError(f"scores must not be NaN; got {int(np.isnan(values).sum())} that are")
    return values
