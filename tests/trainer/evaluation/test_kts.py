"""Kernel temporal segmentation: the published objective, minimised over every segmentation there
is.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation.kts import penalties, segment_scatters, shot_boundaries


def objective(rows: np.ndarray, changes: tuple[int, ...], penalty: float) -> float:
    """The paper's, term by term: distances to the mean of each segment, and the price of so many
    changes.
    """
    n, m = len(rows), len(changes)
    scatter = sum(((part - part.mean(axis=0)) ** 2).sum() for part in np.split(rows, changes))
    return float(scatter / n + (penalty * m / (2 * n) * (np.log(n / m) + 1) if m else 0))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([0.1, 1.0, 5.0]))
def test_no_segmentation_is_better(seed: int, n: int, penalty: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 2)).cumsum(axis=0)
    found = tuple(shot_boundaries(rows, penalty=penalty)[1:-1].tolist())
    best = min(
        objective(rows, changes, penalty)
        for count in range(n)
        for changes in combinations(range(1, n), count)
    )
    assert objective(rows, found, penalty) == pytest.approx(best, abs=1e-9)


def test_planted_scenes_are_found() -> None:
    dice = np.random.default_rng(0)
    scenes = np.repeat(10 * np.eye(4), [7, 13, 5, 20], axis=0)
    assert shot_boundaries(scenes + 0.1 * dice.normal(size=scenes.shape)).tolist() == [
        0,
        7,
        20,
        25,
        45,
    ]


def test_a_still_video_is_one_shot_and_a_limit_is_kept() -> None:
    assert shot_boundaries(np.ones((30, 3))).tolist() == [0, 30]
    assert shot_boundaries(np.ones((1, 3))).tolist() == [0, 1]
    assert len(shot_boundaries(100 * np.eye(9), max_changes=3)) == 3 + 2
    assert penalties(10, 2, 1.0) == pytest.approx(
        [0, 0.05 * (np.log(10) + 1), 0.1 * (np.log(5) + 1)]
    )


def test_scatters_are_sums_of_squares_around_the_mean() -> None:
    rows = np.random.default_rng(1).normal(size=(6, 3))
    scatters = segment_scatters(rows @ rows.T)
    for i in range(6):
        for j in range(6):
            part = rows[i : j + 1]
            expected = ((part - part.mean(axis=0)) ** 2).sum() if j >= i else 0.0
            assert scatters[i, j] == pytest.approx(expected, abs=1e-9)


def test_what_would_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="sample fewer frames"):
        shot_boundaries(np.zeros((5001, 1)))
