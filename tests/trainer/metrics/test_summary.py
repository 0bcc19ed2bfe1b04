"""Summaries: the knapsack against every subset there is, and the F-score by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics.ground_truth import above_median, majority, top_half
from trainer.metrics.summary import hold_scores, key_shots, knapsack, shot_means, summary_f

items = st.lists(st.tuples(st.integers(-3, 8), st.integers(1, 6)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(items, st.integers(0, 20))
def test_the_knapsack_is_as_good_as_the_best_subset(
    pairs: list[tuple[int, int]], capacity: int
) -> None:
    values, weights = np.array(pairs, np.float64).T
    chosen = knapsack(values, weights, capacity)
    subsets = np.array(list(product([0, 1], repeat=len(pairs))))
    fitting = subsets[subsets @ weights <= capacity]
    assert weights[chosen].sum() <= capacity
    assert values[chosen].sum() == (fitting @ values).max()
    assert (values[chosen] > 0).all()


def test_of_equal_choices_the_earlier_items_are_taken() -> None:
    assert knapsack([1, 1, 1], [2, 2, 2], 4).tolist() == [True, True, False]


def test_a_score_holds_until_the_next_sample() -> None:
    assert hold_scores([5, 7], [1, 3], 6).tolist() == [0, 5, 5, 7, 7, 7]
    assert shot_means([0, 5, 5, 7, 7, 7], [0, 2, 6]).tolist() == [2.5, 6.5]
    with pytest.raises(ValueError, match="ascend inside 6 frames"):
        hold_scores([5, 7], [1, 6], 6)


def test_a_summary_takes_whole_shots_within_its_share() -> None:
    # 20 frames, 15 % are 3: the best shot has 4 frames and does not fit; the next two do.
    scores = np.repeat([9.0, 5.0, 4.0, 1.0], [4, 2, 1, 13])
    assert np.flatnonzero(key_shots(scores, [0, 4, 6, 7, 20])).tolist() == [4, 5, 6]


def test_the_f_score_by_hand() -> None:
    people = np.array([[1, 1, 0, 0], [0, 0, 0, 1]])
    assert summary_f([1, 0, 0, 0], people, "max") == pytest.approx(2 / 3)
    assert summary_f([1, 0, 0, 0], people, "mean") == pytest.approx(1 / 3)
    assert summary_f([1], people, "max") == pytest.approx(2 / 3)
    assert summary_f([0, 0, 0, 0], people, "max") == 0
    assert summary_f([1, 1, 0, 0, 1, 1, 1], people, "max") == 1


def test_rules_of_truth_by_hand() -> None:
    ratings = np.array([[5, 1, 5, 5], [1, 2, 3, 4]])
    assert top_half(ratings).tolist() == [[True, False, True, False], [False, False, True, True]]
    assert above_median(ratings).tolist() == [[False] * 4, [False, False, True, True]]
    assert majority([[1, 1, 0], [1, 0, 0], [0, 1, 0]]).tolist() == [[True, True, False]]
