"""TASED-Net's unpooling by a rule for places that rounding cannot touch.

The authors put a value where the encoder had its maximum. Where two neighbours are equal, by
structure (a pool of stride 1 under a 1×1×1 convolution; a still and even part of a picture) or
nearly, the last bit of a sum decides, and a value jumps by a pixel: on another processor, with
other threads, in another memory layout, on a GPU. Here the first place that is within `SURELY` of
the window's maximum has the value. Beyond that its share falls in a straight line, to nothing at
`AT_MOST`, and what it leaves goes to the next such place; the maximum itself takes the rest. So the
map moves by as much as its input is moved, and never jumps. Both are shares of the largest value of
the clip's map, since that is what rounding is in proportion to. `docs/decisions` has what was measured
of this and other rules.

Letters: B clips, C channels, t frames, h, w of the pooled map; H = 2 h, W = 2 w of the map itself.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FULL_SHARE_GAP = 5e-7
"""Rounding in float32 moves neighbours that should be equal by up to 3.5e-7 of the map's largest
value.
"""
NO_SHARE_GAP = 2e-6
_NOTHING = 1e-20
"""In the place of the largest value of a map of zeros."""


def unpool(values: Tensor, encoded: Tensor, *, window: int) -> Tensor:
    """`(B, C, t, h, w)` values, each at the places of the maximum of its window of `encoded`, which
    is `(B, C, t, H, W)`, all 0 or more → `(B, C, t, H, W)`, 0 where nothing was put.

    A window is 2×2 with a stride of 2, or 3×3 with a stride of 2 and a padding of 1. Of several
    values for one place the last counts, as far as it has the place. Without near-ties this is
    `max_unpool3d` of a CPU. No gradient reaches `encoded`. What is not finite in either stays so.
    """
    border = 1 if window == 3 else 0
    height, width = values.shape[-2:]
    with torch.no_grad():
        compared = encoded if encoded.dtype is torch.float64 else encoded.float()
        largest = compared.flatten(1).amax(1).clamp(min=_NOTHING).view(-1, 1, 1, 1, 1)
        pooling: dict[str, Any] = {"stride": (1, 2, 2), "padding": (0, border, border)}
        highest = functional.max_pool3d(compared, (1, window, window), **pooling)  # (B, C, t, h, w)
        bordered = functional.pad(compared, (border,) * 4, value=-math.inf)
        rest = torch.ones_like(highest)  # of a window's value
        free = torch.ones_like(bordered, dtype=values.dtype)  # of a place
    out = torch.zeros_like(free)
    # Through a window's places as they lie, rows first: so a place of several windows is given to
    # the last one first.
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
            opaque = share.to(values.dtype)
            shown = opaque * free[here]
            free[here] -= shown
        out[here] += shown * values
    return out[..., border : border + 2 * height, border : border + 2 * width]
