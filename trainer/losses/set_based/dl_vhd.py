"""DL-VHD: a coarse learner on mixed sets, a fine one on source sets, distilled on target sets.

Source: Set-based Learning (ICCV 2021), equations 3 to 6; released code and commit are named in
`models.highlight.base.set_transformer`.
"""

from __future__ import annotations

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

    A model with only one of the learners is trained on its loss. `form` is that of `set_kl`. It
    also decides the labels of mixed sets, which are 1 and 0 in the paper and 1 and -1 in the code;
    their softmaxes differ.
    """

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if form == "released":
            is_used = has_highlight(domains.source, domains.targets, labels)
            if not is_used.any():
                return domains.targets.labels.new_zeros(())
            domains = domains.select_rows(is_used)
        on_source = forward_float32(model, domains.source)
        has_coarse = "coarse" in on_source.parts
        has_fine = "fine" in on_source.parts
        total = on_source.scores.new_zeros(())
        if has_fine or not has_coarse:
            # A model with neither learner fails here, with the names of its parts.
            fine = Scores(output_part(on_source, "fine"))
            total = total + set_divergence(
                fine, domains.source, domains.targets, form=form, labels=labels
            )
        if has_fine and has_coarse and distillation:
            total = total + _distillation_loss(model, domains, weight=distillation, form=form)
        if has_coarse:
            total = total + _coarse_loss(model, domains, form)
        return total

    return (Step("learn", loss),)


def _coarse_loss(model: nn.Module, domains: DomainBatch, form: Form) -> Tensor:
    if domains.mixed is None or domains.is_target is None:
        raise ValueError(
            "the coarse learner needs mixed sets: make the domains with sample_two_domains"
        )
    mask = domains.mixed.mask
    scores = output_part(forward_float32(model, domains.mixed), "coarse")
    labels = domains.is_target.to(scores)
    if form == "released":
        labels = 2 * labels - 1
    return masked_mean(kl_per_set(labels, scores, mask, form=form), mask.any(dim=1))


def _distillation_loss(
    model: nn.Module, domains: DomainBatch, *, weight: float, form: Form
) -> Tensor:
    """L_distill: both learners against their mean score, the teacher, on target sets.

    The paper does not say whether the teacher has a gradient. It makes no difference, since that
    gradient is 0: the softmax of the mean score minimises the sum of both divergences.
    """
    mask = domains.target.mask
    on_target = forward_float32(model, domains.target)
    teacher = on_target.scores
    coarse = kl_per_set(teacher, output_part(on_target, "coarse"), mask, form=form)
    fine = kl_per_set(teacher, output_part(on_target, "fine"), mask, form=form)
    return weight * masked_mean((coarse + fine) / 2, mask.any(dim=1))
