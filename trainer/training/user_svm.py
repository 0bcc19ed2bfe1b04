"""Weights of one user: a ranking SVM on the user's own history videos, put in before the user's
target is scored.

For Residual (PHD-GIFs, section 5.1). Refuses to know how the generic part was trained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
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
    """Called with each batch before it is scored; batches hold one user."""

    def __init__(self, data: HighlightData, split: Any, seed: int, device: str) -> None:
        self._seed, self._device = seed, device
        self._all = data.training(split)
        self._of: Mapping[str, list[int]] = _numbers_by_user(self._all.example_set.examples)
        self._fresh: dict[str, torch.Tensor] | None = None

    def __call__(self, model: nn.Module, loaded: DeviceBatch) -> None:
        """Put the user's weights in; a user without pairs in the history keeps the generic
        score.
        """
        if not isinstance(model, LinearRanker) or len(loaded.examples) != 1:
            raise SettingsError(
                (
                    "per_user fits linear rankers, one user at a time: set training.scoring_batch_size = 1",
                )
            )
        if self._fresh is None:
            self._fresh = {name: value.clone() for name, value in model.linear.state_dict().items()}
        model.linear.load_state_dict(self._fresh)
        history = self._history(loaded.examples[0])
        if not len(history):
            return
        with torch.inference_mode():
            settings = LoaderSettings(batch_size=1, seed=self._seed)
            differences = concatenate_differences(
                ranking_svm.pair_differences(
                    model.descriptors(to_device(batch, self._device)), truth.pairs.to(self._device)
                )
                for batch, truth, _ in Loader(history, settings)
            )
        if len(differences):
            ranking_svm.set_linear_weights(
                model.linear,
                ranking_svm.fit(differences, ranking_svm.RankingSVMSettings(seed=self._seed)),
            )

    def _history(self, target: Example) -> HighlightDataset:
        """What the user marked in every video but the one that is asked about."""
        everything = self._all.example_set.examples
        numbers = [n for n in self._of[target.user_id] if everything[n].video_id != target.video_id]
        found = replace(
            self._all.example_set, examples=tuple(everything[number] for number in numbers)
        )
        return HighlightDataset(self._all.reader, found, self._all.shards[numbers], self._all.notes)


def _numbers_by_user(examples: tuple[Example, ...]) -> Mapping[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        numbers[example.user_id].append(number)
    return numbers
