"""C3D's convolutions with a decoder: from a clip to a full-size map of its last frame.

The encoder is that of the `c3d` extractor. The decoder is ours: the PLD-VHD paper mentions one
without details.

Letters in shapes: N clips of L frames, H and W pixels, C channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.base.channel_scaling import scale_channels
from models.extractors.c3d.network import CONVOLUTIONS, MEAN_RGB, C3DTrunk, initialise

STAGES = ("conv1", "conv2", "conv3b", "conv4b", "conv5b")
FRAMES_MULTIPLE, PIXELS_MULTIPLE = 8, 16


class C3DMaps(nn.Module):
    """C3D without its linear layers, then four doublings back to the clip's size.

    A convolution over the remaining time steps makes one map of the deepest stage. Each doubling (a
    transposed convolution) adds the next shallower stage's last time step, through a 1×1
    convolution. Context thus comes from the whole clip, and positions from its end. Sums, norms and
    ReLUs are as in FCN-8s.
    """

    mean: Tensor

    def __init__(self, width: float, clip_frames: int) -> None:
        super().__init__()
        self.encoder = C3DTrunk(width)
        channels = [scale_channels(CONVOLUTIONS[name][1], width) for name in STAGES]
        deepest = channels[-1]
        self.over_time = nn.Conv3d(
            deepest, deepest, (clip_frames // FRAMES_MULTIPLE, 1, 1), bias=False
        )
        self.norm = nn.BatchNorm2d(deepest)
        rising = list(pairwise(reversed(channels)))
        self.doubles = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
            for inputs, outputs in rising
        )
        self.skips = nn.ModuleList(
            nn.Conv2d(outputs, outputs, 1, bias=False) for _, outputs in rising
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _, outputs in rising)
        self.last = nn.Conv2d(channels[0], 1, 1)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1, 1), persistent=False)
        initialise(self.encoder, None)

    def forward(self, clips: Tensor) -> Tensor:
        """`(N, 3, L, H, W)` uint8 RGB → `(N, H, W)` in (0, 1)."""
        *shallow, deepest = self.encoder.stages((clips.float() - self.mean).flip(1))
        x = functional.relu(self.norm(self.over_time(deepest)[:, :, 0]))  # (N, C, H/16, W/16)
        for number, stage in enumerate(reversed(shallow)):
            last_step = self.skips[number](stage[:, :, -1])  # of the clip's last frames
            x = functional.relu(self.norms[number](self.doubles[number](x) + last_step))
        return cast(Tensor, self.last(x))[:, 0].sigmoid()
