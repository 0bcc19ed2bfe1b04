"""Sets of positions drawn from videos, and sets mixed from two videos: pure functions of a batch
and a generator.

Sources: Set-based Learning (ICCV 2021) and its released code, named in
`models.highlight.base.set_transformer`; MINI-Net's code, named in
`models.highlight.generic.mini_net`. Refuses to know networks and losses.

The paper draws N = 20 segments at random (`random_sets`); the code takes a stretch of 2 to 21
around an anchor (`window_sets`). The paper mixes both videos half and half; the code draws the
share of the target from 0.3 to 0.7. Letters in shapes: those of `contract.py`; N positions of a
set. Places are `(B, N)` int64, -1 where a set is smaller.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets


def random_sets(mask: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` places of each video without repetition, all of them in a shorter one (of which the
    paper is silent).
    """
    keys = torch.rand(mask.shape, generator=generator).to(mask.device)
    order = keys.masked_fill(~mask, torch.inf).argsort(dim=1)[:, :size]
    return order.where(mask.gather(1, order), -1)


def window_sets(
    mask: Tensor,
    generator: torch.Generator,
    *,
    largest_radius: int = 10,
    anchors: Tensor | None = None,
) -> Tensor:
    """The r places before and after an anchor and itself, r from 1 to `largest_radius`, cut at the
    ends of the video.

    `anchors` `(B,)` counts existing places from 0 and is drawn where it is left out. The code takes
    each segment of each video once an epoch, so that long videos come more often.
    """
    counts = mask.sum(dim=1)
    if anchors is None:
        anchors = (torch.rand(len(mask), generator=generator).to(mask.device) * counts).long()
    radius = torch.randint(1, largest_radius + 1, (len(mask),), generator=generator).to(mask.device)
    first = (anchors - radius).clamp(min=0)
    ranks = first[:, None] + torch.arange(2 * largest_radius + 1, device=mask.device)
    return _at_ranks(
        mask, ranks, (ranks <= (anchors + radius)[:, None]) & (ranks < counts[:, None])
    )


def bags(mask: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """MINI-Net's bags of exactly `size`: a short video over and over, a long one at random without
    repetition.
    """
    counts = mask.sum(dim=1, keepdim=True)
    ranks = torch.arange(size, device=mask.device) % counts.clamp(min=1)
    repeated = _at_ranks(mask, ranks, (counts > 0).expand_as(ranks))
    drawn = functional.pad(
        random_sets(mask, size, generator), (0, max(0, size - mask.shape[1])), value=-1
    )
    return torch.where(counts <= size, repeated, drawn)


def mixed_positions(
    source: Tensor,
    target: Tensor,
    generator: torch.Generator,
    *,
    lowest: float = 0.5,
    highest: float = 0.5,
) -> Tensor:
    """Places in videos laid end to end, source `(B, S)` before target `(B, T)`: those below S are
    of the source.

    A mixed set is as large as the smaller of both; a share of it, drawn from `lowest` to `highest`,
    is of the target, rounded down and at least one.
    """
    if len(source) != len(target):
        raise ValueError(
            f"each source video is mixed with one target video; got {len(source)} and {len(target)}"
        )
    if not 0 <= lowest <= highest <= 1:
        raise ValueError(f"0 <= lowest <= highest <= 1 must hold; got {lowest} and {highest}")
    sizes = torch.minimum(source.sum(dim=1), target.sum(dim=1))
    shares = lowest + (highest - lowest) * torch.rand(
        len(source), generator=generator, dtype=torch.float64
    )
    of_target = (sizes * shares.to(sizes.device)).long().clamp(min=1)
    largest = int(sizes.max())
    columns = torch.arange(largest, device=source.device).expand(len(source), -1)
    of_source = (sizes - of_target)[:, None]
    sources = random_sets(source, largest, generator)
    targets = random_sets(target, largest, generator) + source.shape[1]
    places = torch.where(
        columns < of_source, sources, targets.gather(1, (columns - of_source).clamp(min=0))
    )
    return places.where(columns < sizes[:, None], -1)


def mix_sets(
    source: Batch,
    target: Batch,
    generator: torch.Generator,
    *,
    lowest: float = 0.5,
    highest: float = 0.5,
) -> tuple[Batch, Tensor]:
    """A mixed set for each pair of videos, and `(B, N)` bool: what is of the target."""
    places = mixed_positions(source.mask, target.mask, generator, lowest=lowest, highest=highest)
    end_to_end = replace(
        source,
        features={
            key: torch.cat([source.features[key], target.features[key]], dim=1)
            for key in source.features
        },
        mask=torch.cat([source.mask, target.mask], dim=1),
        spans=torch.cat([source.spans, target.spans], dim=1),
    )
    return gather_positions(end_to_end, places), places >= source.mask.shape[1]


def gather_positions(batch: Batch, places: Tensor) -> Batch:
    """The batch with the positions at those places alone; the history stays."""
    return replace(
        batch,
        features={key: _gather(values, places) for key, values in batch.features.items()},
        mask=_gather(batch.mask, places),
        spans=_gather(batch.spans, places),
    )


def gather_targets(targets: Targets, places: Tensor) -> Targets:
    """The targets of `take`'s positions; of pairs those remain of which both are in the set."""
    counts = targets.labels.shape[1]
    now = torch.full(
        (len(places), counts + 1), -1, device=places.device
    )  # one column more takes what is no place
    now.scatter_(
        1,
        places.where(places >= 0, counts),
        torch.arange(places.shape[1], device=places.device).expand_as(places),
    )
    now[:, -1] = -1
    pairs = now.gather(1, targets.pairs.where(targets.pairs >= 0, counts).flatten(1)).view_as(
        targets.pairs
    )
    pairs = pairs.masked_fill((pairs < 0).any(dim=-1, keepdim=True), -1)
    labels, positive = _gather(targets.labels, places), _gather(targets.positive, places)
    return replace(targets, labels=labels, positive=positive, pairs=pairs)


def _at_ranks(mask: Tensor, ranks: Tensor, exists: Tensor) -> Tensor:
    """The places of existing positions counted from 0."""
    order = (~mask).byte().argsort(dim=1, stable=True)
    return order.gather(1, ranks.clamp(0, mask.shape[1] - 1)).where(exists, -1)


def _gather(values: Tensor, places: Tensor) -> Tensor:
    rows = torch.arange(len(places), device=places.device)[:, None]
    found = values[rows, places.clamp(min=0)]
    return found.masked_fill((places < 0).view(*places.shape, *[1] * (found.ndim - 2)), 0)
