"""Small random batches for highlight models, as a loader would hand them over; and what tests of
such models share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from models.highlight.base.contract import Batch

Shapes = Mapping[str, tuple[int, ...]]


def random_batch(
    shapes: Shapes,
    lengths: Sequence[int],
    clips: Sequence[Sequence[int]],
    *,
    seed: int = 0,
    positions: int = 0,
) -> Batch:
    """Users whose targets have `lengths` rows, and whose clips have so many rows each; zeros fill
    the rest.

    `positions` makes targets, histories and clips that much longer than they need be.
    """
    generator = torch.Generator().manual_seed(seed)
    total = max(lengths) + positions
    count = max(map(len, clips)) + positions
    rows = max((row for user in clips for row in user), default=0) + positions
    mask = torch.arange(total) < torch.tensor(lengths).unsqueeze(1)
    history_mask = torch.zeros(len(clips), count, rows, dtype=torch.bool)
    features = {key: torch.zeros(len(lengths), total, *shape) for key, shape in shapes.items()}
    history = {key: torch.zeros(len(clips), count, rows, *shape) for key, shape in shapes.items()}
    for user, (length, liked) in enumerate(zip(lengths, clips, strict=True)):
        for number, length_of_clip in enumerate(liked):
            history_mask[user, number, :length_of_clip] = True
        for key, shape in shapes.items():
            features[key][user, :length] = torch.randn(length, *shape, generator=generator)
            for number, length_of_clip in enumerate(liked):
                clip = torch.randn(length_of_clip, *shape, generator=generator)
                history[key][user, number, :length_of_clip] = clip
    spans, history_spans = (
        torch.zeros(*mask.shape, 2).double(),
        torch.zeros(*history_mask.shape, 2).double(),
    )
    return Batch(features, mask, spans, history, history_mask, history_spans)


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """The elements of every history in another order."""
    places = list(order)
    history = {key: values[:, places] for key, values in batch.history.items()}
    spans = batch.history_spans[:, places]
    return replace(
        batch, history=history, history_mask=batch.history_mask[:, places], history_spans=spans
    )


def without_history(batch: Batch) -> Batch:
    """As a loader hands over users who marked nothing: K is 0."""
    history = {key: values[:, :0] for key, values in batch.history.items()}
    return replace(
        batch,
        history=history,
        history_mask=batch.history_mask[:, :0],
        history_spans=batch.history_spans[:, :0],
    )


def without_gradient(model: nn.Module) -> set[str]:
    """Names of parameters that the last backward pass did not reach, or reached with nothing but
    zeros.
    """
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or float(parameter.grad.abs().max()) < 1e-9
    }


def count_parameters(model: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in model.parameters())
