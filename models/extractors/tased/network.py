"""TASED-Net, the released second version, and its exact preprocessing.

Source: K. Min, J. Corso, "TASED-Net: Temporally-Aggregating Spatial Encoder-Decoder Network for
Video Saliency Detection", ICCV 2019, and its release (MichiganCOG/TASED-Net): frames of any aspect
squeezed to 224×384, RGB, 2x/255 - 1. The output is the raw sigmoid map of the clip's last frame.
The release's script also blurs it, divides it by its maximum and rounds it to a picture for
viewing; this does not.

Letters: B clips, T = 32 frames, H = 224 and W = 384 pixels. Shapes are those of the released size;
any multiple of 32 works.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.extractors.base.channel_scaling import scale_channels
from models.extractors.base.in_place import BatchNorm3d, ReLU, relu
from models.extractors.base.inference import to_weight_dtype
from models.extractors.base.max_pooling import Triple, max_pool3d
from models.extractors.tased.unpooling import unpool

AFTER_UNPOOLING = ("convtsp2.0", "convtsp3.0", "convtsp4.0")
Branches = tuple[int, tuple[int, int], tuple[int, int], int]
"""Channels of the four branches of an Inception block."""
BASE2: tuple[Branches, ...] = ((64, (96, 128), (16, 32), 32), (128, (128, 192), (32, 96), 64))
BASE3: tuple[Branches, ...] = (
    (192, (96, 208), (16, 48), 64), (160, (112, 224), (24, 64), 64),
    (128, (128, 256), (24, 64), 64), (112, (144, 288), (32, 64), 64),
    (256, (160, 320), (32, 128), 128),
)  # fmt: skip
BASE4: tuple[Branches, ...] = ((256, (160, 320), (32, 128), 128), (384, (192, 384), (48, 128), 128))
S3D_STARTS = (0, 5, 8, 14)
"""Where in S3D's flat `base` the layers of base1 to base4 start (`run_train.py` of the release)."""


def _norm(channels: int) -> BatchNorm3d:
    return BatchNorm3d(channels, eps=1e-3, momentum=1e-3)


class PointConv(nn.Module):
    """1×1×1 convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1, bias=False)
        self.bn = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, outputs, t, h, w)`."""
        return relu(self.bn(self.conv(x)))


class SeparableConv(nn.Module):
    """A k×k convolution in space, then one of k in time; each with norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        k, s, p = kernel, stride, kernel // 2
        self.conv_s = nn.Conv3d(
            inputs, outputs, (1, k, k), stride=(1, s, s), padding=(0, p, p), bias=False
        )
        self.bn_s = _norm(outputs)
        self.conv_t = nn.Conv3d(
            outputs, outputs, (k, 1, 1), stride=(s, 1, 1), padding=(p, 0, 0), bias=False
        )
        self.bn_t = _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, outputs, t/stride, h/stride, w/stride)`."""
        x = relu(self.bn_s(self.conv_s(x)))
        return relu(self.bn_t(self.conv_t(x)))


