"""The loss of a model that is trained to give its input back. Refuses to know networks and
labels.
"""

from __future__ import annotations

from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets


def reconstruction(
    scores: Scores, batch: Batch, targets: Targets, *, sparsity: float = 0.01
) -> Tensor:
    """Mean squared error of poses, plus `sparsity` times the mean score of frames with persons
    (HighlightMe).

    Reads `parts`: `poses` and `reconstruction` `(B, T, P, J, 2)`, `present` `(B, T, P)`. The weight
    is ours: the source asks that few frames score high, and does not say how much. With a large one
    all scores fall together, since the decoder can make small codes large again: 0.1 left 0.05 ±
    0.002 on random poses, 0.01 left 0.33 ± 0.02. A batch that shows nobody has the loss 0.
    """
    present = scores.parts["present"]
    poses, given_back = scores.parts["poses"][present], scores.parts["reconstruction"][present]
    error = (given_back - poses).square().sum() / max(1, poses.numel())
    seen = present.any(dim=-1)
    return error + sparsity * scores.scores.masked_fill(~seen, 0).sum() / seen.sum().clamp(min=1)
