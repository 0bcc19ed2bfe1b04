"""Settings and constants of TASED-Net; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.extractors.base.precision import Numerics

CLIP_FRAMES = 32


MAP_HEIGHT, MAP_WIDTH = 224, 384


MIN_DRIFTING_BLOCK = 8
"""Unpooling moves single values by a pixel or four when what it reads changes by more than
rounding; blocks of so many pixels hide that.
"""


BLOCKS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class TasedSettings(Numerics):
    """What a user may set of `tased`."""

    frames_per_second: float = 2.0
    """Maps kept per second: of the frames shown at these instants. Above the video's own rate, one
    for every frame.
    """
    block_pixels: int = 8
    """A kept value is the mean over a block of so many by so many pixels of the 224×384 map; 1
    keeps the map itself.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second is above 0, got {self.frames_per_second}")
        if self.block_pixels < MIN_DRIFTING_BLOCK and self.lossy_choices:
            raise ValueError(
                f"block_pixels is {MIN_DRIFTING_BLOCK} or more with precision = {self.precision} and resize = "
                f"{self.resize}, for single pixels drift too far; got {self.block_pixels}"
            )
        if self.block_pixels not in BLOCKS:
            raise ValueError(
                f"block_pixels is one of {', '.join(map(str, BLOCKS))}, got {self.block_pixels}"
            )
