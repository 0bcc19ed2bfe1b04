"""Batches for training on two domains: sets sampled from whole videos of two loaders.

The sets follow from the seed and the number of the batch, so that a training that was interrupted
resumes with the sets that it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.base.tensors import map_tensors
from trainer.data import DeviceBatch, Loader, to_device
from trainer.losses.set_based.domain_steps import (
    DomainBatch,
    SetSampling,
    sample_one_domain,
    sample_two_domains,
)


@dataclass(frozen=True)
class DomainBatchSettings:
    """How domain batches are made."""

    sampling: SetSampling
    seed: int
    epochs: int
    """Epochs of the whole training: a batch holds the share of it that is done."""
    device: str = "cpu"
    rank: int = 0


class DomainBatchLoader:
    """Iterates over the rest of the first loader's epoch; the second loader repeats endlessly."""

    def __init__(self, first: Loader, second: Loader | None, settings: DomainBatchSettings) -> None:
        self.first, self.second, self.settings = first, second, settings
        self._second_batches = None if second is None else _endless(second)
        self.done = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.first)

    def __iter__(self) -> Iterator[DomainBatch]:
        for first in self.first:
            second = None
            if self._second_batches is not None:
                second = next(self._second_batches)
            self.done += 1
            yield self._domain_batch(first, second)

    def state_dict(self) -> dict[str, Any]:
        """The positions of both loaders, and the number of batches so far."""
        second = None if self.second is None else self.second.state_dict()
        return {"first": self.first.state_dict(), "second": second, "done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume at `state`. Raises SettingsError if it belongs to other examples."""
        self.first.load_state_dict(state["first"])
        if self.second is not None:
            self.second.load_state_dict(state["second"] or {})
            self._second_batches = _endless(self.second)
        self.done = state["done"]

    def _domain_batch(self, first: DeviceBatch, second: DeviceBatch | None) -> DomainBatch:
        settings, device = self.settings, self.settings.device
        seed = _batch_seed(settings.seed, settings.rank, self.done)
        generator = torch.Generator().manual_seed(seed)
        last_batch = len(self) * settings.epochs - 1
        progress = min(1.0, (self.done - 1) / max(1, last_batch))
        source, targets = to_device(first.batch, device), to_device(first.targets, device)
        source_anchors = _anchors(first, device)
        if second is None:
            return sample_one_domain(
                source, targets, settings.sampling, generator, progress, source_anchors
            )
        target, target_anchors = to_device(second.batch, device), _anchors(second, device)
        # The last batch of an epoch may be smaller: rows of both batches belong together in pairs.
        count = min(len(source.mask), len(target.mask))

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:count]

        return sample_two_domains(
            map_tensors(source, cut),
            map_tensors(targets, cut),
            map_tensors(target, cut),
            settings.sampling,
            generator,
            progress,
            (
                None if source_anchors is None else cut(source_anchors),
                None if target_anchors is None else cut(target_anchors),
            ),
        )


def _endless(loader: Loader) -> Iterator[DeviceBatch]:
    while True:
        yield from loader


def _batch_seed(seed: int, rank: int, number: int) -> int:
    # `SeedSequence` mixes the three numbers; torch takes seeds of 63 bits.
    return int(np.random.SeedSequence([seed, rank, number]).generate_state(1, np.uint64)[0] >> 1)


def _anchors(loaded: DeviceBatch, device: str) -> Tensor | None:
    # Either all examples of a dataset have an anchor, or none has.
    anchors = [example.anchor for example in loaded.examples]
    return None if None in anchors else torch.tensor(anchors, device=device)
