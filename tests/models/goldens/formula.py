"""Weights and clips from arithmetic alone: the same on every machine and with every release of
numpy and torch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def scattered(name: str, count: int) -> NDArray[np.float32]:
    """`(count,)` numbers in [-1, 1) that look random: a hash of the index and the name."""
    mixed = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(
        zlib.crc32(name.encode())
    )
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return (mixed >> np.uint32(8)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors by name: kernels that keep the scale, norms and biases that are not the identity."""
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    values = torch.from_numpy(scattered(name, math.prod(shape))).reshape(shape)
    if name.endswith("running_var"):
        return 1 + values / 2
    if len(shape) == 1 and name.endswith("weight"):
        return 1 + values / 4
    if len(shape) == 1:
        return values / 10
    return values * math.sqrt(6 / math.prod(shape[1:]))  # uniform with the variance 2 / inputs


def frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """`(H, W, 3)` uint8 RGB: waves that move, of another length in each channel, on a little
    noise.
    """
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    waves = [
        np.sin((3 + c) * x / width * 4 + (2 + c) * y / height * 3 + (c - 1.4) * t / 5)
        for c in range(3)
    ]
    noise = scattered("frames", count * height * width * 3).reshape(count, height, width, 3)
    clip = np.clip(127 + 100 * np.stack(waves, axis=-1) + 20 * noise, 0, 255).astype(np.uint8)
    return list(clip)
