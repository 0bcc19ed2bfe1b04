"""What a model should have answered: labels and pairs for the positions of a batch.

Refuses to know networks and losses.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """The truth about a `models.highlight.base.contract.Batch`; its letters are those of that
    contract.

    An objective is a function `(scores: Scores, batch: Batch, targets: Targets) -> Tensor` with a
    scalar answer.
    """

    labels: Tensor
    """`(B, T)` float32: the dataset's own value, such as 1 and 0 on PHD2 or 1, 0 and -1 on YouTube
    Highlights.
    """
    positive: Tensor
    """`(B, T)` bool: what counts as a highlight; false outside the mask."""
    pairs: Tensor
    """`(B, P, 2)` int64: a highlight's position and that of a non-highlight of the same video; -1,
    -1 is no pair.
    """
