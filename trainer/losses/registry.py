"""Every objective there is. To add one: write its function beside this one, add a row."""

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
"""Name → function of scores, batch and targets; what it takes by keyword besides are its
settings.
"""

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
"""Name → function of settings that gives the steps of a round on two batches
(`trainer.losses.set_based.domain_steps`).
"""


def make_objective(name: str, **settings: Any) -> Objective:
    """The row of that name with its settings bound; errors list what there is."""
    return partial(_checked_function(OBJECTIVES, name, settings), **settings)


def make_domain_objective(name: str, **settings: Any) -> Steps:
    """The steps of the row of that name; errors list what there is."""
    return _checked_function(DOMAIN_OBJECTIVES, name, settings)(**settings)


def objective_function(name: str) -> Callable[..., Any]:
    """The function behind a name, on one batch or on two, whose keywords are its settings; KeyError
    lists the names.
    """
    return _look_up({**OBJECTIVES, **DOMAIN_OBJECTIVES}, name)


def _look_up(table: Mapping[str, T], name: str) -> T:
    if name not in table:
        raise KeyError(f"no objective is called {name!r}; there are {', '.join(sorted(table))}")
    return table[name]


def _checked_function(
    table: dict[str, Callable[..., T]], name: str, settings: dict[str, Any]
) -> Callable[..., T]:
    found = _look_up(table, name)
    known = [
        p.name for p in inspect.signature(found).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )
    return found
