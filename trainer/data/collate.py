"""Batches: samples of unequal sizes, zero-padded, with masks.

Rows stored as float16 become float32 as they are copied, on a GPU after the copy. Frames stay
uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets
from trainer.base.tensors import map_tensors
from trainer.data.dataset import Positions, Sample
from trainer.data.user_examples import Example

T = TypeVar("T", Batch, Targets)


class DeviceBatch(NamedTuple):
    """A batch as a loader yields it."""

    batch: Batch
    targets: Targets
    examples: tuple[Example, ...]
    """The example of each row of the batch."""


@dataclass(frozen=True)
class Collate:
    """Makes batches of arrays with these shapes and dtypes."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    has_history: bool

    def __call__(self, samples: Sequence[Sample]) -> DeviceBatch:
        """A batch, padded to its longest video, its longest history and its longest element."""
        # A target is padded as a history of one element, whose axis is then removed.
        targets = [[sample.target] for sample in samples]
        features, mask, spans = self._padded(targets, self.shapes)
        target = {key: array[:, 0] for key, array in features.items()}
        histories = [sample.history for sample in samples]
        history_shapes = self.shapes if self.has_history else {}
        history, history_mask, history_spans = self._padded(histories, history_shapes)
        batch = Batch(target, mask[:, 0], spans[:, 0], history, history_mask, history_spans)
        examples = tuple(sample.example for sample in samples)
        return DeviceBatch(batch, _targets(samples, mask[:, 0]), examples)

    def _padded(
        self, groups: Sequence[Sequence[Positions]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Arrays `(B, K, L, ...)` by key, mask `(B, K, L)` and spans `(B, K, L, 2)`.

        K is the largest number of elements, L the largest number of positions of an element.
        """
        most_elements = max((len(group) for group in groups), default=0)
        longest = max((len(element) for group in groups for element in group), default=0)
        sizes = (len(groups), most_elements, longest)
        arrays = {
            key: torch.zeros(*sizes, *shape, dtype=self.dtypes[key])
            for key, shape in shapes.items()
        }
        mask = torch.zeros(sizes, dtype=torch.bool)
        spans = torch.zeros(*sizes, 2, dtype=torch.float64)
        for row, group in enumerate(groups):
            for place, element in enumerate(group):
                length = len(element)
                mask[row, place, :length] = True
                spans[row, place, :length] = torch.from_numpy(element.spans)
                for key, array in arrays.items():
                    # `copy_` converts float16 while it copies: no second array in memory.
                    array[row, place, :length].copy_(torch.from_numpy(element.arrays[key]))
        return arrays, mask, spans


def _targets(samples: Sequence[Sample], mask: Tensor) -> Targets:
    labels = torch.zeros(mask.shape, dtype=torch.float32)
    for row, sample in enumerate(samples):
        labels[row, : len(sample.labels)] = torch.from_numpy(sample.labels)
    # Every sample has the same number of pairs, padded with -1, so they can be stacked.
    pairs = torch.from_numpy(np.stack([sample.pairs for sample in samples]))
    return Targets(labels, labels > 0, pairs)


def to_device(part: T, device: torch.device | str) -> T:
    """A batch or its targets with every tensor on `device`; float16 becomes float32 there."""

    def move(tensor: Tensor) -> Tensor:
        moved = tensor.to(device, non_blocking=True)
        # Converted after the copy: half the bytes go to the GPU.
        return moved.float() if moved.dtype == torch.float16 else moved

    return map_tensors(part, move)


def tensors_of(part: Batch | Targets) -> list[Tensor]:
    """Every tensor of a batch or its targets."""
    tensors: list[Tensor] = []
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            tensors.append(value)
        else:
            tensors.extend(value.values())
    return tensors
