"""Weights of TASED-Net: published files, an S3D encoder, or random numbers."""

from __future__ import annotations

import bisect
import math
from pathlib import Path

from torch import Tensor, nn

from models.extractors.base.inference import seeded_generator
from models.extractors.tased.network import AFTER_UNPOOLING, S3D_STARTS, TasedNet
from models.weights.loading import load_matching_tensors


def load_weights(path: Path) -> dict[str, Tensor]:
    """The 513 entries of `TASED_updated.pt`, with or without `module.` before each name.

    ValueError for any other file.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in TasedNet().state_dict().items()}
    return load_matching_tensors(path, shapes)


def load_s3d(path: Path) -> dict[str, Tensor]:
    """The encoder (`base1.` to `base4.`) from `S3D_kinetics400.pt` of kylemin/S3D, to train from.

    The file's classifier, `fc.`, is ignored. Its counts of batches, which torch reads only for
    norms without a momentum, are ignored too and become 0. ValueError for any other file.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    zero_counts: dict[str, Tensor] = {}
    for name, tensor in TasedNet().state_dict().items():
        if not name.startswith("base"):
            continue
        if name.endswith("num_batches_tracked"):
            zero_counts[name] = tensor
        else:
            shapes[name] = tuple(tensor.shape)
    return load_matching_tensors(path, shapes, _name_from_s3d) | zero_counts


def _name_from_s3d(name: str) -> str | None:
    """`base.9.branch0.0.bn.bias` → `base3.1.branch0.0.bn.bias`; None for an ignored entry."""
    base, _, rest = name.partition(".")
    number, _, layer = rest.partition(".")
    if base == "fc" or layer.endswith("num_batches_tracked"):
        return None
    if base != "base" or not number.isdecimal():
        return name
    index = int(number)
    part = bisect.bisect_right(S3D_STARTS, index)
    return f"base{part}.{index - S3D_STARTS[part - 1]}.{layer}"


def initialise(network: TasedNet, seed: int | None) -> None:
    """Normal weights that keep the scale of their input; norms stay the identity.

    Drawn from `seed`, or from torch's global generator.
    """
    generator = seeded_generator(seed)
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            continue
        fan_in = _fan_in(layer, after_unpooling=name in AFTER_UNPOOLING)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_in), generator=generator)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 0.0)


def _fan_in(layer: nn.Conv3d | nn.ConvTranspose3d, *, after_unpooling: bool) -> float:
    """How many numbers other than zero one output sums over."""
    taps = float(math.prod(layer.kernel_size))
    if isinstance(layer, nn.ConvTranspose3d):
        # It lays kernels out: an output meets every stride-th of their taps.
        taps /= math.prod(layer.stride)
    if after_unpooling:
        # Unpooling leaves three of four pixels zero. If that were not made up for, every random map
        # would lie within 0.01 of 0.5.
        taps /= 4
    return layer.in_channels * taps
