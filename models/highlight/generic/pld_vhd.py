"""PLD-VHD: a map of how much each pixel belongs to a highlight; its mean is the score.

Source: F. Wei et al., "Learning Pixel-Level Distinctions for Video Highlight Detection", CVPR 2022,
section 3: an encoder-decoder from a clip of L frames to a map of its last frame (TASED-Net, or C3D
with a decoder that the paper does not describe), and eq. 6. No code was published.

A position's feature is its whole clip, `(L, H, W, 3)` uint8 RGB, oldest frame first, so a batch
holds `(B, T, L, H, W, 3)`. It stays uint8, because float32 would take four times the memory.
`trainer.data.sources.frame_clips` decodes them from a `frames` variant at the size a recipe names;
networks normalise for themselves.

Letters in shapes: those of `contract.py`, but L frames of a clip, H and W pixels, N clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.extractors.tased.network import TasedNet
from models.extractors.tased.settings import CLIP_FRAMES
from models.extractors.tased.weights import initialise
from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.generic.pld_c3d_decoder import FRAMES_MULTIPLE, PIXELS_MULTIPLE, C3DMaps
from models.validation import above, at_least, one_of

Encoder = Literal["tased", "c3d"]
TASED_PIXELS_MULTIPLE = 32


@dataclass(frozen=True)
class PLDSettings:
    """Full width; the paper names the two encoders and L, the rest is ours."""

    encoder: Encoder = "tased"
    """TASED-Net with its own decoder (L = 32), or C3D with ours (L = 16 as C3D was trained; any
    multiple of 8).
    """
    width: float = 1.0
    """Factor of the channels of every layer. Published weights fit only 1."""
    is_temporal: bool = True
    """False is "w/o temporal" of tables 4 and 5: all frames are copies of the clip's last one."""
    norm_momentum: float = 1e-3
    """Momentum of the norms' running means: TASED-Net's own, for fine-tuning it. Training from
    scratch needs 0.1, torch's own: 0.001 does not forget the first weights in a thousand steps.
    """
    prior: float = 0.5
    """Value of a map before training: the last layer's bias starts as its log-odds. If few pixels
    are distinct, a network from scratch that starts at 0.5 first overshoots to maps of zeros, and
    some never recover.
    """
    clips_per_pass: int = 8
    """Clips per forward when scoring, for videos of any length."""

    def __post_init__(self) -> None:
        one_of("encoder", self.encoder, get_args(Encoder))
        above("width", self.width, 0)
        at_least("clips_per_pass", self.clips_per_pass, 1)
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(
                f"norm_momentum must be above 0 and at most 1; got {self.norm_momentum}"
            )
        if not 0 < self.prior < 1:
            raise ValueError(f"prior must be above 0 and below 1; got {self.prior}")


class PLDVHD(nn.Module):
    """Clips to distinction maps to scores. Published weights fit `network`."""

    def __init__(self, key: str, settings: PLDSettings, network: nn.Module) -> None:
        super().__init__()
        self.key = key
        self.settings = settings
        self.network = network

    def forward(self, batch: Batch) -> Scores:
        """Scores are eq. 6 for one frame.

        `parts["distinctions"]` is `(B, T, H, W)` float32, 0 outside the mask.
        """
        clips = batch.features[self.key]
        maps = torch.zeros(*clips.shape[:2], *clips.shape[3:5], device=clips.device)
        if batch.mask.any():
            maps[batch.mask] = self.distinctions(clips[batch.mask])
        return Scores(maps.mean((2, 3)), {"distinctions": maps})

    def distinctions(self, clips: Tensor) -> Tensor:
        """`(N, L, H, W, 3)` uint8 RGB → `(N, H, W)` float32 in (0, 1)."""
        if not self.settings.is_temporal:
            clips = clips[:, -1:].expand_as(clips)
        # In training, norms use the statistics of the whole batch, so it cannot be split.
        clips_per_pass = max(len(clips), 1) if self.training else self.settings.clips_per_pass
        maps = []
        for part in torch.split(clips, clips_per_pass):
            channels_first = part.permute(0, 4, 1, 2, 3).contiguous()
            maps.append(self.network(channels_first).float())
        return torch.cat(maps)


def _build(settings: PLDSettings, shapes: Mapping[str, tuple[int, ...]]) -> PLDVHD:
    key, (frames, height, width) = _single_clip_array(shapes)
    _check_size(settings.encoder, frames, height, width)
    network: nn.Module
    if settings.encoder == "tased":
        network = TasedNet(settings.width)
        initialise(network, None)
    else:
        network = C3DMaps(settings.width, frames)
    _set_momentum_and_prior(network, settings)
    return PLDVHD(key, settings, network)


def _set_momentum_and_prior(network: nn.Module, settings: PLDSettings) -> None:
    log_odds = math.log(settings.prior / (1 - settings.prior))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.momentum = settings.norm_momentum
            continue
        if not isinstance(layer, nn.Conv2d | nn.Conv3d) or layer.bias is None:
            continue
        if layer.out_channels == 1:  # the last layer
            nn.init.constant_(layer.bias, log_odds)


def _single_clip_array(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, tuple[int, int, int]]:
    """The key of the array of clips, and their L, H, W. Maps `(h, w)` for the loss are ignored."""
    clips, others = [], []
    for key, shape in shapes.items():
        if len(shape) == 4 and shape[-1] == 3:
            clips.append(key)
        elif len(shape) != 2:
            others.append(key)
    if len(clips) != 1 or others:
        listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ValueError(
            "PLD-VHD reads exactly one array of clips (L, H, W, 3), and its loss may read maps "
            f"(h, w); got {listed}"
        )
    frames, height, width, _ = shapes[clips[0]]
    return clips[0], (frames, height, width)


def _check_size(encoder: Encoder, frames: int, height: int, width: int) -> None:
    if encoder == "tased":
        has_frames, allowed_frames = frames == CLIP_FRAMES, f"{CLIP_FRAMES}"
        multiple = TASED_PIXELS_MULTIPLE
    else:
        has_frames = frames % FRAMES_MULTIPLE == 0
        allowed_frames = f"a multiple of {FRAMES_MULTIPLE}"
        multiple = PIXELS_MULTIPLE
    has_sides = height % multiple == 0 and width % multiple == 0
    if not has_frames or not has_sides or min(frames, height, width) < 1:
        raise ValueError(
            f"the {encoder} encoder takes clips of {allowed_frames} frames, whose height and width "
            f"are multiples of {multiple}; got {frames} frames of {height}×{width}"
        )


SPEC = ModelSpec(
    name="pld_vhd",
    source="Learning Pixel-Level Distinctions for Video Highlight Detection (CVPR 2022), "
    "section 3, eq. 6",
    arrays=("frames/jpeg",),
    unit="row",
    history="none",
    settings=PLDSettings,
    build=_build,
)
