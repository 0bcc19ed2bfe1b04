"""Ranking losses: a highlight should score above a non-highlight of the same video.

Letters: N pairs of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.validation import above
from trainer.base.targets import Targets


def hinge(
    scores: Scores, batch: Batch, targets: Targets, *, power: int = 1, margin: float = 1.0
) -> Tensor:
    """Mean of max(0, margin - h(s⁺) + h(s⁻))^power; 1 is PHD-GIFs' l1 loss, 2 its l2 loss."""
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2; got {power}")
    missing = (margin - score_differences(scores.scores, targets.pairs)).clamp(min=0)
    return missing.pow(power).mean()


def adaptive_huber(scores: Scores, batch: Batch, targets: Targets, *, delta: float = 1.5) -> Tensor:
    """Video2GIF's loss (CVPR 2016) with u = 1 - h(s⁺) + h(s⁻): ½u² up to δ, then δu - ½δ².

    It is 0 for u below 0. The paper adapts δ to a GIF's popularity, 1.5 for unpopular ones; a
    dataset without popularity has one δ.
    """
    above("delta", delta, 0)
    u = (1 - score_differences(scores.scores, targets.pairs)).clamp(min=0)
    quadratic = 0.5 * u.square()
    linear = delta * u - 0.5 * delta**2
    return torch.where(u <= delta, quadratic, linear).mean()


def score_differences(scores: Tensor, pairs: Tensor) -> Tensor:
    """`(B, T)` scores and `(B, P, 2)` pairs → `(N,)`: h(s⁺) - h(s⁻) of the pairs that exist.

    ValueError if the batch has no pair: its videos should not have been in the epoch.
    """
    exists = pairs[..., 0] >= 0
    if not exists.any():
        raise ValueError(
            "a ranking loss needs pairs, and no video of this batch has one; "
            "set data.only_pairs = true to leave such videos out"
        )
    # Missing pairs (-1) read position 0 and are dropped at the end.
    values = scores.gather(1, pairs.clamp(min=0).flatten(1)).view(pairs.shape)
    return (values[..., 0] - values[..., 1])[exists]
