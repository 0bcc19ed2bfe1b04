"""The three losses of MHA+Fusion, each to be left out, and the sparsity loss in a form that can
teach.

Source: the MHA+Fusion paper (ACM Multimedia 2022), section 4.1, eq. 13 to 16. Reads `logits` by
name, of which the scores are the sigmoid. Refuses to know how they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets

Term = Literal["label", "margin", "sparsity"]
Sparsity = Literal["soft", "straight_through", "literal"]
Reduction = Literal["mean", "sum"]

THRESHOLD = 0.5
"""ζ: a frame is a highlight if its score is above."""


def mha_fusion(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    terms: Sequence[Term] = get_args(Term),
    sparsity: Sparsity = "soft",
    sparsity_reduction: Reduction = "mean",
    highlight_weight: float = 10.0,
    temperature: float = 0.1,
) -> Tensor:
    """Eq. 16: label and margin loss averaged over a video's frames, plus the sparsity loss; the
    mean over videos.

    `terms` names those of the three that take part (the paper's third ablation). `highlight_weight`
    is w of eq. 13; ours, as the paper gives no value, and about 1 frame in 50 of PHD2 is a
    highlight.

    The sparsity loss counts frames with a score above ζ, by a sign. A sign has no slope: `literal`
    is eq. 15 as printed, adds the count to the loss, and changes no weight. Ours: `soft` counts
    with sigmoid((s - ζ) / temperature); `straight_through` counts exactly, and learns as if it had
    counted softly. `sum` is eq. 16 as printed, where a count that can learn outweighs both other
    losses by the number of frames; ours is `mean`, per frame like them.

    Padded frames never take part; the paper's text pads with zeros and has no mask.
    """
    _check_names("terms", terms, Term)
    _check_names("sparsity", [sparsity], Sparsity)
    _check_names("sparsity_reduction", [sparsity_reduction], Reduction)
    if highlight_weight <= 0 or temperature <= 0:
        raise ValueError(
            f"highlight_weight and temperature are above 0, got {highlight_weight} and {temperature}"
        )
    logits, highlight = scores.parts["logits"].float(), targets.positive
    frames, loss = batch.mask.sum(1).clamp(min=1), torch.zeros_like(logits)
    if "label" in terms:
        loss = loss + torch.where(
            highlight, highlight_weight * F.softplus(-logits), F.softplus(logits)
        )
    beyond = logits.sigmoid() - THRESHOLD
    if "margin" in terms:
        loss = loss + F.relu(torch.where(highlight, -beyond, beyond))
    total = torch.where(batch.mask, loss, 0).sum(1) / frames
    if "sparsity" in terms:
        count = torch.where(batch.mask, _highlight_counts(beyond, sparsity, temperature), 0).sum(1)
        total = total + (count / frames if sparsity_reduction == "mean" else count)
    return total.mean()


def _highlight_counts(beyond: Tensor, sparsity: Sparsity, temperature: float) -> Tensor:
    """Eq. 15 before its sum, `(B, T)`."""
    exact = F.relu(torch.sign(beyond))
    if sparsity == "literal":
        return exact
    soft = torch.sigmoid(beyond / temperature)
    return soft if sparsity == "soft" else soft + (exact - soft).detach()


def _check_names(name: str, given: Sequence[str], allowed: object) -> None:
    if not given or set(given) - set(get_args(allowed)):
        raise ValueError(
            f"{name} is of {', '.join(get_args(allowed))}; got {', '.join(given) or 'none'}"
        )
