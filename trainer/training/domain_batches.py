"""Rounds of training on two batches: sets drawn from whole videos of two loaders, from any place of
an epoch on.

What is drawn follows from the seed and the number of the round alone, so that a training that was
broken off goes on with the sets it would have seen. Refuses to know networks and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets
from trainer.data import DeviceBatch, Loader, to_device
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    SetSampling,
    sample_one_domain,
    sample_two_domains,
)

T = TypeVar("T", Batch, Targets)


@dataclass(frozen=True)
class DomainBatchSettings:
    """How rounds are made."""

    rules: SetSampling
    seed: int
    epochs: int
    """Of the whole training: what share of it is done is part of a round."""
    device: str = "cpu"
    rank: int = 0


class DomainBatchLoader:
    """`for domains in rounds`: the rest of the first loader's epoch; the second goes round and
    round beside it.
    """

    def __init__(self, first: Loader, second: Loader | None, settings: DomainBatchSettings) -> None:
        self.first, self.second, self.settings = first, second, settings
        self._beside = None if second is None else _endless(second)
        self.done = 0

    def __len__(self) -> int:
        """Rounds of a whole epoch."""
        return len(self.first)

    def __iter__(self) -> Iterator[DomainBatch]:
        for loaded in self.first:
            beside = None if self._beside is None else next(self._beside)
            self.done += 1
            yield self._round(loaded, beside)

    def state_dict(self) -> dict[str, Any]:
        """Where both loaders stand, and how many rounds there were."""
        second = None if self.second is None else self.second.state_dict()
        return {"first": self.first.state_dict(), "second": second, "done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. Raises SettingsError if it is of other examples."""
        self.first.load_state_dict(state["first"])
        if self.second is not None:
            self.second.load_state_dict(state["second"] or {})
            self._beside = _endless(self.second)
        self.done = state["done"]

    def _round(self, loaded: DeviceBatch, beside: DeviceBatch | None) -> DomainBatch:
        settings = self.settings
        generator = torch.Generator().manual_seed(
            _batch_seed(settings.seed, settings.rank, self.done)
        )
        progress = min(1.0, (self.done - 1) / max(1, len(self) * settings.epochs - 1))
        first, truth = (
            to_device(loaded.batch, settings.device),
            to_device(loaded.targets, settings.device),
        )
        anchors = _anchors(loaded, settings.device)
        if beside is None:
            return sample_one_domain(first, truth, settings.rules, generator, progress, anchors)
        second, others = to_device(beside.batch, settings.device), _anchors(beside, settings.device)
        count = min(len(first.mask), len(second.mask))
        return sample_two_domains(
            _first_rows(first, count),
            _first_rows(truth, count),
            _first_rows(second, count),
            settings.rules,
            generator,
            progress,
            (
                None if anchors is None else anchors[:count],
                None if others is None else others[:count],
            ),
        )


def _endless(loader: Loader) -> Iterator[DeviceBatch]:
    while True:
        yield from loader


def _batch_seed(seed: int, rank: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, rank, number]).generate_state(1, np.uint64)[0] >> 1)


def _anchors(loaded: DeviceBatch, device: str) -> Tensor | None:
    anchors = [example.anchor for example in loaded.examples]
    return None if None in anchors else torch.tensor(anchors, device=device)


def _first_rows(part: T, count: int) -> T:
    """A batch's, or its targets', first rows."""
    return replace(part, **{one.name: _cut(getattr(part, one.name), count) for one in fields(part)})


def _cut(value: Any, count: int) -> Any:
    return (
        value[:count]
        if isinstance(value, Tensor)
        else {key: tensor[:count] for key, tensor in value.items()}
    )
