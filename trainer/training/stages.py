"""The stages of fitting, by the names that recipes use.

gradient            the training loop, on the whole network or on `first` of a late fusion
ranking_svm         a ranking SVM for the linear part (`linear`, or `second` of a late fusion)
latent_ranking_svm  the same, on the better half of each video's highlights (LSVM)
fusion              ω of a late fusion, by a ranking SVM on pairs of validation videos
per_user            nothing to fit here: a user's own weights are fitted when they are scored
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
    """The arguments of every stage."""

    recipe: Recipe
    model: nn.Module
    data: HighlightData
    seed: int
    device: str
    workers: int
    gradient: Gradient
    """Runs the training loop on a network."""


def _gradient(context: StageContext) -> None:
    context.gradient(getattr(context.model, "first", context.model))


def _linear_ranker(context: StageContext) -> LinearRanker:
    ranker = getattr(context.model, "second", context.model)
    if not isinstance(ranker, LinearRanker):
        raise SettingsError(
            (
                f"recipe {context.recipe.name}: a ranking SVM needs a linear ranker, got "
                f"{type(ranker).__name__}; remove the stage",
            )
        )
    return ranker


def _latent_ranking_svm(context: StageContext) -> None:
    ranker = _linear_ranker(context)
    settings = LatentSettings(svm=ranking_svm.RankingSVMSettings(seed=context.seed))
    weights = fit_latent_svm(ranker, _batches(context, "train"), settings)
    ranking_svm.set_linear_weights(ranker.linear, weights)


def _ranking_svm(context: StageContext) -> None:
    ranker = _linear_ranker(context)
    differences = concatenate_differences(
        ranking_svm.pair_differences(ranker.descriptors(batch), targets.pairs)
        for batch, targets, _ in _batches(context, "train")
    )
    settings = ranking_svm.RankingSVMSettings(seed=context.seed)
    ranking_svm.set_linear_weights(ranker.linear, ranking_svm.fit(differences, settings))


def _fusion(context: StageContext) -> None:
    model: Any = context.model
    model.eval()

    def score_differences(loaded: DeviceBatch) -> NDArray[np.float32]:
        parts = model(loaded.batch).parts
        both_scores = torch.stack([parts["first"], parts["second"]], dim=-1)
        return ranking_svm.pair_differences(both_scores, loaded.targets.pairs)

    differences = concatenate_differences(
        score_differences(loaded) for loaded in _batches(context, "validation")
    )
    settings = ranking_svm.RankingSVMSettings(seed=context.seed)
    with torch.no_grad():
        model.omega.fill_(ranking_svm.fusion_weight(differences, settings))


def _per_user(context: StageContext) -> None:
    """Nothing to do: the weights of a user are fitted when the user is scored."""


STAGE_FUNCTIONS: dict[str, Callable[[StageContext], None]] = {
    "gradient": _gradient,
    "latent_ranking_svm": _latent_ranking_svm,
    "ranking_svm": _ranking_svm,
    "fusion": _fusion,
    "per_user": _per_user,
}


def run_stages(context: StageContext) -> None:
    """Run the stages of the recipe in order."""
    for name in context.recipe.stages:
        STAGE_FUNCTIONS[name](context)


def concatenate_differences(differences: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """`(N, F)`: the differences of all pairs of an epoch; `(0, 1)` without a batch."""
    parts = list(differences)
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _batches(context: StageContext, split: Any) -> Iterator[DeviceBatch]:
    """One epoch of batches of a split, with pairs as training draws them."""
    settings = LoaderSettings(
        context.recipe.training.batch_size, seed=context.seed, workers=context.workers
    )
    with torch.inference_mode():
        for loaded in Loader(context.data.training(split), settings):
            batch = to_device(loaded.batch, context.device)
            targets = to_device(loaded.targets, context.device)
            yield DeviceBatch(batch, targets, loaded.examples)
