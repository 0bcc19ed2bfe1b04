"""Weights of TASED-Net: published files, an S3D encoder, or random numbers."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from models.extractors.tased.network import AFTER_UNPOOLING, S3D_STARTS, TasedNet
from models.weights.loading import load_matching_tensors


def load_weights(path: Path) -> dict[str, Tensor]:
    """The 513 entries of `TASED_updated.pt`, by themselves or each after `module.`; ValueError for
    any other file.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in TasedNet().state_dict().items()}
    return load_matching_tensors(path, shapes)


def load_s3d(path: Path) -> dict[str, Tensor]:
    """The encoder's entries (`base1.` to `base4.`) from `S3D_kinetics400.pt` of kylemin/S3D, to
    start training from.

    Its classifier, `fc.`, has no place here. Counts of batches seen, which torch only reads for
    norms without a momentum, are 0 if the file has none. ValueError for any other file.
    """
    entries = {
        name: tensor for name, tensor in TasedNet().state_dict().items() if name.startswith("base")
    }
    counts = {
        name: tensor for name, tensor in entries.items() if name.endswith("num_batches_tracked")
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in entries.items() if name not in counts}
    return load_matching_tensors(path, shapes, _from_s3d) | counts


def _from_s3d(name: str) -> str | None:
    """`base.9.branch0.0.bn.bias` → `base3.1.branch0.0.bn.bias`."""
    base, _, rest = name.partition(".")
    number, _, layer = rest.partition(".")
    if base == "fc" or layer.endswith("num_batches_tracked"):
        return None
    if base != "base" or not number.isdecimal():
        return name
    part = sum(int(number) >= start for start in S3D_STARTS)
    return f"base{part}.{int(number) - S3D_STARTS[part - 1]}.{layer}"


def initialise(network: TasedNet, seed: int | None) -> None:
    """Normal weights that keep the scale of what they are fed; norms stay as they are, the
    identity.

    Drawn from `seed`, or from torch's global generator.

    Unpooling leaves three of four pixels zero; with that not made up for, every random map lies
    within 0.01 of 0.5.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            meets = float(math.prod(layer.kernel_size))
            if isinstance(
                layer, nn.ConvTranspose3d
            ):  # lays kernels out: an output meets every stride-th of their taps
                meets /= math.prod(layer.stride)
            if name in AFTER_UNPOOLING:
                meets /= 4
            nn.init.normal_(
                layer.weight, std=math.sqrt(2 / (layer.in_channels * meets)), generator=generator
            )
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.0)
