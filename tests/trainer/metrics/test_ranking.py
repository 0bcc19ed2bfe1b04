"""Ranking metrics: scikit-learn beside ours, what no metric may do, and small cases worked out by
hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from trainer.metrics.ranking import (
    interpolated_ap,
    nmsd,
    precision_recall_curve,
    recall_at_k,
    step_ap,
    top_k_ap,
    trapezoidal_ap,
    uninterpolated_ap,
)

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]
quick = settings(deadline=None, max_examples=40)
METRICS: dict[str, Callable[[Scores, Labels], float]] = {
    "interpolated": lambda scores, labels: interpolated_ap(precision_recall_curve(scores, labels)),
    "uninterpolated": lambda scores, labels: uninterpolated_ap(
        precision_recall_curve(scores, labels)
    ),
    "step": lambda scores, labels: step_ap(precision_recall_curve(scores, labels)),
    "trapezoidal": trapezoidal_ap,
    "nmsd": lambda scores, labels: nmsd(scores, labels, recall=0.5),
    "recall_at_5": recall_at_k,
    "top_5": lambda scores, labels: float(top_k_ap(scores, labels[None])[0]),
}


@st.composite
def ranked(draw: st.DrawFn, *, distinct: bool = False) -> tuple[Scores, Labels]:
    """Scores in eighths, so that every transform below is exact, and labels with at least one
    positive.
    """
    size = draw(st.integers(1, 40))
    eighths = draw(st.lists(st.integers(-40, 40), min_size=size, max_size=size, unique=distinct))
    labels = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    labels[draw(st.integers(0, size - 1))] = 1
    return np.array(eighths) / 8, labels


@quick
@given(ranked())
def test_step_ap_is_scikit_learns(example: tuple[Scores, Labels]) -> None:
    scores, labels = example
    assert step_ap(precision_recall_curve(scores, labels)) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )


@pytest.mark.parametrize("name", METRICS)
@quick
@given(example=ranked())
def test_every_metric_stays_in_bounds(name: str, example: tuple[Scores, Labels]) -> None:
    assert -1e-12 <= METRICS[name](*example) <= 1 + 1e-12


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"nmsd"}))
@quick
@given(example=ranked())
def test_only_the_order_of_scores_counts(name: str, example: tuple[Scores, Labels]) -> None:
    scores, labels = example
    assert METRICS[name](scores**3 * 7 - 2, labels) == METRICS[name](scores, labels)


@quick
@given(ranked())
def test_nmsd_stays_when_scores_are_stretched_or_moved(example: tuple[Scores, Labels]) -> None:
    scores, labels = example
    assert nmsd(scores * 4 - 2, labels) == nmsd(scores, labels)


def test_nmsd_looks_at_more_than_the_order_of_scores() -> None:
    # Of an even number of true frames the median lies between two scores; a false one between them
    # is in or out.
    assert nmsd([0.0, 1.0, 2.0], [1, 0, 1]) == 0.5
    assert nmsd([0.0, 0.9, 2.0], [1, 0, 1]) == 0.0


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"trapezoidal", "recall_at_5", "top_5"}))
@quick
@given(example=ranked())
def test_pooled_ties_make_the_order_of_items_irrelevant(
    name: str, example: tuple[Scores, Labels]
) -> None:
    scores, labels = example
    order = np.random.default_rng(len(scores)).permutation(len(scores))
    assert METRICS[name](scores[order], labels[order]) == pytest.approx(
        METRICS[name](scores, labels), abs=1e-12
    )


@quick
@given(st.integers(1, 30), st.integers(0, 30))
def test_a_perfect_ranking_is_perfect(positives: int, negatives: int) -> None:
    labels = np.array([1] * positives + [0] * negatives)
    scores = np.arange(len(labels), 0, -1.0)
    for name in set(METRICS) - {"nmsd", "recall_at_5"}:
        assert METRICS[name](scores, labels) == pytest.approx(1)
    assert METRICS["recall_at_5"](scores, labels) == min(1, 5 / positives)
    # Half of an odd number of frames cannot be watched: the frame in the middle counts whole.
    assert METRICS["nmsd"](scores, labels) == pytest.approx(
        (positives % 2 / 2) / (len(labels) - positives / 2)
    )


@quick
@given(ranked(distinct=True))
def test_the_worst_ranking_is_the_worst(example: tuple[Scores, Labels]) -> None:
    _, labels = example
    worst = np.where(labels == 1, 0.0, 1.0) + np.arange(len(labels), 0, -1) / 1000
    for name in set(METRICS) - {"nmsd"}:
        assert METRICS[name](worst, labels) <= METRICS[name](example[0], labels) + 1e-12
    assert METRICS["nmsd"](worst, labels) >= METRICS["nmsd"](example[0], labels) - 1e-12


@quick
@given(ranked(), st.lists(st.integers(1, 9), min_size=40, max_size=40))
def test_a_run_of_frames_is_its_frames(example: tuple[Scores, Labels], lengths: list[int]) -> None:
    scores, _ = example
    totals = np.array(lengths[: len(scores)])
    positives = totals // 2 + (np.arange(len(totals)) == 0)
    positives = np.minimum(positives, totals)
    frames = np.repeat(scores, totals)
    labels = np.concatenate(
        [[1] * hit + [0] * (total - hit) for hit, total in zip(positives, totals, strict=True)]
    )
    one, other = (
        precision_recall_curve(scores, positives, totals),
        precision_recall_curve(frames, labels),
    )
    for metric in (interpolated_ap, uninterpolated_ap, step_ap):
        assert metric(one) == pytest.approx(metric(other), abs=1e-12)
    assert nmsd(scores, positives, totals) == pytest.approx(nmsd(frames, labels), abs=1e-12)


def test_the_four_average_precisions_by_hand() -> None:
    # Best first: + - (+ -) -, where the brackets are one tie.
    scores, labels = np.array([5.0, 4, 3, 3, 1]), np.array([1, 0, 1, 0, 0])
    line = precision_recall_curve(scores, labels)
    assert line.precision.tolist() == [1, 1 / 2, 2 / 4, 2 / 5]
    assert line.recall.tolist() == [1 / 2, 1 / 2, 1, 1]
    assert interpolated_ap(line) == (1 + 1 / 2) / 2
    assert uninterpolated_ap(line) == (1 + 1 / 2) / 2
    assert step_ap(line) == 1 / 2 * 1 + 1 / 2 * 1 / 2
    # The tie is taken in the order of the items: precision 1, 1/2, 2/3.
    assert trapezoidal_ap(scores, labels) == pytest.approx(1 / 2 * 1 + 1 / 2 * (1 / 2 + 2 / 3) / 2)


def test_interpolation_takes_the_best_precision_at_higher_recall() -> None:
    line = precision_recall_curve([3.0, 2, 1], [0, 1, 1])
    assert uninterpolated_ap(line) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert interpolated_ap(line) == pytest.approx(2 / 3)


def test_recall_at_five_takes_the_earlier_of_equals() -> None:
    assert recall_at_k(np.zeros(7), [0, 0, 0, 0, 3, 1, 0]) == 3 / 4
    assert recall_at_k(np.zeros(5), [0, 0, 0, 0, 3]) == 1


def test_top_five_counts_recall_among_the_five() -> None:
    scores = np.arange(8, 0, -1.0)
    votes = np.array([[1, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1, 1]])
    # The one positive among the best five is the very first: nothing outside them is missed.
    assert top_k_ap(scores, votes).tolist() == [1, 0]


def test_one_score_for_everything_is_the_share_of_positives() -> None:
    scores, labels = np.zeros(10), np.array([1, 1] + [0] * 8)
    assert interpolated_ap(precision_recall_curve(scores, labels)) == 0.2
    assert nmsd(scores, labels) == 1


@pytest.mark.parametrize(
    ("scores", "positives", "totals", "told"),
    [
        ([1.0, 2.0], [0, 0], None, "nothing is positive"),
        ([1.0, np.nan], [0, 1], None, "must not be NaN"),
        ([1.0], [0, 1], None, r"shape \(2,\)"),
        ([1.0, 2.0], [2, 1], None, "0 to all"),
        ([1.0, 2.0], [0, 1], [0, 1], "at least one frame"),
        ([1.0, 2.0], [0.5, 1], None, "whole numbers"),
    ],
)
def test_what_has_no_answer_gets_none(
    scores: list[float], positives: list[float], totals: list[int] | None, told: str
) -> None:
    for metric in (precision_recall_curve, nmsd):
        with pytest.raises(ValueError, match=told):
            metric(scores, positives, totals)
