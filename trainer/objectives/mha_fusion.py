"""The three losses of MHA+Fusion, each to be left out, and the sparsity loss in a form that can teach.

Source: the MHA+Fusion paper (ACM Multimedia 2022), section 4.1, eq. 13 to 16. Reads `logits` by name, of which the
scores are the sigmoid. Refuses to know how they were made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.highlight.contract import Batch, Scores
from trainer.targets import Targets

Sparsity = Literal["soft", "straight_through", "literal", "none"]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class MHAFusionLoss:
    """Eq. 16: label and margin loss averaged over a video's frames, plus the sparsity loss; the mean over videos.

    The sparsity loss counts frames with a score above ζ, by a sign. A sign has no slope: `literal` is eq. 15 as
    printed, adds the count to the loss, and changes no weight. Ours: `soft` counts with
    sigmoid((s - ζ) / temperature); `straight_through` counts exactly, and learns as if it had counted softly.
    """

    has_label: bool = True
    """Whether eq. 13, the weighted cross entropy, takes part."""
    has_margin: bool = True
    """Whether eq. 14, the hinge on the other side of ζ, takes part."""
    sparsity: Sparsity = "soft"
    """Which form of eq. 15 takes part, or none."""
    highlight_weight: float = 10.0
    """w of eq. 13. Ours: the paper gives no value; about 1 frame in 50 of PHD2 is a highlight."""
    threshold: float = 0.5
    """ζ."""
    temperature: float = 0.1
    """Of the soft count, in units of the score. Ours."""
    sparsity_reduction: Reduction = "mean"
    """sum is eq. 16 as printed, where a count that can learn outweighs both other losses by the number of frames. Ours:
    mean, per frame like them."""
    masks_padding: bool = True
    """False is the paper's text, without a mask: padded frames are frames without a highlight."""

    def __post_init__(self) -> None:
        for name, allowed in (("sparsity", Sparsity), ("sparsity_reduction", Reduction)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} is one of {', '.join(get_args(allowed))}; got {getattr(self, name)!r}")
        if self.highlight_weight <= 0 or self.temperature <= 0:
            weights = f"{self.highlight_weight} and {self.temperature}"
            raise ValueError(f"highlight_weight and temperature are above 0, got {weights}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is between 0 and 1, got {self.threshold}")
        if not self.has_label and not self.has_margin and self.sparsity == "none":
            raise ValueError("at least one of the three losses has to take part")

    def __call__(self, scores: Scores, batch: Batch, targets: Targets) -> Tensor:
        """A scalar."""
        mask = batch.mask if self.masks_padding else torch.ones_like(batch.mask)
        logits, highlight = scores.parts["logits"].float(), targets.positive
        per_frame = torch.zeros_like(logits)
        if self.has_label:
            per_frame = per_frame + self._label(logits, highlight)
        if self.has_margin:
            per_frame = per_frame + self._margin(logits.sigmoid(), highlight)
        counts = self._counts(logits.sigmoid())
        frames = mask.sum(1).clamp(min=1)
        loss = torch.where(mask, per_frame, 0).sum(1) / frames
        count = torch.where(mask, counts, 0).sum(1)
        return (loss + (count / frames if self.sparsity_reduction == "mean" else count)).mean()

    def _label(self, logits: Tensor, highlight: Tensor) -> Tensor:
        """Eq. 13, `(B, T)`."""
        return torch.where(highlight, self.highlight_weight * F.softplus(-logits), F.softplus(logits))

    def _margin(self, scores: Tensor, highlight: Tensor) -> Tensor:
        """Eq. 14, `(B, T)`."""
        return F.relu(torch.where(highlight, self.threshold - scores, scores - self.threshold))

    def _counts(self, scores: Tensor) -> Tensor:
        """Eq. 15 before its sum, `(B, T)`."""
        if self.sparsity == "none":
            return torch.zeros_like(scores)
        exact = F.relu(torch.sign(scores - self.threshold))
        if self.sparsity == "literal":
            return exact
        soft = torch.sigmoid((scores - self.threshold) / self.temperature)
        return soft if self.sparsity == "soft" else soft + (exact - soft).detach()
