"""How well scores rank what is a highlight: average precision in its published forms, nMSD, recall
of the best few.

An item is a frame, a clip or a shot, or a run of frames that share one score: `totals` says how
many frames an item stands for and `positives` how many of them are highlights. Frames with equal
scores are pooled wherever the authors' code pools them, so runs give exactly what their frames
would give, at a fraction of the cost.

Four average precisions are in use, and they do not compare: on PHD2 a random ranker gets 12.6, 11.5
and 12.5 % by the first three. Each function says whose it is. Refuses to know which one a paper's
table means.
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
    """Precision and recall when everything at or above a score is chosen, one entry per distinct
    score, best first.
    """

    precision: Floats
    """`(K,)` in [0, 1]."""
    recall: Floats
    """`(K,)` in [0, 1], never falling; the last is 1."""

    @property
    def gains(self) -> Floats:
        """`(K,)`: how much recall each distinct score adds."""
        return np.diff(self.recall, prepend=0.0)


def precision_recall_curve(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """The precision-recall curve of `(N,)` items; without `totals` an item is one frame and
    `positives` 0 or 1.

    Raises ValueError for scores that are NaN, counts that no item can have, and when nothing is
    positive.
    """
    values, hits, counts = _check_items(scores, positives, totals)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last_of_tie = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found = np.cumsum(hits[order])[last_of_tie]
    chosen = np.cumsum(counts[order])[last_of_tie]
    return PrecisionRecallCurve(found / chosen, found / found[-1])


def interpolated_ap(line: PrecisionRecallCurve) -> float:
    """Average precision as Video2GIF's code computes it (`get_ap`, interpolate=True), and PHD-GIFs
    and A-VHD with it.

    Precision is raised to the best at any higher recall, then averaged over the distinct scores
    that add recall, each weighing the same however much it adds.
    https://github.com/gyglim/video2gif_dataset/blob/master/v2g_evaluation
    """
    raised = np.maximum.accumulate(line.precision[::-1])[::-1]
    return float(raised[line.gains > 0].mean())


def uninterpolated_ap(line: PrecisionRecallCurve) -> float:
    """The same code with interpolate=False: precision averaged over the distinct scores that add
    recall.
    """
    return float(line.precision[line.gains > 0].mean())


def step_ap(line: PrecisionRecallCurve) -> float:
    """scikit-learn's `average_precision_score`: precision weighted by the recall it adds; equal
    scores are pooled.

    On clips this is mAP on YouTube Highlights as the set-learning code has it.
    """
    return float((line.gains * line.precision).sum())


def trapezoidal_ap(scores: ArrayLike, positives: ArrayLike) -> float:
    """Area under the curve through every single item, joined by straight lines from precision 1 at
    recall 0.

    MINI-Net's and UMT's mAP on YouTube Highlights. Equal scores keep the order of the items: both
    codes leave that to their sort. Raises ValueError when nothing is positive, where UMT counts 0
    and MINI-Net NaN.
    """
    values, hits, _ = _check_items(scores, positives, None)
    return float(_trapezoid(hits[np.argsort(-values, kind="stable")][np.newaxis])[0])


def top_k_ap(scores: ArrayLike, votes: ArrayLike, k: int = 5) -> Floats:
    """Trapezoidal average precision of the `k` best shots alone, `(A,)`, one for each annotator.

    `votes` is `(A, N)`, 0 or 1. Recall counts only the positives among those `k`, and an annotator
    without any gets 0: MINI-Net's `TVsumOrCoSumEvaluate_sample` and UMT's `TVSum.evaluate_run`, which
    then average over annotators. Equal scores keep the order of the shots.
    """
    marks = np.asarray(votes)
    if k < 1 or marks.ndim != 2:
        raise ValueError(
            f"k is at least 1 and votes are (annotators, shots); got k={k} and votes {marks.shape}"
        )
    values = _check_scores(scores, marks.shape[1])
    best = marks[:, np.argsort(-values, kind="stable")[:k]].astype(np.int64)
    return _trapezoid(best)


def _trapezoid(hits: NDArray[np.int64]) -> Floats:
    """`(A, K)` 0 or 1, best first → `(A,)`; 0 where a row has no 1."""
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, hits.shape[1] + 1)
    before = np.concatenate([np.ones((len(hits), 1)), precision[:, :-1]], axis=1)
    area: Floats = (hits * (before + precision) / 2).sum(axis=1)
    return area / np.maximum(found[:, -1], 1)


def nmsd(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None = None, *, recall: float = 0.5
) -> float:
    """Normalised meaningful summary duration: how much must be watched, from the best on, to see
    `recall` of the truth.

    With n true frames of T: the threshold is the `1 - recall` quantile (numpy's, linear) of the
    true frames' scores, D counts all frames at or above it, and the answer is (D - recall n) / (T -
    recall n). 0 is ideal, a random ranker gets about 0.5, one score for everything gets 1. Lower is
    better. The threshold may fall between two scores, so unlike the others this looks at more than
    their order. Video2GIF, `meaningful_summary_duration`.
    """
    values, hits, counts = _check_items(scores, positives, totals)
    if not 0 < recall < 1:
        raise ValueError(f"recall lies between 0 and 1, got {recall}")
    threshold = np.percentile(np.repeat(values, hits), 100 * (1 - recall))
    needed = recall * hits.sum()
    return float((counts[values >= threshold].sum() - needed) / (counts.sum() - needed))


def recall_at_k(scores: ArrayLike, positives: ArrayLike, k: int = 5) -> float:
    """Share of the true frames that lie in the `k` best items; of equal scores the earlier item
    comes first.

    PHD-GIFs' Recall@5, with 5-second segments as items. At most `k` items give 1 always.
    """
    hits = np.asarray(positives, np.int64)
    values = _check_scores(scores, len(hits))
    if k < 1 or hits.sum() == 0:
        raise ValueError(
            f"k is at least 1 and something is positive; got k={k} and {hits.sum()} positives"
        )
    return float(hits[np.argsort(-values, kind="stable")[:k]].sum() / hits.sum())


def _check_items(
    scores: ArrayLike, positives: ArrayLike, totals: ArrayLike | None
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    hits = _check_counts("positives", positives)
    values = _check_scores(scores, len(hits))
    counts = np.ones_like(hits) if totals is None else _check_counts("totals", totals)
    if (
        counts.shape != hits.shape
        or (hits < 0).any()
        or (hits > counts).any()
        or (counts < 1).any()
    ):
        raise ValueError("every item stands for at least one frame, of which 0 to all are positive")
    if hits.sum() == 0:
        raise ValueError("nothing is positive, so there is no recall; drop this video and say why")
    return values, hits, counts


def _check_counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    given: Array = np.asarray(values)
    counts = given.astype(np.int64)
    if given.ndim != 1 or (counts != given).any():
        raise ValueError(
            f"{name} are whole numbers of shape (items,), got {given.dtype} {given.shape}"
        )
    return counts


def _check_scores(scores: Any, expected: int) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.shape != (expected,) or np.isnan(values).any():
        raise ValueError(f"scores are {expected} numbers, none NaN; got shape {values.shape}")
    return values
