"""Sampling of sets from videos, and of sets mixed from two videos.

Sources: Set-based Learning (ICCV 2021) and its released code, named in
`models.highlight.base.set_transformer`; MINI-Net's code, named in
`models.highlight.generic.mini_net`. All functions depend only on their arguments.

The paper draws N = 20 segments at random (`random_sets`); the code takes 2 to 21 neighbours around
an anchor (`window_sets`). The paper mixes both videos half and half; the code draws the share of
the target from 0.3 to 0.7.

Letters in shapes: those of `contract.py`; N positions of a set. Sets are positions `(B, N)` int64,
-1 where a set is smaller.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets


def random_sets(mask: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` positions of each video without repetition; all positions of a shorter video.

    The paper does not mention shorter videos.
    """
    # Drawn on the CPU, then moved: the same sets on every device.
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
    """An anchor with r positions before and after it, r from 1 to `largest_radius`.

    Windows are cut at the ends of the video. `anchors` `(B,)` counts existing positions from 0;
    without it they are drawn. In the released code every segment of every video is an anchor once
    per epoch, so that long videos come more often.
    """
    counts = mask.sum(dim=1)
    if anchors is None:
        anchors = (torch.rand(len(mask), generator=generator).to(mask.device) * counts).long()
    radius = torch.randint(1, largest_radius + 1, (len(mask),), generator=generator).to(mask.device)
    first = (anchors - radius).clamp(min=0)
    ranks = first[:, None] + torch.arange(2 * largest_radius + 1, device=mask.device)
    last = (anchors + radius)[:, None]
    is_in_window = (ranks <= last) & (ranks < counts[:, None])
    return _at_ranks(mask, ranks, is_in_window)


def bags(mask: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """MINI-Net's bags of exactly `size` positions.

    The positions of a short video are repeated; those of a long one are drawn without repetition.
    """
    counts = mask.sum(dim=1, keepdim=True)
    ranks = torch.arange(size, device=mask.device) % counts.clamp(min=1)
    repeated = _at_ranks(mask, ranks, (counts > 0).expand_as(ranks))
    missing_columns = max(0, size - mask.shape[1])
    drawn = functional.pad(random_sets(mask, size, generator), (0, missing_columns), value=-1)
    return torch.where(counts <= size, repeated, drawn)


def mixed_positions(
    source: Tensor,
    target: Tensor,
    generator: torch.Generator,
    *,
    lowest: float = 0.5,
    highest: float = 0.5,
) -> Tensor:
    """Mixed sets of pairs of videos with masks `(B, S)` and `(B, T)`.

    Positions count through the source and then the target: those below S belong to the source. A
    mixed set is as large as the smaller video. A share of it, drawn from `lowest` to `highest`,
    comes from the target, rounded down and at least one position.
    """
    if len(source) != len(target):
        raise ValueError(
            f"each source video is mixed with one target video; got {len(source)} and {len(target)}"
        )
    check_share(lowest, highest)
    sizes = torch.minimum(source.sum(dim=1), target.sum(dim=1))
    shares = lowest + (highest - lowest) * torch.rand(
        len(source), generator=generator, dtype=torch.float64
    )
    target_counts = (sizes * shares.to(sizes.device)).long().clamp(min=1)
    source_counts = (sizes - target_counts)[:, None]
    largest = int(sizes.max())
    columns = torch.arange(largest, device=source.device).expand(len(source), -1)
    from_source = random_sets(source, largest, generator)
    from_target = random_sets(target, largest, generator) + source.shape[1]
    # The first columns of a set come from the source, the others from the target.
    target_columns = (columns - source_counts).clamp(min=0)
    is_source = columns < source_counts
    positions = torch.where(is_source, from_source, from_target.gather(1, target_columns))
    return positions.where(columns < sizes[:, None], -1)


def check_share(lowest: float, highest: float) -> None:
    """Raise ValueError unless 0 <= `lowest` <= `highest` <= 1."""
    if not 0 <= lowest <= highest <= 1:
        raise ValueError(f"0 <= lowest <= highest <= 1 must hold; got {lowest} and {highest}")


def mix_sets(
    source: Batch,
    target: Batch,
    generator: torch.Generator,
    *,
    lowest: float = 0.5,
    highest: float = 0.5,
) -> tuple[Batch, Tensor]:
    """A mixed set for each pair of videos, and `(B, N)` bool: the positions of the target."""
    positions = mixed_positions(source.mask, target.mask, generator, lowest=lowest, highest=highest)
    features = {
        key: torch.cat([source.features[key], target.features[key]], dim=1)
        for key in source.features
    }
    concatenated = replace(
        source,
        features=features,
        mask=torch.cat([source.mask, target.mask], dim=1),
        spans=torch.cat([source.spans, target.spans], dim=1),
    )
    return gather_positions(concatenated, positions), positions >= source.mask.shape[1]


def gather_positions(batch: Batch, positions: Tensor) -> Batch:
    """The batch with only these positions; the history stays."""
    return replace(
        batch,
        features={key: _gather(values, positions) for key, values in batch.features.items()},
        mask=_gather(batch.mask, positions),
        spans=_gather(batch.spans, positions),
    )


def gather_targets(targets: Targets, positions: Tensor) -> Targets:
    """The targets with only these positions; a pair remains if both of its positions do."""
    length = targets.labels.shape[1]
    # `(B, T + 1)`: the new place of each position, or -1. The last column stands for "no position"
    # (-1), which cannot be an index.
    new_places = torch.full((len(positions), length + 1), -1, device=positions.device)
    places = torch.arange(positions.shape[1], device=positions.device).expand_as(positions)
    new_places.scatter_(1, positions.where(positions >= 0, length), places)
    new_places[:, -1] = -1
    old_pairs = targets.pairs.where(targets.pairs >= 0, length)
    pairs = new_places.gather(1, old_pairs.flatten(1)).view_as(targets.pairs)
    pairs = pairs.masked_fill((pairs < 0).any(dim=-1, keepdim=True), -1)
    return replace(
        targets,
        labels=_gather(targets.labels, positions),
        positive=_gather(targets.positive, positions),
        pairs=pairs,
    )


def _at_ranks(mask: Tensor, ranks: Tensor, exists: Tensor) -> Tensor:
    """The positions with these numbers among those in the mask; -1 where `exists` is false."""
    # A stable sort by "is padding" lists the existing positions first, in their order.
    order = (~mask).byte().argsort(dim=1, stable=True)
    return order.gather(1, ranks.clamp(0, mask.shape[1] - 1)).where(exists, -1)


def _gather(values: Tensor, positions: Tensor) -> Tensor:
    """`(B, T, ...)` → `(B, N, ...)`: the values at the positions, 0 where there is none."""
    rows = torch.arange(len(positions), device=positions.device)[:, None]
    gathered = values[rows, positions.clamp(min=0)]
    is_missing = (positions < 0).view(*positions.shape, *[1] * (gathered.ndim - 2))
    return gathered.masked_fill(is_missing, 0)
