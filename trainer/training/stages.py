"""The stages that fitting a system consists of, by name, as recipes list them.

    gradient            the loop, on the whole network or on the part `first` of a late fusion
    ranking_svm         a ranking SVM gives the linear part (`linear`, or `second` of a late fusion)
    its weights latent_ranking_svm  the same, with the better half of each video's highlights found
    on the way (LSVM) fusion              ω of a late fusion, by a ranking SVM on pairs of
    validation videos per_user            nothing to do now: each user's own weights are fitted on
    their history when they are scored

Refuses to know files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.highlight.personalized.linear_rankers import LinearRanker
from storage.base.errors import SettingsError
from trainer.config.recipe import Recipe
from trainer.data import DeviceBatch, HighlightData, Loader, LoaderSettings, to_device
from trainer.training import ranking_svm
from trainer.training.latent_svm import LatentSettings, fit_latent_svm

Gradient = Callable[[nn.Module], None]


@dataclass(frozen=True)
class StageContext:
    """What a stage may use."""

    recipe: Recipe
    model: nn.Module
    data: HighlightData
    seed: int
    device: str
    workers: int
    gradient: Gradient
    """Runs the training loop on a network."""


def _gradient(fitting: StageContext) -> None:
    fitting.gradient(getattr(fitting.model, "first", fitting.model))


def _linear_ranker(fitting: StageContext) -> LinearRanker:
    ranker = getattr(fitting.model, "second", fitting.model)
    if not isinstance(ranker, LinearRanker):
        raise SettingsError(
            (
                f"recipe {fitting.recipe.name}: a ranking SVM fits linear rankers, not {type(ranker)}",
            )
        )
    return ranker


def _latent_ranking_svm(fitting: StageContext) -> None:
    ranker = _linear_ranker(fitting)
    settings = LatentSettings(svm=ranking_svm.RankingSVMSettings(seed=fitting.seed))
    ranking_svm.set_linear_weights(
        ranker.linear, fit_latent_svm(ranker, _batches(fitting, "train"), settings)
    )


def _ranking_svm(fitting: StageContext) -> None:
    ranker = _linear_ranker(fitting)
    differences = concatenate_differences(
        ranking_svm.pair_differences(ranker.descriptors(batch), targets.pairs)
        for batch, targets, _ in _batches(fitting, "train")
    )
    ranking_svm.set_linear_weights(
        ranker.linear,
        ranking_svm.fit(differences, ranking_svm.RankingSVMSettings(seed=fitting.seed)),
    )


def _fusion(fitting: StageContext) -> None:
    model: Any = fitting.model
    model.eval()

    def both(loaded: DeviceBatch) -> NDArray[np.float32]:
        parts = model(loaded.batch).parts
        return ranking_svm.pair_differences(
            torch.stack([parts["first"], parts["second"]], dim=-1), loaded.targets.pairs
        )

    differences = concatenate_differences(
        both(loaded) for loaded in _batches(fitting, "validation")
    )
    with torch.no_grad():
        model.omega.fill_(
            ranking_svm.fusion_weight(
                differences, ranking_svm.RankingSVMSettings(seed=fitting.seed)
            )
        )


def _per_user(fitting: StageContext) -> None:
    """Each user is fitted when scored."""


STAGE_FUNCTIONS: dict[str, Callable[[StageContext], None]] = {
    "gradient": _gradient,
    "latent_ranking_svm": _latent_ranking_svm,
    "ranking_svm": _ranking_svm,
    "fusion": _fusion,
    "per_user": _per_user,
}


def run_stages(fitting: StageContext) -> None:
    """All stages of the recipe, in its order."""
    for name in fitting.recipe.stages:
        STAGE_FUNCTIONS[name](fitting)


def concatenate_differences(differences: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All pairs of an epoch."""
    found = list(differences)
    return np.concatenate(found) if found else np.zeros((0, 1), np.float32)


def _batches(fitting: StageContext, split: Any) -> Iterator[DeviceBatch]:
    """One epoch of pairs as training draws them, of the users of a split."""
    settings = LoaderSettings(
        fitting.recipe.training.batch_size, seed=fitting.seed, workers=fitting.workers
    )
    with torch.inference_mode():
        for loaded in Loader(fitting.data.training(split), settings):
            batch, targets = (
                to_device(loaded.batch, fitting.device),
                to_device(loaded.targets, fitting.device),
            )
            yield DeviceBatch(batch, targets, loaded.examples)
