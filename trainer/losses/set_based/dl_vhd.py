"""DL-VHD: a coarse learner on mixed sets, a fine one on source sets, and what each gives the other
on target sets.

Source: Set-based Learning (ICCV 2021), equations 3 to 6; released code and commit are named in
`models.highlight.base.set_transformer`. Refuses to know networks and how sets are drawn.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from models.highlight.base.contract import Scores
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    Step,
    Steps,
    forward_float32,
    output_part,
)
from trainer.losses.set_based.set_kl import (
    Form,
    Labels,
    has_highlight,
    kl_per_set,
    masked_mean,
    set_divergence,
)


def dl_vhd(*, distillation: float = 1.0, form: Form = "paper", labels: Labels = "value") -> Steps:
    """L_coarse + L_fine + `distillation`·L_distill, in one step; 0 is the ablation "w/o L_distill".

    A model with one learner is trained on that one's loss. `form` is as in `set_learning`; besides,
    the labels of mixed sets are 1 and 0 in the paper and 1 and -1 in the code, which its softmax
    tells apart.
    """
    distil = partial(_distillation_loss, weight=distillation, form=form)

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if form == "released":
            counts = has_highlight(domains.source, domains.targets, labels)
            if not counts.any():
                return domains.targets.labels.new_zeros(())
            domains = domains.select_rows(counts)
        on_source = forward_float32(model, domains.source)
        has_fine, has_coarse = "fine" in on_source.parts, "coarse" in on_source.parts
        if not (has_fine or has_coarse):
            output_part(on_source, "fine")
        total = on_source.scores.new_zeros(())
        if has_fine:
            fine = Scores(on_source.parts["fine"])
            total = total + set_divergence(
                fine, domains.source, domains.targets, form=form, labels=labels
            )
        if has_fine and has_coarse and distillation:
            total = total + distil(model, domains)
        return total + _coarse_loss(model, domains, form) if has_coarse else total

    return (Step("learn", loss),)


def _coarse_loss(model: nn.Module, domains: DomainBatch, form: Form) -> Tensor:
    if domains.mixed is None or domains.is_target is None:
        raise ValueError(
            "the coarse learner needs mixed sets: make the domains with sample_two_domains"
        )
    scores = output_part(forward_float32(model, domains.mixed), "coarse")
    wanted = domains.is_target.to(scores)
    wanted = 2 * wanted - 1 if form == "released" else wanted
    return masked_mean(
        kl_per_set(wanted, scores, domains.mixed.mask, form=form), domains.mixed.mask.any(dim=1)
    )


def _distillation_loss(
    model: nn.Module, domains: DomainBatch, *, weight: float, form: Form
) -> Tensor:
    """L_distill. The paper does not say whether the mean has a gradient; it makes no difference,
    for the gradient is 0: the softmax of the mean score is where the sum of both divergences is
    least.
    """
    on_target, mask = forward_float32(model, domains.target), domains.target.mask
    teacher = on_target.scores
    each = [
        kl_per_set(teacher, output_part(on_target, name), mask, form=form)
        for name in ("coarse", "fine")
    ]
    return weight * masked_mean((each[0] + each[1]) / 2, mask.any(dim=1))
