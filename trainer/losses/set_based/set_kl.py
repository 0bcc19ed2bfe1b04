"""Set-based learning: the softmax of a set's scores should be that of its labels.

Source: Set-based Learning (ICCV 2021), equation 2; released code and commit are named in
`models.highlight.base.set_transformer`. Refuses to know networks and how sets are drawn.

Where paper and code differ, `form` says which is meant:

- "paper": KL(σ(y) ‖ σ(ŷ)), averaged over the sets of a batch.
- "released": `F.kl_div` with its default reduction, which divides once more by the size of the set,
  so that a set of 20 weighs a twentieth; sets without a label above 0 are left out, and with them
  the whole step: the target set beside one adapts and distils nothing either. The code trains with
  one set a batch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets

Form = Literal["paper", "released"]
Labels = Literal["value", "positive", "truncated"]
"""What y is. value: the dataset's own number, so 1, 0 and -1 on YouTube Highlights, as the code has
it. positive: 1 for a highlight and 0 otherwise. truncated: the number cast to a whole one, as the
code does, to which an ActivityNet segment covered by 99 % is none.
"""


def set_divergence(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    form: Form = "paper",
    labels: Labels = "value",
) -> Tensor:
    """The mean over sets of KL(σ(labels) ‖ σ(scores)); 0 if the released form leaves out all of
    them.
    """
    each = kl_per_set(set_labels(targets, labels), scores.scores, batch.mask, form=form)
    counts = batch.mask.any(dim=1)
    return masked_mean(
        each, counts & has_highlight(batch, targets, labels) if form == "released" else counts
    )


def set_labels(targets: Targets, labels: Labels) -> Tensor:
    """`(B, T)`: y, as `labels` says."""
    wanted = {
        "value": targets.labels,
        "positive": targets.positive.to(targets.labels),
        "truncated": targets.labels.trunc(),
    }
    if labels not in wanted:
        raise ValueError(f"labels is {', '.join(wanted)}; got {labels!r}")
    return wanted[labels]


def has_highlight(batch: Batch, targets: Targets, labels: Labels) -> Tensor:
    """`(B,)` bool: the sets that hold a label above 0. The released code skips all others."""
    return (set_labels(targets, labels).masked_fill(~batch.mask, 0) > 0).any(dim=1)


def kl_per_set(wanted: Tensor, scores: Tensor, mask: Tensor, *, form: Form = "paper") -> Tensor:
    """KL(σ(wanted) ‖ σ(scores)) of each set: three `(B, N)` → `(B,)`; the released form divides by
    the set's size.
    """
    if form not in ("paper", "released"):
        raise ValueError(f"form is paper or released, got {form!r}")
    forbidden = torch.finfo(scores.dtype).min
    log_wanted = wanted.to(scores).masked_fill(~mask, forbidden).log_softmax(dim=-1)
    log_scores = scores.masked_fill(~mask, forbidden).log_softmax(dim=-1)
    terms = log_wanted.exp() * (log_wanted - log_scores)
    each = terms.masked_fill(~mask, 0).sum(dim=-1)
    return each / mask.sum(dim=-1).clamp(min=1) if form == "released" else each


def masked_mean(each: Tensor, counts: Tensor) -> Tensor:
    """The mean of those sets of `(B,)` that count; if none does a plain 0, which moves nothing."""
    if not counts.any():
        return each.new_zeros(())
    return each.masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)
