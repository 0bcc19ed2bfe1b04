"""Ranking SVMs: the weights of a linear ranker from differences of its descriptors.

Source: T. Joachims, "Optimizing Search Engines using Clickthrough Data", KDD 2002: a highlight x⁺
should score above a non-highlight x⁻ of the same video, wᵀ(x⁺ - x⁻) ≥ 1 - ξ; minimise ½‖w‖² + C Σξ.
PHD-GIFs (ACM MM 2018) trains Highlight SVM, SVM-D, each user's Residual, and the weight ω of late
fusion this way, and tells neither C nor the solver. Refuses to know models: whoever calls it knows
what the numbers mean.

liblinear holds a matrix of 16 bytes a number besides the differences: 60,000 pairs of 8,192 numbers
take 12 GB.
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

from storage.base.errors import HighlightsError


class RankingSVMError(HighlightsError, ValueError):
    """These pairs have no answer."""


class NotConverged(RankingSVMError):
    """The solver ran out of iterations."""


@dataclass(frozen=True)
class RankingSVMSettings:
    """How to fit; all values are ours, since the papers name none."""

    regularisation: float = 1.0
    """C: the price of a pair within the margin. Larger fits the pairs more closely."""
    iterations: int = 100_000
    """At most so many passes of the solver."""
    tolerance: float = 1e-4
    """When the solver stops."""
    seed: int = 0
    """Of the order in which the solver visits pairs."""

    def __post_init__(self) -> None:
        if not self.regularisation > 0 or not self.tolerance > 0 or self.iterations < 1:
            raise ValueError(
                f"regularisation and tolerance are above 0, iterations at least 1; got {self}"
            )


def pair_differences(descriptors: Tensor, pairs: Tensor) -> NDArray[np.float32]:
    """`(B, T, F)` and `Targets.pairs` `(B, P, 2)` → `(N, F)`: x⁺ - x⁻ of the pairs that exist."""
    exists = pairs[..., 0] >= 0
    users = torch.arange(len(pairs), device=pairs.device).unsqueeze(1).expand_as(exists)[exists]
    positive, negative = pairs[exists].unbind(dim=-1)
    found = descriptors[users, positive] - descriptors[users, negative]
    return found.detach().float().cpu().numpy()


def fit(
    differences: NDArray[np.float32], settings: RankingSVMSettings | None = None
) -> NDArray[np.float64]:
    """`(N, F)` differences → the weights `(F,)`; the same input and settings give the same weights.

    Unfit without pairs or with numbers that are not finite; NotConverged if iterations do not
    suffice.
    """
    settings = settings or RankingSVMSettings()
    if not len(differences) or not np.isfinite(differences).all():
        raise RankingSVMError(
            f"a ranking SVM needs one pair or more, all finite; got {len(differences)} pairs"
        )
    # x⁺ - x⁻ as positive and x⁻ - x⁺ as negative are the same constraint; the solver wants to see
    # both classes.
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
                f"a ranking SVM of {len(differences)} pairs did not converge in {settings.iterations} iterations: "
                f"allow more, lower C (now {settings.regularisation}), or bring the descriptors to one scale"
            ) from warning
    return np.asarray(solver.coef_[0], np.float64)


def set_linear_weights(linear: nn.Linear, weights: NDArray[np.float64]) -> None:
    """Gives a linear ranker its weights; the bias becomes 0, since no ranking depends on it."""
    if weights.shape != (linear.in_features,) or linear.out_features != 1:
        raise ValueError(
            f"{linear} takes {linear.in_features} weights for one answer; got the shape {weights.shape}"
        )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weights).unsqueeze(0))
        linear.bias.zero_()


def fusion_weight(
    differences: NDArray[np.float32], settings: RankingSVMSettings | None = None
) -> float:
    """ω of h + ω·h_SVM from `(N, 2)` differences of both scores on validation pairs.

    Unfit if the fit turns the first score around: no ω then ranks as the fit does.
    """
    of_first, of_second = fit(differences, settings)
    if not of_first > 0:
        raise RankingSVMError(
            f"on these {len(differences)} validation pairs the first score is worth {of_first:.3g}, the second "
            f"{of_second:.3g}; h + ω·h_SVM needs a first score that ranks better than chance: train it longer"
        )
    return float(of_second / of_first)
