"""The losses of PR-Net: the bi-directional contrastive loss in both readings, and the three of its
ablation.

Source: the PR-Net paper (ICCV 2021), section 3.3 and Table 2. They read `highlight` (l),
`non_highlight` (b) and, the triplet loss, the embeddings, all by the names of
`models/highlight/personalized/pr_net.py`. Refuses to know how these were made.

Ω are the frames with the positive label, ℧ the unlabelled frames with the highest b, K times as
many as Ω. Every loss is made per video and averaged over the videos that have a positive frame
(ours: the paper writes one video down); without any such video it is 0.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.highlight.personalized.pr_net import masked_log_softmax
from trainer.base.targets import Targets

Reading = Literal["log", "literal"]

NEGATIVES_PER_HIGHLIGHT = 5
"""K of section 3.3."""


def bidirectional_contrastive(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    reading: Reading = "log",
    negatives_per_highlight: int = NEGATIVES_PER_HIGHLIGHT,
) -> Tensor:
    """Eq. 8, `Σ_Ω log(l̃ + b̃) + Σ_℧ log(l̃ + b̃) - (Σ_Ω l̃ + Σ_℧ b̃)`, or what it must mean;
    summed over Ω and ℧.

    `literal` is the line above. It has no lower bound: with 256 frames the last bracket is next to
    nothing, and what remains pushes l̃ and b̃ of every chosen frame down, a highlight's own l̃ too.
    `log` puts a logarithm into the last bracket: `-Σ_Ω log(l̃ / (l̃ + b̃)) - Σ_℧ log(b̃ / (l̃ +
    b̃))`, which is 0 when every highlight is nearer to the preference and every frame of ℧ nearer
    to the non-highlight one.
    """
    if reading not in get_args(Reading):
        raise ValueError(f"reading is one of {', '.join(get_args(Reading))}; got {reading!r}")
    highlight = masked_log_softmax(scores.parts["highlight"], batch.mask)
    other = masked_log_softmax(scores.parts["non_highlight"], batch.mask)
    positive, negative = _contrasted_frames(scores, batch, targets, negatives_per_highlight)
    if reading == "log":
        of_positive, of_negative = F.softplus(other - highlight), F.softplus(highlight - other)
    else:
        both = torch.logaddexp(highlight, other)
        of_positive, of_negative = both - highlight.exp(), both - other.exp()
    return _mean_of_videos(
        _masked_sum(of_positive, positive) + _masked_sum(of_negative, negative), positive
    )


def pr_net_ranking(
    scores: Scores, batch: Batch, targets: Targets, *, margin: float = 1.0
) -> Tensor:
    """The ranking loss of the ablation: every highlight above every unlabelled frame of its video,
    by l alone.

    Ours: the hinge `max(0, margin - l⁺ + l⁻)`, its margin, and the mean over all pairs of a video.
    As in the paper the non-highlight preference takes no part, and learns nothing.
    """
    highlight = scores.parts["highlight"].float()
    positive, unlabelled = targets.positive, batch.mask & ~targets.positive
    hinge = F.relu(margin - highlight.unsqueeze(2) + highlight.unsqueeze(1))
    return _mean_of_videos(_mean_of_pairs(hinge, positive, unlabelled), positive)


def pr_net_cross_entropy(scores: Scores, batch: Batch, targets: Targets) -> Tensor:
    """The cross entropy of the ablation: two classes with the logits l and b, every unlabelled
    frame a non-highlight.

    Ours: the mean over all frames of a video, as A-VHD's code has it, without weights for the
    classes.
    """
    margin = scores.parts["highlight"].float() - scores.parts["non_highlight"].float()
    loss = F.softplus(torch.where(targets.positive, -margin, margin))
    return _mean_of_videos(
        _masked_sum(loss, batch.mask) / batch.mask.sum(1).clamp(min=1), targets.positive
    )


def pr_net_triplet(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    margin: float = 1.0,
    negatives_per_highlight: int = NEGATIVES_PER_HIGHLIGHT,
) -> Tensor:
    """The triplet loss of the ablation, with the anchors of eq. 8: preferences for highlights, u
    for ℧.

    Ours, as the paper only cites one: squared distances of unit vectors, D = 2 - 2 cos; for each
    highlight y and each x of ℧ `max(0, margin + D(p_y, s_y) - D(p_y, s_x))` and `max(0, margin +
    D(u, s_x) - D(u, s_y))`; the mean over the pairs of a video.
    """
    frames, preference, non_highlight = (
        F.normalize(scores.parts[name].float(), dim=-1)
        for name in ("frames", "preference", "non_highlight_preference")
    )
    positive, negative = _contrasted_frames(scores, batch, targets, negatives_per_highlight)
    to_preference = 2 - 2 * preference @ frames.transpose(1, 2)  # (B, anchor's frame, frame)
    own = to_preference.diagonal(dim1=1, dim2=2).unsqueeze(2)
    to_other = 2 - 2 * frames @ non_highlight  # (B, T)
    pulls = F.relu(margin + own - to_preference)
    pushes = F.relu(margin + to_other.unsqueeze(1) - to_other.unsqueeze(2))
    return _mean_of_videos(_mean_of_pairs(pulls + pushes, positive, negative), positive)


def _contrasted_frames(
    scores: Scores, batch: Batch, targets: Targets, per_highlight: int
) -> tuple[Tensor, Tensor]:
    """Ω and ℧, `(B, T)` bool each. ℧ is all unlabelled frames where there are not enough; of equal
    ones the first.
    """
    if per_highlight < 1:
        raise ValueError(f"negatives_per_highlight is at least 1, got {per_highlight}")
    unlabelled = batch.mask & ~targets.positive
    ordered = scores.parts["non_highlight"].detach().float().masked_fill(~unlabelled, -torch.inf)
    ranks = ordered.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return targets.positive, unlabelled & (
        ranks < per_highlight * targets.positive.sum(1, keepdim=True)
    )


def _masked_sum(values: Tensor, chosen: Tensor) -> Tensor:
    """`(B, T)` → `(B,)`."""
    return torch.where(chosen, values, 0).sum(1)


def _mean_of_pairs(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`(B, T, T)` → `(B,)`: the mean where both frames are chosen, 0 without any."""
    pairs = first.unsqueeze(2) & second.unsqueeze(1)
    return torch.where(pairs, values, 0).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def _mean_of_videos(values: Tensor, positive: Tensor) -> Tensor:
    """`(B,)` → a scalar: the mean over the videos that have a positive frame, 0 without any."""
    counted = positive.any(1)
    return torch.where(counted, values, 0).sum() / counted.sum().clamp(min=1)
