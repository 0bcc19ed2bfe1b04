"""The three losses of MHA+Fusion, with the sparsity loss also in a form with a gradient.

Source: the MHA+Fusion paper (ACM Multimedia 2022), section 4.1, eq. 13 to 16. Reads `logits` by
name; the scores are their sigmoid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.validation import above
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
    """Eq. 16: the label, margin and sparsity losses of a video; the mean over videos.

    Label and margin loss are averaged over a video's frames. `terms` selects from the three losses
    (the paper's third ablation). `highlight_weight` is w of eq. 13; the value is ours, since the
    paper gives none: about 1 frame in 50 of PHD2 is a highlight.

    The sparsity loss counts frames with a score above ζ, by a sign, whose gradient is 0. `literal`
    is eq. 15 as printed: it adds the count to the loss and changes no weight. Ours: `soft` counts
    with sigmoid((s - ζ) / temperature); `straight_through` counts exactly, with the gradient of
    `soft`. `sum` is eq. 16 as printed, where a count with a gradient outweighs both other losses by
    the number of frames; ours is `mean`, per frame as they are.

    Padded frames do not count; the paper's text pads with zeros and has no mask.
    """
    _check_names("terms", terms, Term)
    _check_names("sparsity", [sparsity], Sparsity)
    _check_names("sparsity_reduction", [sparsity_reduction], Reduction)
    above("highlight_weight", highlight_weight, 0)
    above("temperature", temperature, 0)
    logits, highlight = scores.parts["logits"].float(), targets.positive
    frames = batch.mask.sum(1).clamp(min=1)
    loss = torch.zeros_like(logits)
    if "label" in terms:
        # -log σ(x) = softplus(-x) and -log(1 - σ(x)) = softplus(x), without overflow.
        loss = loss + torch.where(
            highlight, highlight_weight * F.softplus(-logits), F.softplus(logits)
        )
    above_threshold = logits.sigmoid() - THRESHOLD
    if "margin" in terms:
        loss = loss + F.relu(torch.where(highlight, -above_threshold, above_threshold))
    total = torch.where(batch.mask, loss, 0).sum(1) / frames
    if "sparsity" in terms:
        counts = _highlight_counts(above_threshold, sparsity, temperature)
        total_count = torch.where(batch.mask, counts, 0).sum(1)
        total = total + (total_count / frames if sparsity_reduction == "mean" else total_count)
    return total.mean()


def _highlight_counts(above_threshold: Tensor, sparsity: Sparsity, temperature: float) -> Tensor:
    """Eq. 15 before its sum, `(B, T)`."""
    exact = F.relu(torch.sign(above_threshold))
    if sparsity == "literal":
        return exact
    soft = torch.sigmoid(above_threshold / temperature)
    if sparsity == "soft":
        return soft
    # Straight-through: the value of `exact`, the gradient of `soft`.
    return soft + (exact - soft).detach()


def _check_names(name: str, given: Sequence[str], allowed: object) -> None:
    names = get_args(allowed)
    is_subset = set(given) <= set(names)
    if not given or not is_subset:
        raise ValueError(f"{name} must be of {', '.join(names)}; got {', '.join(given) or 'none'}")
