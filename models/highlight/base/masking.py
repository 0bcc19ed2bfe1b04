"""Padded sequences in one tensor: batch norm, softmax and resampling that ignore the padding."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

WeightKind = Literal["sigmoid", "softmax", "linear"]


class MaskedBatchNorm(nn.Module):
    """Batch norm of 1, 2 or 3 dimensions with the statistics of the positions that exist.

    Without padding it equals `nn.BatchNorm1d`, `2d` or `3d`. A batch with a single value for each
    channel has no variance: the running statistics normalise it, and do not change.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, C, T, ...)` and `(N, T)` bool → the same shape, zero outside the mask."""
        rows = x.transpose(1, 2)[mask]  # (M, C, ...), the positions that exist
        values = rows.unsqueeze(-1).flatten(2)  # (M, C, cells); one cell in 1 dimension
        norm = self.norm
        has_variance = rows.numel() > norm.num_features
        if self.training and not has_variance:
            values = F.batch_norm(
                values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        else:
            values = norm(values)
        out = values.new_zeros(x.transpose(1, 2).shape)
        out[mask] = values.reshape(rows.shape)
        return out.transpose(1, 2)


def masked_softmax(logits: Tensor, mask: Tensor, kind: WeightKind) -> Tensor:
    """`(N, T)` and `(N, T)` bool → weights, zero outside the mask.

    They are the logits' sigmoids, their softmax over T, or the logits themselves (linear).
    """
    if kind == "sigmoid":
        logits = logits.sigmoid()
    elif kind == "softmax":
        # The smallest number, and not -inf: a sequence without positions would become NaN.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1)
    return logits * mask


def resample_positions(mask: Tensor, length: int, *, cuts: bool) -> tuple[Tensor, Tensor]:
    """Which position of each sequence goes to each of `length` places.

    Gives `(N, length)` int64 positions, and `(N, length)` bool, the places that are filled; in the
    other places the position is 0. A sequence with n ≤ `length` positions keeps them in order. A
    longer one gives the middles of `length` equal parts, position ⌊(i + ½) n / length⌋, or with
    `cuts` its first `length` positions.
    """
    count = mask.sum(1, keepdim=True)
    place = torch.arange(length, device=mask.device).unsqueeze(0)
    filled = place < count
    middles = (2 * place + 1) * count // (2 * length)
    chosen = place if cuts else torch.where(count > length, middles, place)
    # A stable sort puts the positions that exist first, in order.
    existing_first = mask.int().argsort(dim=1, descending=True, stable=True)
    last = max(mask.shape[1] - 1, 0)
    positions = existing_first.gather(1, chosen.expand(len(mask), length).clamp(max=last))
    return torch.where(filled, positions, 0), filled


def gather_positions(values: Tensor, rows: Tensor, filled: Tensor) -> Tensor:
    """`(N, T, ...)` and the output of `resample_positions` → `(N, length, ...)`, 0 if unfilled."""
    index = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[index, rows] * filled.reshape(*filled.shape, *[1] * (values.dim() - 2))
