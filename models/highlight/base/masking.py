"""Sequences of unequal length in one tensor: norms that padding cannot touch, weights over what
exists, equal lengths.

Refuses to know what a position shows.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

WeightKind = Literal["sigmoid", "softmax", "linear"]


class MaskedBatchNorm(nn.Module):
    """Batch norm of 1, 2 or 3 dimensions whose statistics are those of the positions that exist, in
    training too.

    Without padding it is `nn.BatchNorm1d`, `2d` or `3d`. A batch with a single value for each
    channel has no variance: it is normed with the running statistics, and leaves them alone.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, C, T, ...)` and `(N, T)` bool → the same shape, zero outside the mask."""
        rows = x.transpose(1, 2)[mask]
        values = rows.unsqueeze(-1).flatten(2)  # (M, C, cells), of which there may be one
        norm = self.norm
        if self.training and rows.numel() <= norm.num_features:
            values = F.batch_norm(
                values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        else:
            values = norm(values)
        out = values.new_zeros(x.transpose(1, 2).shape)
        out[mask] = values.reshape(rows.shape)
        return out.transpose(1, 2)


def masked_softmax(logits: Tensor, mask: Tensor, kind: WeightKind) -> Tensor:
    """`(N, T)` and `(N, T)` bool → weights of the last axis, zero outside the mask; all zero where
    nothing exists.
    """
    if kind == "sigmoid":
        logits = logits.sigmoid()
    elif kind == "softmax":
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1)
    return logits * mask


def resample_positions(mask: Tensor, length: int, *, cuts: bool) -> tuple[Tensor, Tensor]:
    """Which positions of each sequence stand where when all get `length` positions: `(N, length)`
    int64 and bool.

    A sequence with n ≤ `length` positions keeps them, in order, from the start on. A longer one
    gives the middles of `length` equal parts, position ⌊(i + ½) n / length⌋, or with `cuts` its
    first `length` positions. The second answer says which places are filled; where it is false the
    first is 0.
    """
    count = mask.sum(1, keepdim=True)
    place = torch.arange(length, device=mask.device).unsqueeze(0)
    filled = place < count
    spread = torch.where(count > length, (2 * place + 1) * count // (2 * length), place)
    order = mask.int().argsort(
        dim=1, descending=True, stable=True
    )  # those that exist, in order, then the others
    chosen = (
        (place if cuts else spread).expand(len(mask), length).clamp(max=max(mask.shape[1] - 1, 0))
    )
    return torch.where(filled, order.gather(1, chosen), 0), filled


def gather_positions(values: Tensor, rows: Tensor, filled: Tensor) -> Tensor:
    """`(N, T, ...)` and what `resampled` answers → `(N, length, ...)`, zero where nothing is
    filled.
    """
    index = torch.arange(len(values), device=values.device).unsqueeze(1)
    return values[index, rows] * filled.reshape(*filled.shape, *[1] * (values.dim() - 2))
