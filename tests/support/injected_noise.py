"""Other rounding, as an unlike processor has it: noise of one unit in the last place on what
convolutions and linear layers give.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
ONE_UNIT = 1e-7
"""Relative: float32 keeps 24 bits, so that its last place is 6e-8 to 1.2e-7 of a value."""


@contextmanager
def in_every_layer(
    network: nn.Module, seed: int, relative: float = ONE_UNIT
) -> Iterator[list[str]]:
    """Inside, each value that a convolution or a linear layer gives is moved by `relative` of
    itself times a normal number drawn from `seed`. Yields a list that fills with the names of the
    layers that were met.
    """
    generator = torch.Generator().manual_seed(seed)
    met: list[str] = []

    def moved(name: str, output: Tensor) -> Tensor:
        met.append(name)
        return output + output * relative * torch.randn(
            output.shape, generator=generator, dtype=output.dtype
        )

    hooks = [
        layer.register_forward_hook(lambda _layer, _given, output, name=name: moved(name, output))
        for name, layer in network.named_modules()
        if isinstance(layer, LAYERS)
    ]
    try:
        yield met
    finally:
        for one in hooks:
            one.remove()
