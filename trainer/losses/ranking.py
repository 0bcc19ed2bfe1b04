"""Ranking losses: a highlight should score above a non-highlight of the same video. Refuses to know
networks.

Letters: N pairs of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets


def hinge(
    scores: Scores, batch: Batch, targets: Targets, *, power: int = 1, margin: float = 1.0
) -> Tensor:
    """Mean of max(0, margin - h(s⁺) + h(s⁻))^power: power 1 is PHD-GIFs' l1 loss, and power 2
    l2.
    """
    if power not in (1, 2):
        raise ValueError(f"power is 1 or 2, got {power}")
    return (margin - score_differences(scores.scores, targets.pairs)).clamp(min=0).pow(power).mean()


def adaptive_huber(scores: Scores, batch: Batch, targets: Targets, *, delta: float = 1.5) -> Tensor:
    """Video2GIF (CVPR 2016) with u = 1 - h(s⁺) + h(s⁻): ½u² up to `delta`, then δu - ½δ²; 0 below
    0.

    The paper adapts δ to a GIF's popularity, 1.5 for unpopular ones; a dataset without popularity
    has one δ.
    """
    if not delta > 0:
        raise ValueError(f"delta is above 0, got {delta}")
    excess = (1 - score_differences(scores.scores, targets.pairs)).clamp(min=0)
    return torch.where(
        excess <= delta, 0.5 * excess.square(), delta * excess - 0.5 * delta**2
    ).mean()


def score_differences(scores: Tensor, pairs: Tensor) -> Tensor:
    """`(B, T)` scores and `(B, P, 2)` pairs → `(N,)`: h(s⁺) - h(s⁻) of the pairs that exist.

    ValueError if the batch has no pair: a step on nothing is a mistake in how batches are made.
    """
    exists = pairs[..., 0] >= 0
    if not exists.any():
        raise ValueError(
            "a ranking loss needs pairs, and no video of this batch has one: leave such videos out"
        )
    values = scores.gather(1, pairs.clamp(min=0).flatten(1)).view(pairs.shape)
    return (values[..., 0] - values[..., 1])[exists]
