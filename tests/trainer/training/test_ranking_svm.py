"""Ranking SVMs against another solver of the same problem, and from models to weights and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from models.highlight.personalized.linear_rankers import HighlightSVM, HighlightSVMSettings
from tests.support.model_batches import WIDTH, batch
from trainer.training.ranking_svm import (
    NotConverged,
    RankingSVMSettings,
    fit,
    fusion_weight,
    pair_differences,
    set_linear_weights,
)


def noisy_pairs(count: int = 60, width: int = 5, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, width)).astype(np.float32) + np.array(
        [0.8, 0, 0, 0, -0.3], np.float32
    )


def primal(weights: NDArray[Any], pairs: NDArray[Any], price: float) -> float:
    """½‖w‖² + C Σ max(0, 1 - wᵀd)."""
    return float(0.5 * weights @ weights + price * np.maximum(0, 1 - pairs @ weights).sum())


def by_scipy(pairs: NDArray[np.float32], price: float) -> NDArray[Any]:
    """The dual, Σα - ½‖Σ α d‖² for α in [0, C], by L-BFGS-B."""
    exact = pairs.astype(np.float64)
    gram = exact @ exact.T
    found = minimize(
        lambda a: (0.5 * a @ gram @ a - a.sum(), gram @ a - 1),
        np.zeros(len(pairs)),
        jac=True,
        bounds=[(0, price)] * len(pairs),
        options={"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-10},
    )
    return np.asarray(found.x @ exact)


@pytest.mark.parametrize("price", [0.01, 1.0, 10.0])
def test_the_weights_are_those_of_another_solver(price: float) -> None:
    pairs = noisy_pairs()
    weights = fit(pairs, RankingSVMSettings(regularisation=price, tolerance=1e-7))
    expected = by_scipy(pairs, price)
    np.testing.assert_allclose(weights, expected, atol=2e-4)
    assert primal(weights, pairs, price) <= primal(expected, pairs, price) * (1 + 1e-5)


def test_one_pair_is_enough() -> None:
    # the shortest w with wᵀd >= 1 is d / ‖d‖²
    weights = fit(
        np.array([[3.0, 4.0]], np.float32), RankingSVMSettings(regularisation=100, tolerance=1e-9)
    )
    np.testing.assert_allclose(weights, [3 / 25, 4 / 25], rtol=1e-5)


def test_the_same_pairs_give_the_same_weights() -> None:
    assert fit(noisy_pairs()).tobytes() == fit(noisy_pairs()).tobytes()


def test_pairs_come_from_positions_and_padding_does_not_count() -> None:
    descriptors = torch.arange(24.0).reshape(2, 4, 3).square()
    pairs = torch.tensor([[[3, 0], [-1, -1]], [[1, 2], [0, 3]]])
    expected = [
        descriptors[0, 3] - descriptors[0, 0],
        descriptors[1, 1] - descriptors[1, 2],
        descriptors[1, 0] - descriptors[1, 3],
    ]
    np.testing.assert_array_equal(
        pair_differences(descriptors, pairs), torch.stack(expected).numpy()
    )


def test_a_fitted_ranker_ranks_what_it_was_fitted_on() -> None:
    given = batch("highlight_svm", lengths=(12, 9))
    model = HighlightSVM("c3d/pool5", WIDTH, HighlightSVMSettings())
    pairs = torch.tensor([[[0, 5], [1, 6], [2, 7]], [[0, 3], [8, 4], [-1, -1]]])
    weights = fit(
        pair_differences(model.descriptors(given), pairs), RankingSVMSettings(regularisation=1000.0)
    )
    set_linear_weights(model.linear, weights)
    scores = model(given).scores
    for user, positive, negative in ((0, 0, 5), (0, 1, 6), (0, 2, 7), (1, 0, 3), (1, 8, 4)):
        assert scores[user, positive] > scores[user, negative]
    with pytest.raises(ValueError, match="weights for one output"):
        set_linear_weights(nn.Linear(3, 1), weights)


def test_omega_is_the_ratio_of_both_weights() -> None:
    generator = np.random.default_rng(1)
    signal = generator.normal(0.5, 1, size=(500, 1))
    pairs = np.hstack([signal, signal * 0.1 + generator.normal(0, 0.05, size=(500, 1))]).astype(
        np.float32
    )
    weights = fit(pairs)
    assert fusion_weight(pairs) == weights[1] / weights[0]
    # a score counted in other units has the inverse weight, where C is large enough not to mind
    free = RankingSVMSettings(regularisation=1000.0, iterations=10_000_000)
    other_units = pairs * np.array([1, 2], np.float32)
    assert fusion_weight(other_units, free) == pytest.approx(
        fusion_weight(pairs, free) / 2, rel=0.02
    )
    with pytest.raises(ValueError, match="better than chance"):
        fusion_weight(pairs * np.array([-1, 1], np.float32))


def test_what_cannot_be_fitted_is_told() -> None:
    with pytest.raises(ValueError, match="got 0 pairs"):
        fit(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="finite"):
        fit(np.array([[np.nan, 1]], np.float32))
    with pytest.raises(NotConverged, match="in 1 iterations"):
        fit(noisy_pairs() * 100, RankingSVMSettings(iterations=1))
    with pytest.raises(ValueError, match="above 0"):
        RankingSVMSettings(regularisation=0)
