"""Set-based learning: the softmax of a set's scores should equal the softmax of its labels.

Source: Set-based Learning (ICCV 2021), equation 2; released code and commit are named in
`models.highlight.base.set_transformer`.

Paper and code differ; `form` selects one of them:

- "paper": KL(σ(y) ‖ σ(ŷ)), averaged over the sets of a batch.
- "released": `F.kl_div` with its default reduction, which divides once more by the size of the set,
  so that a set of 20 weighs a twentieth. Sets without a label above 0 are skipped, together with
  the target sets beside them, which then neither adapt nor distil. The code trains with one set per
  batch.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from models.validation import one_of
from trainer.base.targets import Targets

Form = Literal["paper", "released"]
Labels = Literal["value", "positive", "truncated"]
"""The labels y. value: the dataset's own number, so 1, 0 and -1 on YouTube Highlights, as in the
code. positive: 1 for a highlight and 0 otherwise. truncated: the number cast to a whole one, as in
the code, where an ActivityNet segment covered by 99 % is therefore not a highlight.
"""


def set_divergence(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    form: Form = "paper",
    labels: Labels = "value",
) -> Tensor:
    """The mean over sets of KL(σ(labels) ‖ σ(scores)); 0 if the released form skips all sets."""
    divergences = kl_per_set(set_labels(targets, labels), scores.scores, batch.mask, form=form)
    is_used = batch.mask.any(dim=1)
    if form == "released":
        is_used = is_used & has_highlight(batch, targets, labels)
    return masked_mean(divergences, is_used)


def set_labels(targets: Targets, labels: Labels) -> Tensor:
    """`(B, T)`: the labels y of that kind."""
    one_of("labels", labels, get_args(Labels))
    if labels == "positive":
        return targets.positive.to(targets.labels)
    return targets.labels.trunc() if labels == "truncated" else targets.labels


def has_highlight(batch: Batch, targets: Targets, labels: Labels) -> Tensor:
    """`(B,)` bool: the sets with a label above 0. The released code skips all others."""
    set_values = set_labels(targets, labels).masked_fill(~batch.mask, 0)
    return (set_values > 0).any(dim=1)


def kl_per_set(labels: Tensor, scores: Tensor, mask: Tensor, *, form: Form = "paper") -> Tensor:
    """KL(σ(labels) ‖ σ(scores)) of each set: three `(B, N)` → `(B,)`.

    The released form divides by the size of the set.
    """
    one_of("form", form, get_args(Form))
    # The smallest number, not -inf: -inf - (-inf) is NaN, also where it is masked afterwards.
    lowest = torch.finfo(scores.dtype).min
    log_labels = labels.to(scores).masked_fill(~mask, lowest).log_softmax(dim=-1)
    log_scores = scores.masked_fill(~mask, lowest).log_softmax(dim=-1)
    terms = log_labels.exp() * (log_labels - log_scores)
    divergences = terms.masked_fill(~mask, 0).sum(dim=-1)
    if form == "released":
        return divergences / mask.sum(dim=-1).clamp(min=1)
    return divergences


def masked_mean(values: Tensor, is_used: Tensor) -> Tensor:
    """The mean of the used sets of `(B,)`; a 0 without gradient if none is used."""
    if not is_used.any():
        return values.new_zeros(())
    return values.masked_fill(~is_used, 0).sum() / is_used.sum().clamp(min=1)
