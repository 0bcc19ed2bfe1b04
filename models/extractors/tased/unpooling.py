"""TASED-Net's unpooling, with a rule for near-ties that rounding cannot change.

The authors put a value where the encoder had its maximum. If two neighbours are equal or nearly
equal (a pool of stride 1 under a 1×1×1 convolution; a still and even part of a picture), the last
bit of a sum decides, and the value jumps by a pixel on another processor, with other threads, in
another memory layout, or on a GPU.

Here the first place within `FULL_SHARE_GAP` of the window's maximum gets the value. Beyond that its
share falls linearly, to nothing at `NO_SHARE_GAP`, and the remainder goes to the next such place;
the maximum itself takes the rest. So the map changes by as much as its input changes, and never
jumps. Both gaps are shares of the largest value of the clip's map, because rounding is proportional
to it. `docs/decisions` has measurements of this and other rules.

Letters: B clips, C channels, t frames, h, w of the pooled map; H = 2 h, W = 2 w of the map itself.
"""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from models.extractors.base.in_place import computes_on_cpu_without_gradient
from models.extractors.base.max_pooling import max_pool3d

FULL_SHARE_GAP = 5e-7
"""Rounding in float32 separates neighbours that should be equal by up to 3.5e-7 of the largest
value.
"""
NO_SHARE_GAP = 2e-6
BLOCK_BYTES = 1 << 21
"""So much of the encoded map is unpooled at a time on a CPU."""
_NOTHING = 1e-20
"""Stands for the largest value of a map of zeros, so that nothing is divided by 0."""


def unpool(values: Tensor, encoded: Tensor, *, window: int) -> Tensor:
    """`(B, C, t, h, w)` values → `(B, C, t, H, W)`, each at the maximum of its window of `encoded`.

    `encoded` is `(B, C, t, H, W)`, all 0 or more; places without a value become 0. A window is 2×2
    with a stride of 2, or 3×3 with a stride of 2 and a padding of 1. If several windows share a
    place, the last one takes its share first. Without near-ties this is `max_unpool3d` of a CPU. No
    gradient reaches `encoded`. NaN and infinity stay.
    """
    with torch.no_grad():
        largest = _compared(encoded).flatten(1).amax(1).clamp(min=_NOTHING).view(-1, 1, 1, 1, 1)
    if not computes_on_cpu_without_gradient(values):
        return _unpool_channels(values, encoded, largest, window)
    # A few channels at a time: what is computed for them then stays in a core's cache.
    channel_bytes = encoded[:, :1].numel() * encoded.element_size()
    in_block = max(BLOCK_BYTES // max(channel_bytes, 1), 1)
    blocks = zip(torch.split(values, in_block, 1), torch.split(encoded, in_block, 1), strict=True)
    return torch.cat([_unpool_channels(*block, largest, window) for block in blocks], 1)


def _compared(encoded: Tensor) -> Tensor:
    return encoded if encoded.dtype is torch.float64 else encoded.float()


def _unpool_channels(values: Tensor, encoded: Tensor, largest: Tensor, window: int) -> Tensor:
    """`unpool` for some of the channels; `largest` is `(B, 1, 1, 1, 1)`, of all of them."""
    border = 1 if window == 3 else 0
    height, width = values.shape[-2:]
    with torch.no_grad():
        compared = _compared(encoded)
        highest = max_pool3d(  # (B, C, t, h, w)
            compared, (1, window, window), stride=(1, 2, 2), padding=(0, border, border)
        )
        bordered = functional.pad(compared, (border,) * 4, value=-math.inf)
        rest = torch.ones_like(highest)  # the share of a window's value that has no place yet
        free = torch.ones_like(bordered, dtype=values.dtype)  # the share of a place that is free
    out = torch.zeros_like(free)
    # Rows first through a window's places. A place that several windows share is then met first
    # as an early place of the last window, which therefore takes it before the others.
    for row, column in product(range(window), repeat=2):
        here = (..., slice(row, row + 2 * height - 1, 2), slice(column, column + 2 * width - 1, 2))
        with torch.no_grad():
            behind = (bordered[here] - highest).div_(largest)  # 0 or less
            share = (
                behind.add_(NO_SHARE_GAP)
                .div_(NO_SHARE_GAP - FULL_SHARE_GAP)
                .clamp_(0, 1)
                .mul_(rest)
            )
            rest -= share
            placed = share.to(values.dtype) * free[here]
            free[here] -= placed
        out[here] += placed * values
    return out[..., border : border + 2 * height, border : border + 2 * width]
