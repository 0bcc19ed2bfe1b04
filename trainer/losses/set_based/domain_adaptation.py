"""Five ways to adapt the SL-module to a category without labels; each adds something to the loss on
the source.

Source: Set-based Learning (ICCV 2021), appendix 8, which says where each method acts; the methods'
own papers stand at the functions. The released code (named in
`models.highlight.base.set_transformer`) holds DAN and DeepCORAL; weights and sizes of the others
are those of the methods' papers. Refuses to know networks and how sets are drawn.

The embeddings of all sets of a batch are compared at once. Unlike `train_da_baselines.py`, which
fine-tunes C3D at a tenth of the learning rate though the paper calls it fixed, nothing before the
transformer is trained.
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

    `is_cut` leaves out what the larger side has more, as the released code does.
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
    """Deep CORAL (Sun and Saenko, ECCV 2016 workshops): the distance of the embeddings'
    covariances.

    `covariance` "released" is the released code's erroneous one, see `released_coral`.
    """
    if covariance not in ("sample", "released"):
        raise ValueError(f"covariance is sample or released, got {covariance!r}")
    return _alignment_steps(
        coral if covariance == "sample" else released_coral, weight, is_cut, form, labels
    )


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

    stepwise: each norm should be `step` more than it is. hard: a side's mean norm should be
    `radius`. Set-based learning tells neither kind nor numbers; these are AFN's own.
    """
    if kind not in ("stepwise", "hard"):
        raise ValueError(f"kind is stepwise or hard, got {kind!r}")

    def pull(rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=1)
        short = radius - norms.mean() if kind == "hard" else norms.detach() + step - norms
        pulled: Tensor = short.square().mean()
        return pulled

    return _alignment_steps(
        lambda source, target: pull(source) + pull(target), weight, False, form, labels
    )


def revgrad(
    *, weight: float = 1.0, gamma: float = 10.0, form: Form = "paper", labels: Labels = "value"
) -> Steps:
    """RevGrad (Ganin and Lempitsky, ICML 2015): a discriminator of categories that the transformer
    works against.

    The reversed gradient grows with `Domains.progress` p as 2 / (1 + exp(-gamma·p)) - 1, as in the
    paper. Both categories weigh the same, whatever their numbers of segments.
    """

    def loss(model: nn.Module, domains: DomainBatch) -> Tensor:
        if not isinstance(model, RevGradSL):
            raise ValueError(
                f"revgrad needs a discriminator: take the model sl_revgrad, not {type(model).__name__}"
            )
        on_source, source, target = _embed_domains(model, domains)
        strength = 2 / (1 + math.exp(-gamma * domains.progress)) - 1
        at_source, at_target = (
            model.discriminate(source, strength),
            model.discriminate(target, strength),
        )
        confusion = functional.softplus(-at_source).mean() + functional.softplus(at_target).mean()
        learned = set_divergence(
            on_source, domains.source, domains.targets, form=form, labels=labels
        )
        return learned + weight * confusion / 2

    return (Step("learn", loss),)


def mcd(
    *,
    transformer_steps: int = 4,
    discrepancy: Literal["softmax", "score"] = "softmax",
    form: Form = "paper",
    labels: Labels = "value",
) -> Steps:
    """MCD (Saito et al., CVPR 2018), equations 4 to 9: three steps that alternate, for the model
    `sl_mcd`.

    "learn" moves everything towards the source's labels; "part" moves the scorers towards them and
    apart on the target; "agree", `transformer_steps` times, moves the transformer so that they
    agree there. Their discrepancy is the mean absolute difference of the softmaxes over a set, its
    segments standing for MCD's classes, or of the scores.
    """
    if discrepancy not in ("softmax", "score"):
        raise ValueError(f"discrepancy is softmax or score, got {discrepancy!r}")

    def learned(model: nn.Module, domains: DomainBatch) -> Tensor:
        on_source = forward_float32(model, domains.source)
        both = [Scores(output_part(on_source, name)) for name in ("first", "second")]
        return sum(
            (
                set_divergence(one, domains.source, domains.targets, form=form, labels=labels)
                for one in both
            ),
            start=on_source.scores.new_zeros(()),
        )

    def apart(model: nn.Module, domains: DomainBatch) -> Tensor:
        on_target, mask = forward_float32(model, domains.target), domains.target.mask
        first, second = output_part(on_target, "first"), output_part(on_target, "second")
        if discrepancy == "softmax":
            lowest = torch.finfo(first.dtype).min
            first, second = (s.masked_fill(~mask, lowest).softmax(dim=-1) for s in (first, second))
        return (first - second)[mask].abs().mean()

    return (
        Step("learn", learned),
        Step(
            "part",
            lambda model, domains: learned(model, domains) - apart(model, domains),
            ("scorers",),
        ),
        Step("agree", apart, ("encoder",), transformer_steps),
    )


def maximum_mean_discrepancy(
    source: Tensor, target: Tensor, *, kernels: int = 5, multiplier: float = 2.0
) -> Tensor:
    """The biased squared MMD of `(N, D)` and `(M, D)` under a sum of Gaussian kernels exp(-d² /
    bandwidth).

    The bandwidths are the mean squared distance of two different rows, without gradient, times
    powers of `multiplier` around 1. Equal to the released `mmd_rbf_noaccelerate`, which needs N =
    M.
    """
    rows = torch.cat([source, target])
    squares = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    count = len(rows)
    mean = squares.detach().sum() / (count**2 - count)
    bandwidths = [mean * multiplier ** (power - kernels // 2) for power in range(kernels)]
    # Rows that are all alike have distances and bandwidth 0, and do not differ.
    smallest = torch.finfo(squares.dtype).tiny
    kernel = torch.stack(
        [torch.exp(-squares / bandwidth.clamp(min=smallest)) for bandwidth in bandwidths]
    ).sum(dim=0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def coral(source: Tensor, target: Tensor) -> Tensor:
    """‖C_S - C_T‖² / 4d², C the covariance of `(N, d)` rows; ValueError with fewer than two rows on
    a side.
    """
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"a covariance needs two rows or more; got {len(source)} and {len(target)}"
        )
    difference = source.T.cov() - target.T.cov()
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def released_coral(source: Tensor, target: Tensor) -> Tensor:
    """The released `coral_distance`: wrong, and kept to compare with its numbers.

    It centres each row over its d numbers instead of each number over the rows, does not divide by
    N - 1, and divides the mean of the squared difference once more by 16 d.
    """
    centred = [rows - rows.mean(dim=1, keepdim=True) for rows in (source, target)]
    difference = centred[0].T @ centred[0] - centred[1].T @ centred[1]
    return difference.square().mean() / (16 * source.shape[1])


def _embed_domains(model: nn.Module, domains: DomainBatch) -> tuple[Scores, Tensor, Tensor]:
    """The answer on the source, and the embeddings of both sides' positions, `(N, D)` and `(M,
    D)`.
    """
    if isinstance(model, SLModule) and not model.encoder.layers:
        raise ValueError(
            "adaptation changes the transformer, C3D being fixed: has_transformer must be true"
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
            counts = has_highlight(domains.source, domains.targets, labels)
            if not counts.any():
                return domains.targets.labels.new_zeros(())
            domains = domains.select_rows(counts)
        on_source, source, target = _embed_domains(model, domains)
        if is_cut:
            smaller = min(len(source), len(target))
            source, target = source[:smaller], target[:smaller]
        learned = set_divergence(
            on_source, domains.source, domains.targets, form=form, labels=labels
        )
        return learned + weight * distance(source, target)

    return (Step("learn", loss),)
