"""Every objective there is. To add one: write its function beside this one, add a row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from models.highlight.contract import Batch, Scores
from trainer.objectives import classification, mha_fusion, pr_net, ranking, reconstruction
from trainer.targets import Targets

Objective = Callable[[Scores, Batch, Targets], Tensor]

OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "adaptive_huber": ranking.adaptive_huber,
    "bidirectional_contrastive": pr_net.bidirectional_contrastive,
    "binary_cross_entropy": classification.binary_cross_entropy,
    "cross_entropy": classification.cross_entropy,
    "hinge": ranking.hinge,
    "mha_fusion": mha_fusion.mha_fusion,
    "pr_net_cross_entropy": pr_net.pr_net_cross_entropy,
    "pr_net_ranking": pr_net.pr_net_ranking,
    "pr_net_triplet": pr_net.pr_net_triplet,
    "reconstruction": reconstruction.reconstruction,
}
"""Name → function of scores, batch and targets; what it takes by keyword besides are its settings."""


def objective(name: str, **settings: Any) -> Objective:
    """The row of that name with its settings bound; errors list what there is."""
    if name not in OBJECTIVES:
        raise KeyError(f"no objective is called {name!r}; there are {', '.join(sorted(OBJECTIVES))}")
    found = OBJECTIVES[name]
    known = [p.name for p in inspect.signature(found).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    return partial(found, **settings)
