"""The losses of PR-Net: the bi-directional contrastive loss, and the three of its ablation.

Source: the PR-Net paper (ICCV 2021), section 3.3 and Table 2. The losses read `highlight` (l),
`non_highlight` (b) and, for the triplet loss, the embeddings of the model
`models/highlight/personalized/pr_net.py`.

Ω are the frames with a positive label, ℧ the unlabelled frames with the highest b, K times as many
as Ω. Every loss is computed per video and averaged over the videos that have a positive frame
(ours: the paper defines it for one video); without any such video it is 0.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.highlight.personalized.pr_net import masked_log_softmax
from models.validation import at_least, one_of
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
    """Eq. 8 in two readings, summed over Ω and ℧.

    `literal` is `Σ_Ω log(l̃ + b̃) + Σ_℧ log(l̃ + b̃) - (Σ_Ω l̃ + Σ_℧ b̃)`, as printed. It has no
    lower bound: with 256 frames the last bracket is almost 0, and the rest pushes l̃ and b̃ of
    every chosen frame down, the l̃ of a highlight too. `log` adds a logarithm to the last bracket:
    `-Σ_Ω log(l̃ / (l̃ + b̃)) - Σ_℧ log(b̃ / (l̃ + b̃))`. This is 0 if every highlight is nearer to
    the preference, and every frame of ℧ nearer to the non-highlight preference.
    """
    one_of("reading", reading, get_args(Reading))
    log_l = masked_log_softmax(scores.parts["highlight"], batch.mask)
    log_b = masked_log_softmax(scores.parts["non_highlight"], batch.mask)
    positive, negative = _contrasted_frames(scores, batch, targets, negatives_per_highlight)
    if reading == "log":
        # -log(l̃ / (l̃ + b̃)) = softplus(log b̃ - log l̃), without a division.
        positive_loss, negative_loss = F.softplus(log_b - log_l), F.softplus(log_l - log_b)
    else:
        log_sum = torch.logaddexp(log_l, log_b)
        positive_loss, negative_loss = log_sum - log_l.exp(), log_sum - log_b.exp()
    total = _masked_sum(positive_loss, positive) + _masked_sum(negative_loss, negative)
    return _mean_of_videos(total, positive)


def pr_net_ranking(
    scores: Scores, batch: Batch, targets: Targets, *, margin: float = 1.0
) -> Tensor:
    """The ranking loss of the ablation: highlights above the unlabelled frames, by l only.

    Ours: the hinge `max(0, margin - l⁺ + l⁻)`, its margin, and the mean over all pairs of a video.
    As in the paper, the non-highlight preference is not used and gets no gradient.
    """
    highlight = scores.parts["highlight"].float()
    positive, unlabelled = targets.positive, batch.mask & ~targets.positive
    hinge = F.relu(margin - highlight.unsqueeze(2) + highlight.unsqueeze(1))
    return _mean_of_videos(_mean_of_pairs(hinge, positive, unlabelled), positive)


def pr_net_cross_entropy(scores: Scores, batch: Batch, targets: Targets) -> Tensor:
    """The cross entropy of the ablation: two classes with the logits l and b.

    Every unlabelled frame is a non-highlight. Ours: the mean over all frames of a video, as in
    A-VHD's code, without class weights.
    """
    margin = scores.parts["highlight"].float() - scores.parts["non_highlight"].float()
    # With two classes, cross entropy is softplus of the difference of their logits.
    loss = F.softplus(torch.where(targets.positive, -margin, margin))
    frames = batch.mask.sum(1).clamp(min=1)
    return _mean_of_videos(_masked_sum(loss, batch.mask) / frames, targets.positive)


def pr_net_triplet(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    margin: float = 1.0,
    negatives_per_highlight: int = NEGATIVES_PER_HIGHLIGHT,
) -> Tensor:
    """The triplet loss of the ablation, with the anchors of eq. 8: preferences for Ω, u for ℧.

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
    to_own_preference = to_preference.diagonal(dim1=1, dim2=2).unsqueeze(2)
    to_non_highlight = 2 - 2 * frames @ non_highlight  # (B, T)
    first = F.relu(margin + to_own_preference - to_preference)
    second = F.relu(margin + to_non_highlight.unsqueeze(1) - to_non_highlight.unsqueeze(2))
    return _mean_of_videos(_mean_of_pairs(first + second, positive, negative), positive)


def _contrasted_frames(
    scores: Scores, batch: Batch, targets: Targets, per_highlight: int
) -> tuple[Tensor, Tensor]:
    """Ω and ℧, `(B, T)` bool each.

    ℧ is all unlabelled frames if there are not enough; of frames with equal b the first count.
    """
    at_least("negatives_per_highlight", per_highlight, 1)
    unlabelled = batch.mask & ~targets.positive
    b = scores.parts["non_highlight"].detach().float().masked_fill(~unlabelled, -torch.inf)
    # The argsort of an argsort is the rank of each frame.
    ranks = b.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    negative_count = per_highlight * targets.positive.sum(1, keepdim=True)
    return targets.positive, unlabelled & (ranks < negative_count)


def _masked_sum(values: Tensor, chosen: Tensor) -> Tensor:
    """`(B, T)` → `(B,)`: the sum over the chosen frames."""
    return torch.where(chosen, values, 0).sum(1)


def _mean_of_pairs(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`(B, T, T)` → `(B,)`: the mean where both frames are chosen, 0 without any."""
    pairs = first.unsqueeze(2) & second.unsqueeze(1)
    return torch.where(pairs, values, 0).sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)


def _mean_of_videos(values: Tensor, positive: Tensor) -> Tensor:
    """`(B,)` → a scalar: the mean over the videos that have a positive frame, 0 without any."""
    has_positive = positive.any(1)
    return torch.where(has_positive, values, 0).sum() / has_positive.sum().clamp(min=1)
