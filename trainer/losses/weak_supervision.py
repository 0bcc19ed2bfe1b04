"""Losses that know durations and categories of videos, and no highlight: MINI-Net's on bags, LIM's
on pairs.

Sources: MINI-Net (ECCV 2020) and its code, LIM (CVPR 2019), named in
`models.highlight.generic.mini_net` and `lim`. Refuses to know how videos are chosen: 10 to 40
seconds and 60 or more in MINI-Net's code, which also picks its best epoch on the test set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.generic.lim import LIM
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    Step,
    Steps,
    forward_float32,
    output_part,
)


def mini_net(*, margin: float = 1.0) -> Steps:
    """Cross entropy of bags, plus the mean of max(0, margin - max w⁺ + max w⁻) over pairs of a
    source and a target bag.

    w are the weights of a bag's segments, which sum to 1, so that the second term never gets below
    0 at margin 1.
    """

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        answers = [forward_float32(model, side) for side in (domains.source, domains.target)]
        if len(domains.source.mask) != len(domains.target.mask):
            raise ValueError(
                "each bag of the source is compared with one of the target; their numbers differ"
            )
        bags = torch.cat([output_part(one, "bag_logits") for one in answers])
        wanted = (
            torch.arange(2, device=bags.device).flip(0).repeat_interleave(len(domains.source.mask))
        )
        positive, negative = (output_part(one, "weights").amax(dim=1) for one in answers)
        return (
            functional.cross_entropy(bags, wanted)
            + (margin - positive + negative).clamp(min=0).mean()
        )

    return (Step("learn", loss),)


def lim(*, group: int = 8, margin: float = 1.0) -> Steps:
    """The mean over groups of pairs of Σ w·max(0, margin - f(short) + f(long)), w the softmax of h
    over the group.

    The k-th segment of the source is paired with the k-th of the target, in the order in which they
    were drawn; what makes no whole group is left out. A group of n says that one pair in n is
    sound; 8 is MINI-Net's code's default.
    """
    if group < 1:
        raise ValueError(f"group is at least 1, got {group}")

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if not isinstance(model, LIM):
            raise ValueError(
                f"lim asks a network about pairs: take the model lim, not {type(model).__name__}"
            )
        sides = (domains.source, domains.target)
        count = min(int(side.mask.sum()) for side in sides) // group * group
        if not count:
            raise ValueError(f"no group of {group} pairs: each side needs as many segments")
        short, long = (side.features[model.key][side.mask][:count] for side in sides)
        f_short, f_long = (forward_float32(model, side).scores[side.mask][:count] for side in sides)
        weights = model.pair_logits(short, long).view(-1, group).softmax(dim=1)
        missed: Tensor = (margin - f_short + f_long).clamp(min=0).view(-1, group)
        return (weights * missed).sum(dim=1).mean()

    return (Step("learn", loss),)
