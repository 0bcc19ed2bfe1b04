"""Domain adaptation of the SL-module to a category without labels, by five methods.

Each method adds a term to the loss on the source. Source: Set-based Learning (ICCV 2021), appendix
8, which says where each method acts; the functions name the methods' own papers. The released code
(named in `models.highlight.base.set_transformer`) has DAN and DeepCORAL; weights and sizes of the
others are those of the methods' papers.

The embeddings of all sets of a batch are compared at once. Nothing before the transformer is
trained, as in the paper; `train_da_baselines.py` fine-tunes C3D at a tenth of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Scores
from models.highlight.generic.domain_adaptation import RevGradSL
from models.highlight.generic.sl_module import SLModule
from models.validation import one_of
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    Step,
    Steps,
    forward_float32,
    output_part,
)
from trainer.losses.set_based.set_kl import Form, Labels, has_highlight, set_divergence

Distance = Callable[[Tensor, Tensor], Tensor]
"""`(N, D)` embeddings of the source and `(M, D)` of the target → a number."""


def source_only(*, form: Form = "paper", labels: Labels = "value") -> Steps:
    """No adaptation: the lower bound, or the upper one where the source is the target."""

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        return set_divergence(
            forward_float32(model, domains.source),
            domains.source,
            domains.targets,
            form=form,
            labels=labels,
        )

    return (Step("learn", loss),)


def dan(
    *,
    weight: float = 1.0,
    kernels: int = 5,
    multiplier: float = 2.0,
    is_cut: bool = False,
    form: Form = "paper",
    labels: Labels = "value",
) -> Steps:
    """DAN (Long et al., ICML 2015): the embeddings' maximum mean discrepancy under several kernels.

    `is_cut` drops the surplus rows of the larger side, as the released code does.
    """

    def distance(source: Tensor, target: Tensor) -> Tensor:
        return maximum_mean_discrepancy(source, target, kernels=kernels, multiplier=multiplier)

    return _alignment_steps(distance, weight, is_cut, form, labels)


def deep_coral(
    *,
    weight: float = 1.0,
    covariance: Literal["sample", "released"] = "sample",
    is_cut: bool = False,
    form: Form = "paper",
    labels: Labels = "value",
) -> Steps:
    """Deep CORAL (Sun and Saenko, ECCV 2016 workshops): the distance of covariances.

    `covariance` "released" is the released code's erroneous one, see `released_coral`.
    """
    one_of("covariance", covariance, ("sample", "released"))
    distance = coral if covariance == "sample" else released_coral
    return _alignment_steps(distance, weight, is_cut, form, labels)


def afn(
    *,
    kind: Literal["stepwise", "hard"] = "stepwise",
    weight: float = 0.05,
    step: float = 1.0,
    radius: float = 25.0,
    form: Form = "paper",
    labels: Labels = "value",
) -> Steps:
    """AFN (Xu et al., ICCV 2019): larger norms of embeddings on both sides.

    stepwise: each norm should grow by `step`. hard: the mean norm of a side should be `radius`. The
    set-based learning paper names neither the kind nor numbers; these are AFN's own.
    """
    one_of("kind", kind, ("stepwise", "hard"))

    def norm_loss(rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=1)
        missing = radius - norms.mean() if kind == "hard" else norms.detach() + step - norms
        squared: Tensor = missing.square().mean()
        return squared

    def distance(source: Tensor, target: Tensor) -> Tensor:
        return norm_loss(source) + norm_loss(target)

    return _alignment_steps(distance, weight, False, form, labels)


def revgrad(
    *, weight: float = 1.0, gamma: float = 10.0, form: Form = "paper", labels: Labels = "value"
) -> Steps:
    """RevGrad (Ganin and Lempitsky, ICML 2015): a domain discriminator with reversed gradient.

    The strength of the reversed gradient grows with `DomainBatch.progress` p as in the paper, 2 /
    (1 + exp(-gamma·p)) - 1. Both categories weigh the same, for any numbers of segments.
    """

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if not isinstance(model, RevGradSL):
            raise ValueError(
                "revgrad needs a discriminator: use the model sl_revgrad, "
                f"not {type(model).__name__}"
            )
        on_source, source, target = _embed_domains(model, domains)
        strength = 2 / (1 + math.exp(-gamma * domains.progress)) - 1
        source_logits = model.discriminate(source, strength)
        target_logits = model.discriminate(target, strength)
        # Cross entropy with the source as class 1: -log σ(x) = softplus(-x).
        source_error = functional.softplus(-source_logits).mean()
        target_error = functional.softplus(target_logits).mean()
        supervised = set_divergence(
            on_source, domains.source, domains.targets, form=form, labels=labels
        )
        return supervised + weight * (source_error + target_error) / 2

    return (Step("learn", loss),)


def mcd(
    *,
    transformer_steps: int = 4,
    discrepancy: Literal["softmax", "score"] = "softmax",
    form: Form = "paper",
    labels: Labels = "value",
) -> Steps:
    """MCD (Saito et al., CVPR 2018), equations 4 to 9: three alternating steps, for `sl_mcd`.

    "learn" trains everything on the source's labels. "part" trains the two scorers on them, and to
    disagree on the target. "agree", `transformer_steps` times, trains the transformer so that they
    agree there. The discrepancy of the scorers is the mean absolute difference of the softmaxes
    over a set, whose segments take the place of MCD's classes, or of the scores.
    """
    one_of("discrepancy", discrepancy, ("softmax", "score"))

    def supervised_loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        on_source = forward_float32(model, domains.source)
        total = on_source.scores.new_zeros(())
        for name in ("first", "second"):
            scores = Scores(output_part(on_source, name))
            total = total + set_divergence(
                scores, domains.source, domains.targets, form=form, labels=labels
            )
        return total

    def discrepancy_loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        mask = domains.target.mask
        on_target = forward_float32(model, domains.target)
        first, second = output_part(on_target, "first"), output_part(on_target, "second")
        if discrepancy == "softmax":
            lowest = torch.finfo(first.dtype).min
            first = first.masked_fill(~mask, lowest).softmax(dim=-1)
            second = second.masked_fill(~mask, lowest).softmax(dim=-1)
        return (first - second)[mask].abs().mean()

    def scorer_loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        return supervised_loss(model, domains) - discrepancy_loss(model, domains)

    return (
        Step("learn", supervised_loss),
        Step("part", scorer_loss, trains=("scorers",)),
        Step("agree", discrepancy_loss, trains=("encoder",), repeats=transformer_steps),
    )


def maximum_mean_discrepancy(
    source: Tensor, target: Tensor, *, kernels: int = 5, multiplier: float = 2.0
) -> Tensor:
    """The biased squared MMD of `(N, D)` and `(M, D)` under a sum of Gaussian kernels.

    A kernel is exp(-d² / bandwidth). The bandwidths are the mean squared distance of two different
    rows, without gradient, times powers of `multiplier` around 1. Equal to the released
    `mmd_rbf_noaccelerate`, which needs N = M.
    """
    rows = torch.cat([source, target])
    # Without matrix products, whose rounding gives equal rows a distance above 0.
    squares = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    count = len(rows)
    mean_square = squares.detach().sum() / (count**2 - count)
    # If all rows are equal, distances and bandwidths are 0: the smallest number avoids 0 / 0.
    smallest = torch.finfo(squares.dtype).tiny
    each_kernel = []
    for power in range(kernels):
        bandwidth = mean_square * multiplier ** (power - kernels // 2)
        each_kernel.append(torch.exp(-squares / bandwidth.clamp(min=smallest)))
    kernel = torch.stack(each_kernel).sum(dim=0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def coral(source: Tensor, target: Tensor) -> Tensor:
    """‖C_S - C_T‖² / 4d², where C is the covariance of rows `(N, d)`.

    ValueError with fewer than two rows on a side.
    """
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"a covariance needs two rows or more; got {len(source)} and {len(target)}"
        )
    difference = source.T.cov() - target.T.cov()
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def released_coral(source: Tensor, target: Tensor) -> Tensor:
    """The released `coral_distance`, which is wrong, to compare with its numbers.

    It centres each row over its d numbers instead of each number over the rows, does not divide by
    N - 1, and divides the mean of the squared difference once more by 16 d.
    """
    centred_source = source - source.mean(dim=1, keepdim=True)
    centred_target = target - target.mean(dim=1, keepdim=True)
    difference = centred_source.T @ centred_source - centred_target.T @ centred_target
    return difference.square().mean() / (16 * source.shape[1])


def _embed_domains(model: nn.Module, domains: DomainBatch) -> tuple[Scores, Tensor, Tensor]:
    """The scores on the source, and the embeddings of both sides, `(N, D)` and `(M, D)`."""
    if isinstance(model, SLModule) and not model.encoder.layers:
        raise ValueError(
            "domain adaptation trains the transformer: model.has_transformer must be true"
        )
    on_source, on_target = (
        forward_float32(model, domains.source),
        forward_float32(model, domains.target),
    )
    source, target = output_part(on_source, "embeddings"), output_part(on_target, "embeddings")
    return on_source, source[domains.source.mask], target[domains.target.mask]


def _alignment_steps(
    distance: Distance, weight: float, is_cut: bool, form: Form, labels: Labels
) -> Steps:
    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if form == "released":
            is_used = has_highlight(domains.source, domains.targets, labels)
            if not is_used.any():
                return domains.targets.labels.new_zeros(())
            domains = domains.select_rows(is_used)
        on_source, source, target = _embed_domains(model, domains)
        if is_cut:
            smaller = min(len(source), len(target))
            source, target = source[:smaller], target[:smaller]
        supervised = set_divergence(
            on_source, domains.source, domains.targets, form=form, labels=labels
        )
        return supervised + weight * distance(source, target)

    return (Step("learn", loss),)
