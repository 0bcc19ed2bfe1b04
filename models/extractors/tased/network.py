"""TASED-Net, the released second version, and its exact preprocessing.

Source: K. Min, J. Corso, "TASED-Net: Temporally-Aggregating Spatial Encoder-Decoder Network for Video Saliency
Detection", ICCV 2019, and its release (MichiganCOG/TASED-Net): frames squeezed to 224×384 whatever their aspect, RGB,
2x/255 - 1. What comes out is the raw sigmoid map of the clip's last frame; the release's script also blurs it, divides
it by its maximum and rounds it to a picture, which is for eyes and is not done here.

Letters: B clips, T = 32 frames, H = 224 and W = 384 pixels. Shapes are those of the released size; any multiple of 32
works.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.base.channel_scaling import scaled
from models.extractors.base.contract import random_seed
from models.extractors.base.inference import (
    Picture,
    as_weights,
    batches,
    clip_kind,
    in_precision,
    inference,
    kept,
    rows_of,
    stacked_clips,
    wants_planes,
)
from models.extractors.base.yuv import Planes
from models.extractors.tased.spec import MAP_HEIGHT, MAP_WIDTH, TasedSettings
from models.extractors.tased.unpooling import unpooled
from models.weights.loading import load_converted

AFTER_UNPOOLING = ("convtsp2.0", "convtsp3.0", "convtsp4.0")
Branches = tuple[int, tuple[int, int], tuple[int, int], int]
"""Channels of the four branches of an Inception block."""
BASE2: tuple[Branches, ...] = ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64))
BASE3: tuple[Branches, ...] = (
    (192, (96, 208), (16, 48), 64), (160, (112, 224), (24, 64), 64), (128, (128, 256), (24, 64), 64),
    (112, (144, 288), (32, 64), 64), (256, (160, 320), (32, 128), 128),
)  # fmt: skip
BASE4: tuple[Branches, ...] = ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128))
S3D_STARTS = (0, 5, 8, 14)
"""Where in S3D's flat `base` the layers of base1 to base4 start (`run_train.py` of the release)."""


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=1e-3, momentum=1e-3)


