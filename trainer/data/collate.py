"""Samples of unequal sizes become one batch: zero-padded, with masks.

Numbers stored as float16 become float32 as they are copied, on a GPU after they were; pictures'
bytes stay uint8. Refuses to know where samples come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets
from trainer.data.dataset import Positions, Sample
from trainer.data.user_examples import Example

T = TypeVar("T", Batch, Targets)


class DeviceBatch(NamedTuple):
    """What a loader yields."""

    batch: Batch
    targets: Targets
    examples: tuple[Example, ...]
    """Whose row of the batch is whose: scores are filed under these."""


@dataclass(frozen=True)
class Collate:
    """Makes batches of arrays with these shapes and dtypes."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    has_history: bool

    def __call__(self, samples: Sequence[Sample]) -> DeviceBatch:
        """Pad to the longest video, the most elements of a history and the longest element of the
        batch.
        """
        targets = [[sample.target] for sample in samples]
        features, mask, spans = self._padded(targets, self.shapes)
        shapes = self.shapes if self.has_history else {}
        history, history_mask, history_spans = self._padded(
            [sample.history for sample in samples], shapes
        )
        flat = {key: array[:, 0] for key, array in features.items()}
        batch = Batch(flat, mask[:, 0], spans[:, 0], history, history_mask, history_spans)
        return DeviceBatch(
            batch, _targets(samples, mask[:, 0]), tuple(sample.example for sample in samples)
        )

    def _padded(
        self, groups: Sequence[Sequence[Positions]], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """`(B, K, L, ...)` of each array, mask and spans, for K elements of up to L positions."""
        most = max((len(group) for group in groups), default=0)
        longest = max((len(element) for group in groups for element in group), default=0)
        sizes = (len(groups), most, longest)
        arrays = {
            key: torch.zeros(*sizes, *shape, dtype=self.dtypes[key])
            for key, shape in shapes.items()
        }
        mask, spans = (
            torch.zeros(sizes, dtype=torch.bool),
            torch.zeros(*sizes, 2, dtype=torch.float64),
        )
        for row, group in enumerate(groups):
            for place, element in enumerate(group):
                mask[row, place, : len(element)] = True
                spans[row, place, : len(element)] = torch.from_numpy(element.spans)
                for key, array in arrays.items():
                    array[row, place, : len(element)].copy_(torch.from_numpy(element.arrays[key]))
        return arrays, mask, spans


def _targets(samples: Sequence[Sample], mask: Tensor) -> Targets:
    labels = torch.zeros(mask.shape, dtype=torch.float32)
    for row, sample in enumerate(samples):
        labels[row, : len(sample.labels)] = torch.from_numpy(sample.labels)
    return Targets(
        labels, labels > 0, torch.from_numpy(np.stack([sample.pairs for sample in samples]))
    )


def to_device(part: T, device: torch.device | str) -> T:
    """A batch or its targets with every tensor on `device`; float16 becomes float32 there."""
    return replace(
        part, **{one.name: _move_to_device(getattr(part, one.name), device) for one in fields(part)}
    )


def _move_to_device(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        there = value.to(device, non_blocking=True)
        return there.float() if there.dtype == torch.float16 else there
    return {key: _move_to_device(tensor, device) for key, tensor in value.items()}


def tensors_of(part: Batch | Targets) -> list[Tensor]:
    """Every tensor of a batch or its targets."""
    values = [getattr(part, one.name) for one in fields(part)]
    return [
        tensor
        for value in values
        for tensor in ([value] if isinstance(value, Tensor) else value.values())
    ]
