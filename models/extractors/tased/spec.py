"""`tased`, where people would look: a saliency map for chosen instants, from the 32 frames that lead up to each.

The network itself, its source and its preprocessing are in `tased_network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, FramesAtRateWithHistory, Sampling
from models.extractors.base.precision import Numerics

CLIP_FRAMES = 32
MAP_HEIGHT, MAP_WIDTH = 224, 384
MIN_DRIFTING_BLOCK = 8
"""Unpooling moves single values by a pixel or four when what it reads changes by more than rounding; blocks of so many
pixels hide that."""
BLOCKS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class TasedSettings(Numerics):
    """What a user may set of `tased`."""

    frames_per_second: float = 2.0
    """Maps kept per second: of the frames shown at these instants. Above the video's own rate, one for every frame."""
    block_pixels: int = 8
    """A kept value is the mean over a block of so many by so many pixels of the 224×384 map; 1 keeps the map itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second is above 0, got {self.frames_per_second}")
        if self.block_pixels < MIN_DRIFTING_BLOCK and self.departures:
            raise ValueError(
                f"block_pixels is {MIN_DRIFTING_BLOCK} or more with precision = {self.precision} and resize = "
                f"{self.resize}, for single pixels drift too far; got {self.block_pixels}"
            )
        if self.block_pixels not in BLOCKS:
            raise ValueError(f"block_pixels is one of {', '.join(map(str, BLOCKS))}, got {self.block_pixels}")


def _build(settings: TasedSettings, weights: str, device: str) -> Extractor:
    from models.extractors.tased.network import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: TasedSettings) -> Mapping[str, ArraySpec]:
    return {"saliency": ArraySpec("float16", (MAP_HEIGHT // settings.block_pixels, MAP_WIDTH // settings.block_pixels))}


def _sampling(settings: TasedSettings) -> Sampling:
    return FramesAtRateWithHistory(settings.frames_per_second, history_frames=CLIP_FRAMES)


SPEC = ExtractorSpec(
    name="tased",
    numerics_version=2,
    settings_type=TasedSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
    windows_on_gpu=16,
)