class PointConv(nn.Module):
    """1×1×1 convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1, bias=False)
        self.bn = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, outputs, t, h, w)`."""
        return torch.relu(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """A k×k convolution in space, then one of k in time; each with norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        k, s, p = kernel, stride, kernel // 2
        self.conv_s = nn.Conv3d(inputs, outputs, (1, k, k), stride=(1, s, s), padding=(0, p, p), bias=False)
        self.bn_s = _norm(outputs)
        self.conv_t = nn.Conv3d(outputs, outputs, (k, 1, 1), stride=(s, 1, 1), padding=(p, 0, 0), bias=False)
        self.bn_t = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, outputs, t/stride, h/stride, w/stride)`."""
        x = torch.relu(self.bn_s(self.conv_s(x)))
        return torch.relu(self.bn_t(self.conv_t(x)))


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, inputs: int, point: int, middle: tuple[int, int], narrow: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(PointConv(inputs, point))
        self.branch1 = nn.Sequential(PointConv(inputs, middle[0]), SeparableConv(*middle))
        self.branch2 = nn.Sequential(PointConv(inputs, narrow[0]), SeparableConv(*narrow))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), PointConv(inputs, pooled))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, point + middle[1] + narrow[1] + pooled, t, h, w)`."""
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)), 1)


def _over_frames(encoded: Tensor) -> Tensor:
    """`(B, C, 16, H, W)` → `(B, C, 4, H, W)`: the largest of four frames each."""
    return nn.functional.max_pool3d(encoded, (4, 1, 1))


class TasedNet(nn.Module):
    """uint8 RGB clips in, the saliency of each clip's last frame out; normalises itself.

    `width` multiplies the channels of every layer; 1 is the released network.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem, spread, narrow, last = (scaled(channels, width) for channels in (64, 192, 64, 4))
        self.base1 = nn.Sequential(
            SeparableConv(3, stem, kernel=7, stride=2),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            PointConv(stem, stem),
            SeparableConv(stem, spread),
        )
        self.base2, middle = _mixed(spread, BASE2, width)
        self.base3, deep = _mixed(middle, BASE3, width)
        self.base4, deepest = _mixed(deep, BASE4, width)
        self.convtsp1 = nn.Sequential(
            nn.Conv3d(deepest, deepest, 1, bias=False), _norm(deepest), nn.ReLU(), *_spread(deepest, deep)
        )  # fmt: skip
        self.convtsp2 = nn.Sequential(*_spread(deep, middle))
        self.convtsp3 = nn.Sequential(*_spread(middle, spread))
        self.convtsp4 = nn.Sequential(
            _enlarge(spread, narrow), _norm(narrow), nn.ReLU(),
            nn.Conv3d(narrow, narrow, (2, 1, 1), stride=(2, 1, 1), bias=False), _norm(narrow), nn.ReLU(),
            nn.ConvTranspose3d(narrow, last, 1, bias=False), _norm(last), nn.ReLU(),
            nn.Conv3d(last, last, (2, 1, 1), stride=(2, 1, 1), bias=False), _norm(last), nn.ReLU(),
            _enlarge(last, last),
            nn.Conv3d(last, 1, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, clips: Tensor) -> Tensor:
        """`(B, 3, T, H, W)` uint8 RGB → `(B, H, W)` in (0, 1).

        The authors' network but for near-ties of the unpooling, for which `tased_unpooling.py` has a rule.
        """
        z, (y1, y2, y3) = self.encoded(clips)
        z = unpooled(z, y1, window=2)  # (B, 832, 4, 14, 24)
        z = unpooled(self.convtsp2(z), y2, window=3)  # (B, 480, 4, 28, 48)
        z = unpooled(self.convtsp3(z), y3, window=3)  # (B, 192, 4, 56, 96)
        saliency: Tensor = self.convtsp4(z)  # (B, 1, 1, 224, 384): two convolutions halve the time
        return saliency[:, 0, 0]

    def encoded(self, clips: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """All that is computed before the first unpooling: `convtsp1`'s output `(B, 832, 4, 7, 12)`, and the maps whose
        maxima say where values go, `(B, 832, 4, 14, 24)`, `(B, 480, 4, 28, 48)` and `(B, 192, 4, 56, 96)`."""
        x = as_weights((2 * clips.float() - 255) / 255, self)
        y3 = self.base1(x)  # (B, 192, 16, 56, 96)
        x = nn.functional.max_pool3d(y3, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))  # (B, 192, 16, 28, 48)
        y2 = self.base2(x)  # (B, 480, 16, 28, 48)
        y1 = self.base3(nn.functional.max_pool3d(y2, 3, stride=2, padding=1))  # (B, 832, 8, 14, 24)
        y1 = nn.functional.max_pool3d(y1, (2, 1, 1))  # (B, 832, 4, 14, 24)
        x = nn.functional.max_pool3d(y1, (1, 2, 2))  # (B, 832, 4, 7, 12)
        return self.convtsp1(self.base4(x)), (y1, _over_frames(y2), _over_frames(y3))


def _mixed(inputs: int, blocks: Sequence[Branches], width: float) -> tuple[nn.Sequential, int]:
    """Inception blocks one after the other, and how many channels the last one gives."""
    layers = []
    for point, middle, narrow, pooled in blocks:
        a, b, c, d, e, f = (scaled(channels, width) for channels in (point, *middle, *narrow, pooled))
        layers.append(Mixed(inputs, a, (b, c), (d, e), f))
        inputs = a + c + e + f
    return nn.Sequential(*layers), inputs


def _spread(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.ConvTranspose3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False), _norm(outputs), nn.ReLU()


def _enlarge(inputs: int, outputs: int) -> nn.ConvTranspose3d:
    return nn.ConvTranspose3d(inputs, outputs, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1), bias=False)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The 513 entries of `TASED_updated.pt`, by themselves or each after `module.`; ValueError for any other file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in TasedNet().state_dict().items()}
    return load_converted(path, shapes)


def load_s3d(path: Path) -> dict[str, Tensor]:
    """The encoder's entries (`base1.` to `base4.`) from `S3D_kinetics400.pt` of kylemin/S3D, to start training from.

    Its classifier, `fc.`, has no place here. Counts of batches seen, which torch only reads for norms without a
    momentum, are 0 if the file has none. ValueError for any other file.
    """
    entries = {name: tensor for name, tensor in TasedNet().state_dict().items() if name.startswith("base")}
    counts = {name: tensor for name, tensor in entries.items() if name.endswith("num_batches_tracked")}
    shapes = {name: tuple(tensor.shape) for name, tensor in entries.items() if name not in counts}
    return load_converted(path, shapes, _from_s3d) | counts


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
    """Normal weights that keep the scale of what they are fed; norms stay as they are, the identity.

    Drawn from `seed`, or from torch's global generator.

    Unpooling leaves three of four pixels zero; with that not made up for, every random map lies within 0.01 of 0.5.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            meets = float(math.prod(layer.kernel_size))
            if isinstance(layer, nn.ConvTranspose3d):  # lays kernels out: an output meets every stride-th of their taps
                meets /= math.prod(layer.stride)
            if name in AFTER_UNPOOLING:
                meets /= 4
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_channels * meets)), generator=generator)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.0)


class TasedExtractor:
    """TASED-Net with its weights on a device, fed frame by frame."""

    def __init__(self, network: TasedNet, settings: TasedSettings, device: str) -> None:
        self.network = in_precision(network.eval(), settings.precision).to(device)
        self.block_pixels = settings.block_pixels
        self.device = device
        self.fast = settings.resize == "fast"
        self.planar = wants_planes(device, fast=self.fast)

    def prepare(self, frame: Picture) -> Picture:
        """`(H, W, 3)` uint8 RGB of any size → `(224, 384, 3)` uint8, as OpenCV resizes by default (bilinear).

        With the fast resize the frame, or its planes, stay as they are until `extract`.
        """
        if self.fast or isinstance(frame, Planes):
            return kept(frame)
        resized = cv2.resize(frame, (MAP_WIDTH, MAP_HEIGHT), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of 32 prepared frames → the float32 map of each one's last frame, averaged over blocks."""
        with inference(self.device):
            outputs = [
                {"saliency": self._maps(self._clips(batch))} for batch in batches(windows, self.device, clip_kind)
            ]
        return {"saliency": rows_of(outputs, "saliency")}

    def _clips(self, windows: Sequence[Sequence[Any]]) -> Tensor:
        """`(B, 3, T, H, W)` uint8 on the device."""
        clips = stacked_clips(windows, self.device, (MAP_HEIGHT, MAP_WIDTH) if self.fast else None)
        return clips.contiguous()  # the authors' memory layout, so that convolutions add up in their order

    def _maps(self, clips: Tensor) -> Tensor:
        """`(B, H, W)` with blocks for pixels."""
        return nn.functional.avg_pool2d(self.network(clips)[:, None].float(), self.block_pixels)[:, 0]


def build_extractor(settings: TasedSettings, weights: str, device: str) -> TasedExtractor:
    """TASED-Net from the released state dict file, or from `random:SEED`."""
    network = TasedNet()
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_weights(Path(weights)))
    else:
        initialise(network, seed)
    return TasedExtractor(network, settings, device)