class MaxPool3d(nn.Module):
    """`nn.MaxPool3d`, faster on a CPU."""

    def __init__(self, kernel: Triple, *, stride: Triple, padding: Triple) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, t, h, w)` → the same divided by the stride, rounded up."""
        return max_pool3d(x, self.kernel, stride=self.stride, padding=self.padding)


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(
        self, inputs: int, point: int, middle: tuple[int, int], narrow: tuple[int, int], pooled: int
    ) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(PointConv(inputs, point))
        self.branch1 = nn.Sequential(PointConv(inputs, middle[0]), SeparableConv(*middle))
        self.branch2 = nn.Sequential(PointConv(inputs, narrow[0]), SeparableConv(*narrow))
        self.branch3 = nn.Sequential(
            MaxPool3d((3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1)), PointConv(inputs, pooled)
        )
        self.outputs = point + middle[1] + narrow[1] + pooled

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, t, h, w)` → `(B, point + middle[1] + narrow[1] + pooled, t, h, w)`."""
        return torch.cat((self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)), 1)


def _max_over_frames(encoded: Tensor) -> Tensor:
    """`(B, C, 16, H, W)` → `(B, C, 4, H, W)`: the largest of four frames each."""
    return max_pool3d(encoded, (4, 1, 1))


def _halved(encoded: Tensor) -> Tensor:
    """`(B, C, t, h, w)` → `(B, C, t / 2, h / 2, w / 2)`: the largest of overlapping 3×3×3."""
    return max_pool3d(encoded, (3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1))


class TasedNet(nn.Module):
    """uint8 RGB clips in, the saliency of each clip's last frame out; normalises itself.

    `width` multiplies the channels of every layer; 1 is the released network.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem, spread, narrow, last = (
            scale_channels(channels, width) for channels in (64, 192, 64, 4)
        )
        self.base1 = nn.Sequential(
            SeparableConv(3, stem, kernel=7, stride=2),
            MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            PointConv(stem, stem),
            SeparableConv(stem, spread),
        )
        self.base2, middle = _inception_blocks(spread, BASE2, width)
        self.base3, deep = _inception_blocks(middle, BASE3, width)
        self.base4, deepest = _inception_blocks(deep, BASE4, width)
        self.convtsp1 = nn.Sequential(
            nn.Conv3d(deepest, deepest, 1, bias=False), _norm(deepest), ReLU(),
            *_deconvolution(deepest, deep),
        )  # fmt: skip
        self.convtsp2 = nn.Sequential(*_deconvolution(deep, middle))
        self.convtsp3 = nn.Sequential(*_deconvolution(middle, spread))
        self.convtsp4 = nn.Sequential(
            _double_size(spread, narrow), _norm(narrow), ReLU(),
            nn.Conv3d(narrow, narrow, (2, 1, 1), stride=(2, 1, 1), bias=False),
            _norm(narrow), ReLU(),
            nn.ConvTranspose3d(narrow, last, 1, bias=False), _norm(last), ReLU(),
            nn.Conv3d(last, last, (2, 1, 1), stride=(2, 1, 1), bias=False), _norm(last), ReLU(),
            _double_size(last, last),
            nn.Conv3d(last, 1, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, clips: Tensor) -> Tensor:
        """`(B, 3, T, H, W)` uint8 RGB → `(B, H, W)` in (0, 1).

        This is the authors' network, except for near-ties of the unpooling: see `unpooling.py`.
        """
        z, (y1, y2, y3) = self.encode(clips)
        z = unpool(z, y1, window=2)  # (B, 832, 4, 14, 24)
        z = unpool(self.convtsp2(z), y2, window=3)  # (B, 480, 4, 28, 48)
        z = unpool(self.convtsp3(z), y3, window=3)  # (B, 192, 4, 56, 96)
        saliency: Tensor = self.convtsp4(z)  # (B, 1, 1, 224, 384): two convolutions halve the time
        return saliency[:, 0, 0]

    def encode(self, clips: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """All that is computed before the first unpooling.

        Gives the output of `convtsp1`, `(B, 832, 4, 7, 12)`, and three maps whose maxima decide
        where unpooling puts values: `(B, 832, 4, 14, 24)`, `(B, 480, 4, 28, 48)` and
        `(B, 192, 4, 56, 96)`.
        """
        x = to_weight_dtype((2 * clips.float()).sub_(255).div_(255), self)
        y3 = self.base1(x)  # (B, 192, 16, 56, 96)
        x = max_pool3d(y3, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        y2 = self.base2(x)  # (B, 480, 16, 28, 48)
        y1 = self.base3(_halved(y2))  # (B, 832, 8, 14, 24)
        y1 = max_pool3d(y1, (2, 1, 1))  # (B, 832, 4, 14, 24)
        x = max_pool3d(y1, (1, 2, 2))  # (B, 832, 4, 7, 12)
        return self.convtsp1(self.base4(x)), (y1, _max_over_frames(y2), _max_over_frames(y3))


def _inception_blocks(
    inputs: int, blocks: Sequence[Branches], width: float
) -> tuple[nn.Sequential, int]:
    """Inception blocks in sequence, and the channels of the last block's output."""
    layers = []
    for point, middle, narrow, pooled in blocks:
        layer = Mixed(
            inputs,
            scale_channels(point, width),
            (scale_channels(middle[0], width), scale_channels(middle[1], width)),
            (scale_channels(narrow[0], width), scale_channels(narrow[1], width)),
            scale_channels(pooled, width),
        )
        layers.append(layer)
        inputs = layer.outputs
    return nn.Sequential(*layers), inputs


def _deconvolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False),
        _norm(outputs),
        ReLU(),
    )


def _double_size(inputs: int, outputs: int) -> nn.ConvTranspose3d:
    return nn.ConvTranspose3d(
        inputs, outputs, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
    )
