"""Losses that classify each position as a highlight or a non-highlight.

Positions outside the mask do not count. The mean is over all positions of a batch, so long videos
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

    Its code uses weight 1, with 10 in a comment. As in torch, the weighted sum is divided by the
    sum of weights.
    """
    logits = scores.parts["logits"][batch.mask]
    weight = logits.new_tensor([1, positive_weight])  # non-highlight, highlight
    return functional.cross_entropy(logits, targets.positive[batch.mask].long(), weight=weight)


def binary_cross_entropy(
    scores: Scores, batch: Batch, targets: Targets, *, positive_weight: float = 1.0
) -> Tensor:
    """Binary cross entropy of unbounded scores, read as log-odds.

    Positives count `positive_weight` times. ValueError for a model with logits of its own, whose
    scores are probabilities: that is a case for `cross_entropy`.
    """
    if "logits" in scores.parts:
        raise ValueError(
            "binary_cross_entropy needs log-odds, but this model's scores are probabilities; "
            "use the objective cross_entropy"
        )
    values = scores.scores[batch.mask]
    wanted = targets.positive[batch.mask].to(values.dtype)
    weight = values.new_tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(values, wanted, pos_weight=weight)
