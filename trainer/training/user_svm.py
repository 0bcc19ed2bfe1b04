"""Weights of one user: a ranking SVM on the user's history, fitted before a target is scored.

For Residual (PHD-GIFs, section 5.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.highlight.personalized.linear_rankers import LinearRanker
from storage.base.errors import SettingsError
from trainer.data import (
    DeviceBatch,
    HighlightData,
    HighlightDataset,
    Loader,
    LoaderSettings,
    to_device,
)
from trainer.data.user_examples import Example
from trainer.training import ranking_svm
from trainer.training.stages import concatenate_differences


class UserSVM:
    """Fits the weights of a batch's user; called before the batch is scored."""

    def __init__(self, data: HighlightData, split: Any, seed: int, device: str) -> None:
        self._seed, self._device = seed, device
        self._all = data.training(split)
        self._numbers_of: Mapping[str, list[int]] = _numbers_by_user(self._all.example_set.examples)
        self._generic_weights: dict[str, torch.Tensor] | None = None

    def __call__(self, model: nn.Module, loaded: DeviceBatch) -> None:
        """Set the user's weights; a user without pairs in the history gets the generic score."""
        if not isinstance(model, LinearRanker) or len(loaded.examples) != 1:
            raise SettingsError(
                (
                    "the stage per_user needs a linear ranker and one user per batch: "
                    "set training.scoring_batch_size = 1",
                )
            )
        # The weights of the user before must not stay: they would be this user's generic part.
        if self._generic_weights is None:
            state = model.linear.state_dict()
            self._generic_weights = {name: value.clone() for name, value in state.items()}
        model.linear.load_state_dict(self._generic_weights)
        history = self._history(loaded.examples[0])
        if not len(history):
            return
        differences = self._pair_differences(model, history)
        if len(differences):
            settings = ranking_svm.RankingSVMSettings(seed=self._seed)
            weights = ranking_svm.fit(differences, settings)
            ranking_svm.set_linear_weights(model.linear, weights)

    def _pair_differences(
        self, model: LinearRanker, history: HighlightDataset
    ) -> NDArray[np.float32]:
        """`(N, F)`: descriptor differences of the pairs in the user's history."""
        parts = []
        with torch.inference_mode():
            for batch, targets, _ in Loader(history, LoaderSettings(1, seed=self._seed)):
                descriptors = model.descriptors(to_device(batch, self._device))
                pairs = targets.pairs.to(self._device)
                parts.append(ranking_svm.pair_differences(descriptors, pairs))
        return concatenate_differences(parts)

    def _history(self, target: Example) -> HighlightDataset:
        """The examples of the user, without the target video."""
        everything = self._all.example_set
        numbers = []
        for number in self._numbers_of[target.user_id]:
            if everything.examples[number].video_id != target.video_id:
                numbers.append(number)
        history = replace(
            everything, examples=tuple(everything.examples[number] for number in numbers)
        )
        shards = self._all.shards[numbers]
        return HighlightDataset(self._all.reader, history, shards, self._all.notes)


def _numbers_by_user(examples: tuple[Example, ...]) -> Mapping[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        numbers[example.user_id].append(number)
    return numbers
