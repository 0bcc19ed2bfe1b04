"""PLD-VHD: for every pixel of a frame, how much it belongs to a highlight; a position's score is
the mean of its map.

Source: F. Wei et al., "Learning Pixel-Level Distinctions for Video Highlight Detection", CVPR 2022,
section 3: a clip of L frames, the last of which the map is about, an encoder-decoder (TASED-Net, or
C3D with a decoder that the paper does not describe), and eq. 6. No code was published. Refuses to
know labels: those are the objective's.

A position's feature is its whole clip, `(L, H, W, 3)` uint8 RGB, oldest frame first, so a batch
holds `(B, T, L, H, W, 3)`: bytes, since float32 would take four times the memory.
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
    """Times the channels of every layer. Published weights fit 1 alone."""
    is_temporal: bool = True
    """False is "w/o temporal" of tables 4 and 5: the clip is filled with copies of its last
    frame.
    """
    norm_momentum: float = 1e-3
    """Of the norms' running means: TASED-Net's own, right for fine-tuning it. From scratch 0.1
    (torch's own) is needed: a thousandth does not forget the first weights within a thousand steps.
    """
    prior: float = 0.5
    """What a map is before training: the last layer's bias starts as its log-odds. Where few pixels
    are distinct, a network from scratch that starts at a half first overshoots to maps of nothing,
    and some never come back.
    """
    clips_per_pass: int = 8
    """When scoring, so many clips go through the network at a time, whatever the length of the
    video.
    """

    def __post_init__(self) -> None:
        if self.encoder not in get_args(Encoder):
            raise ValueError(
                f"encoder is one of {', '.join(get_args(Encoder))}; got {self.encoder!r}"
            )
        if not self.width > 0 or self.clips_per_pass < 1:
            raise ValueError(f"width is above 0 and clips_per_pass at least 1, got {self}")
        if not 0 < self.norm_momentum <= 1:
            raise ValueError(f"norm_momentum is above 0 and at most 1, got {self.norm_momentum}")
        if not 0 < self.prior < 1:
            raise ValueError(f"prior is above 0 and below 1, got {self.prior}")


class PLDVHD(nn.Module):
    """Clips to distinction maps to scores. `network`, without a name before it, is what published
    weights fit.
    """

    def __init__(self, key: str, settings: PLDSettings, network: nn.Module) -> None:
        super().__init__()
        self.key = key
        self.settings = settings
        self.network = network

    def forward(self, batch: Batch) -> Scores:
        """Scores are eq. 6 for one frame. `parts["distinctions"]` `(B, T, H, W)` float32, 0 outside
        the mask.
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
        # While training, norms look at the whole batch, so it cannot be cut.
        passes = (clips,) if self.training else torch.split(clips, self.settings.clips_per_pass)
        return torch.cat(
            [self.network(part.permute(0, 4, 1, 2, 3).contiguous()).float() for part in passes]
        )


def _build(settings: PLDSettings, shapes: Mapping[str, tuple[int, ...]]) -> PLDVHD:
    key, (frames, height, width) = _only_clips(shapes)
    _check_size(settings.encoder, frames, height, width)
    network: nn.Module
    if settings.encoder == "tased":
        network = TasedNet(settings.width)
        initialise(network, None)
    else:
        network = C3DMaps(settings.width, frames)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.momentum = settings.norm_momentum
        elif (
            isinstance(layer, nn.Conv2d | nn.Conv3d)
            and layer.bias is not None
            and layer.out_channels == 1
        ):
            nn.init.constant_(layer.bias, math.log(settings.prior / (1 - settings.prior)))
    return PLDVHD(key, settings, network)


def _only_clips(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, tuple[int, int, int]]:
    """The array of clips and their L, H, W. Maps `(h, w)` beside it are the objective's."""
    clips = [key for key, shape in shapes.items() if len(shape) == 4 and shape[-1] == 3]
    others = [key for key, shape in shapes.items() if key not in clips and len(shape) != 2]
    if len(clips) != 1 or others:
        raise ValueError(
            f"PLD-VHD reads one array of clips (L, H, W, 3), and maps (h, w) for its objective may come along; got "
            f"{', '.join(f'{key} {shape}' for key, shape in shapes.items())}"
        )
    frames, height, width, _ = shapes[clips[0]]
    return clips[0], (frames, height, width)


def _check_size(encoder: Encoder, frames: int, height: int, width: int) -> None:
    pixels = TASED_PIXELS_MULTIPLE if encoder == "tased" else PIXELS_MULTIPLE
    wrong_frames = frames != CLIP_FRAMES if encoder == "tased" else frames % FRAMES_MULTIPLE
    if wrong_frames or height % pixels or width % pixels or not min(frames, height, width) > 0:
        wanted = f"{CLIP_FRAMES}" if encoder == "tased" else f"a multiple of {FRAMES_MULTIPLE}"
        raise ValueError(
            f"the {encoder} encoder takes clips of {wanted} frames, height and width multiples of {pixels}; "
            f"got {frames} frames of {height}×{width}"
        )


SPEC = ModelSpec(
    name="pld_vhd",
    source="Learning Pixel-Level Distinctions for Video Highlight Detection (CVPR 2022), section 3, eq. 6",
    arrays=("frames/jpeg",),
    unit="row",
    history="none",
    settings=PLDSettings,
    build=_build,
)
