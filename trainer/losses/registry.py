"""Every objective, by the name that recipes use.

To add one: write its function in a module of this folder, and add a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets
from trainer.losses import (
    classification,
    mha_fusion,
    pld_vhd,
    pr_net,
    ranking,
    reconstruction,
    weak_supervision,
)
from trainer.losses.set_based import dl_vhd, domain_adaptation, set_kl
from trainer.losses.set_based.domain_steps import Steps

T = TypeVar("T")
Objective = Callable[[Scores, Batch, Targets], Tensor]

OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "adaptive_huber": ranking.adaptive_huber,
    "bidirectional_contrastive": pr_net.bidirectional_contrastive,
    "binary_cross_entropy": classification.binary_cross_entropy,
    "cross_entropy": classification.cross_entropy,
    "hinge": ranking.hinge,
    "mha_fusion": mha_fusion.mha_fusion,
    "pld_vhd": pld_vhd.pld_vhd,
    "pr_net_cross_entropy": pr_net.pr_net_cross_entropy,
    "pr_net_ranking": pr_net.pr_net_ranking,
    "pr_net_triplet": pr_net.pr_net_triplet,
    "reconstruction": reconstruction.reconstruction,
    "set_divergence": set_kl.set_divergence,
}
"""Name → function of scores, batch and targets; its keyword-only parameters are its settings."""

DOMAIN_OBJECTIVES: dict[str, Callable[..., Steps]] = {
    "afn": domain_adaptation.afn,
    "dan": domain_adaptation.dan,
    "deep_coral": domain_adaptation.deep_coral,
    "dl_vhd": dl_vhd.dl_vhd,
    "lim": weak_supervision.lim,
    "mcd": domain_adaptation.mcd,
    "mini_net": weak_supervision.mini_net,
    "revgrad": domain_adaptation.revgrad,
    "source_only": domain_adaptation.source_only,
}
"""Name → function of settings that returns the steps on two batches
(`trainer.losses.set_based.domain_steps`).
"""


def make_objective(name: str, **settings: Any) -> Objective:
    """The objective on one batch of that name, with its settings bound.

    KeyError for an unknown name, ValueError for an unknown setting; both list what there is.
    """
    function = _look_up(OBJECTIVES, name)
    _check_settings(name, function, settings)
    return partial(function, **settings)


def make_domain_objective(name: str, **settings: Any) -> Steps:
    """The steps of the objective on two batches of that name. Errors as of `make_objective`."""
    function = _look_up(DOMAIN_OBJECTIVES, name)
    _check_settings(name, function, settings)
    return function(**settings)


def objective_function(name: str) -> Callable[..., Any]:
    """The function of an objective, on one batch or on two; its keywords are the settings.

    KeyError for an unknown name, with all names.
    """
    return _look_up({**OBJECTIVES, **DOMAIN_OBJECTIVES}, name)


def _look_up(table: Mapping[str, T], name: str) -> T:
    if name not in table:
        raise KeyError(f"unknown objective {name!r}; choose one of {', '.join(sorted(table))}")
    return table[name]


def _check_settings(name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )
