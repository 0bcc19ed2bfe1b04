"""Targets of a batch: labels and pairs of its positions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """The ground truth of a `models.highlight.base.contract.Batch`, with that module's letters.

    An objective is a function `(scores: Scores, batch: Batch, targets: Targets) -> Tensor` that
    returns a scalar.
    """

    labels: Tensor
    """`(B, T)` float32: the dataset's own value, such as 1 and 0 on PHD2 or 1, 0 and -1 on YouTube
    Highlights.
    """
    positive: Tensor
    """`(B, T)` bool: the highlights; false outside the mask."""
    pairs: Tensor
    """`(B, P, 2)` int64: positions of a highlight and of a non-highlight of the same video; -1, -1
    stands for a missing pair.
    """
