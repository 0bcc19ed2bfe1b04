"""Ranking SVMs: the weights of a linear ranker from differences of its descriptors.

Source: T. Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002: a highlight x⁺
should score above a non-highlight x⁻ of the same video, wᵀ(x⁺ - x⁻) ≥ 1 - ξ; minimise ½‖w‖² + C Σξ.
PHD-GIFs (ACM MM 2018) trains Highlight SVM, SVM-D, each user's Residual, and the weight ω of late
fusion this way; it names neither C nor the solver.

liblinear holds a matrix of 16 bytes per number besides the differences: 60,000 pairs of 8,192
numbers take 12 GB.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from models.validation import above, at_least
from storage.base.errors import HighlightsError


class RankingSVMError(HighlightsError, ValueError):
    """No ranking SVM can be fitted to these pairs."""


class NotConverged(RankingSVMError):
    """The solver ran out of iterations."""


@dataclass(frozen=True)
class RankingSVMSettings:
    """How to fit; all values are ours, as the papers name none."""

    regularisation: float = 1.0
    """C: the price of a pair within the margin. Larger fits the pairs more closely."""
    iterations: int = 100_000
    """Most passes of the solver."""
    tolerance: float = 1e-4
    """Tolerance at which the solver stops."""
    seed: int = 0
    """Seed of the order in which the solver visits pairs."""

    def __post_init__(self) -> None:
        above("regularisation", self.regularisation, 0)
        above("tolerance", self.tolerance, 0)
        at_least("iterations", self.iterations, 1)


def pair_differences(descriptors: Tensor, pairs: Tensor) -> NDArray[np.float32]:
    """`(B, T, F)` and `Targets.pairs` `(B, P, 2)` → `(N, F)`: x⁺ - x⁻ of the pairs that exist."""
    exists = pairs[..., 0] >= 0
    rows = torch.arange(len(pairs), device=pairs.device).unsqueeze(1).expand_as(exists)[exists]
    positive, negative = pairs[exists].unbind(dim=-1)
    differences = descriptors[rows, positive] - descriptors[rows, negative]
    return differences.detach().float().cpu().numpy()


def fit(
    differences: NDArray[np.float32], settings: RankingSVMSettings | None = None
) -> NDArray[np.float64]:
    """`(N, F)` differences → the weights `(F,)`; the same input and settings give the same weights.

    RankingSVMError without pairs or with numbers that are not finite; NotConverged if the solver
    needs more iterations.
    """
    settings = settings or RankingSVMSettings()
    if not len(differences) or not np.isfinite(differences).all():
        raise RankingSVMError(
            f"a ranking SVM needs one pair or more, all finite; got {len(differences)} pairs"
        )
    # x⁺ - x⁻ as positive and x⁻ - x⁺ as negative are the same constraint, but the solver needs
    # both classes: every second pair is turned around, and a single pair is given twice.
    pairs = differences if len(differences) > 1 else np.repeat(differences, 2, axis=0)
    signs = np.where(np.arange(len(pairs)) % 2, -1, 1)
    solver = LinearSVC(
        loss="hinge",
        C=settings.regularisation * len(differences) / len(pairs),
        fit_intercept=False,
        tol=settings.tolerance,
        max_iter=settings.iterations,
        random_state=settings.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            solver.fit(pairs * signs[:, None], signs)
        except ConvergenceWarning as warning:
            raise NotConverged(
                f"a ranking SVM of {len(differences)} pairs did not converge in "
                f"{settings.iterations} iterations: allow more, lower C (now "
                f"{settings.regularisation}), or bring the descriptors to one scale"
            ) from warning
    return np.asarray(solver.coef_[0], np.float64)


def set_linear_weights(linear: nn.Linear, weights: NDArray[np.float64]) -> None:
    """Set the weights of a linear ranker; the bias becomes 0, since no ranking depends on it."""
    if weights.shape != (linear.in_features,) or linear.out_features != 1:
        raise ValueError(
            f"{linear} needs {linear.in_features} weights for one output; got shape {weights.shape}"
        )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weights).unsqueeze(0))
        linear.bias.zero_()


def fusion_weight(
    differences: NDArray[np.float32], settings: RankingSVMSettings | None = None
) -> float:
    """ω of h + ω·h_SVM from `(N, 2)` differences of both scores on validation pairs.

    RankingSVMError if the fitted weight of the first score is not positive: no ω then gives the
    ranking of the fit.
    """
    first_weight, second_weight = fit(differences, settings)
    if not first_weight > 0:
        raise RankingSVMError(
            f"on these {len(differences)} validation pairs the first score has the weight "
            f"{first_weight:.3g}, the second {second_weight:.3g}; h + ω·h_SVM needs a first score "
            "that ranks better than chance: train it longer"
        )
    return float(second_weight / first_weight)
