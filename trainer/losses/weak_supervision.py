"""Weakly supervised losses, from durations and categories of videos: MINI-Net and LIM.

Sources: MINI-Net (ECCV 2020) and its code, LIM (CVPR 2019), named in
`models.highlight.generic.mini_net` and `lim`. Which videos are short and which are long, the recipe
says: 10 to 40 seconds and 60 or more in MINI-Net's code, which also selects its best epoch on the
test set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.generic.lim import LIM
from models.validation import at_least
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    Step,
    Steps,
    forward_float32,
    output_part,
)


def mini_net(*, margin: float = 1.0) -> Steps:
    """MINI-Net: cross entropy of bags, and max(0, margin - max w⁺ + max w⁻) over pairs of bags.

    A pair is a bag of the source and one of the target. w are the weights of a bag's segments,
    which sum to 1, so that the second term is never below 0 at margin 1.
    """

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        bag_count = len(domains.source.mask)
        if bag_count != len(domains.target.mask):
            raise ValueError(
                "each bag of the source is compared with one of the target; their numbers differ: "
                f"got {bag_count} and {len(domains.target.mask)}"
            )
        on_source = forward_float32(model, domains.source)
        on_target = forward_float32(model, domains.target)
        logits = torch.cat(
            [output_part(on_source, "bag_logits"), output_part(on_target, "bag_logits")]
        )
        # Class 1 is a bag of the source, class 0 one of the target.
        classes = torch.arange(2, device=logits.device).flip(0).repeat_interleave(bag_count)
        positive = output_part(on_source, "weights").amax(dim=1)
        negative = output_part(on_target, "weights").amax(dim=1)
        ranking = (margin - positive + negative).clamp(min=0).mean()
        return functional.cross_entropy(logits, classes) + ranking

    return (Step("learn", loss),)


def lim(*, group: int = 8, margin: float = 1.0) -> Steps:
    """LIM: Σ w·max(0, margin - f(short) + f(long)) over a group of pairs; the mean over groups.

    w is the softmax of h over the group. The k-th segment of the source is paired with the k-th of
    the target, in the order of drawing; an incomplete last group is dropped. A group of n assumes
    that one pair in n is correct; 8 is the default of MINI-Net's code.
    """
    at_least("group", group, 1)

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if not isinstance(model, LIM):
            raise ValueError(f"loss 'lim' needs the model lim, got {type(model).__name__}")
        source, target = domains.source, domains.target
        pair_count = min(int(source.mask.sum()), int(target.mask.sum()))
        count = pair_count // group * group
        if not count:
            raise ValueError(
                f"no group of {group} pairs: both sides need {group} segments or more, "
                f"got {pair_count}"
            )
        short = source.features[model.key][source.mask][:count]
        long = target.features[model.key][target.mask][:count]
        short_scores = forward_float32(model, source).scores[source.mask][:count]
        long_scores = forward_float32(model, target).scores[target.mask][:count]
        weights = model.pair_logits(short, long).view(-1, group).softmax(dim=1)
        hinge: Tensor = (margin - short_scores + long_scores).clamp(min=0).view(-1, group)
        return (weights * hinge).sum(dim=1).mean()

    return (Step("learn", loss),)
