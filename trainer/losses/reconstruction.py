"""The loss of a model that is trained to reconstruct its input, without labels."""

from __future__ import annotations

from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets


def reconstruction(
    scores: Scores, batch: Batch, targets: Targets, *, sparsity: float = 0.01
) -> Tensor:
    """HighlightMe's loss: squared error of poses, and the mean score of frames with persons.

    Reads `parts`: `poses` and `reconstruction` `(B, T, P, J, 2)`, `present` `(B, T, P)`. The weight
    `sparsity` is ours: the source wants few high scores and gives no weight. A large one lowers all
    scores together, since the decoder can scale small codes up again: 0.1 left 0.05 ± 0.002 on
    random poses, 0.01 left 0.33 ± 0.02. A batch without persons has the loss 0.
    """
    is_present = scores.parts["present"]
    poses = scores.parts["poses"][is_present]
    reconstructed = scores.parts["reconstruction"][is_present]
    error = (reconstructed - poses).square().sum() / max(1, poses.numel())
    has_person = is_present.any(dim=-1)
    score_sum = scores.scores.masked_fill(~has_person, 0).sum()
    return error + sparsity * score_sum / has_person.sum().clamp(min=1)
