"""Losses that take each position as a highlight or none. Refuses to know networks.

Positions outside the mask never count; the mean is over all positions of a batch, so long videos
weigh more.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets


def cross_entropy(
    scores: Scores, batch: Batch, targets: Targets, *, positive_weight: float = 1.0
) -> Tensor:
    """Two-class cross entropy of `parts["logits"]` `(B, T, 2)`, as A-VHD trains.

    Its code uses weight 1, and holds 10 in a comment. As in torch, the weighted sum is divided by
    the sum of weights.
    """
    logits = scores.parts["logits"][batch.mask]
    weight = logits.new_tensor([1, positive_weight])
    return functional.cross_entropy(logits, targets.positive[batch.mask].long(), weight=weight)


def binary_cross_entropy(
    scores: Scores, batch: Batch, targets: Targets, *, positive_weight: float = 1.0
) -> Tensor:
    """Binary cross entropy of scores without bounds, read as log-odds; positives count
    `positive_weight` times.

    ValueError for a model whose scores are made from logits of its own: those belong to
    `cross_entropy`.
    """
    if "logits" in scores.parts:
        raise ValueError(
            "these scores are probabilities already; the objective for this model is cross_entropy"
        )
    values = scores.scores[batch.mask]
    wanted = targets.positive[batch.mask].to(values.dtype)
    weight = values.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(values, wanted, pos_weight=weight)
