"""Settings and constants of TASED-Net; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.extractors.base.precision import Numerics
from models.validation import above

CLIP_FRAMES = 32
MAP_HEIGHT, MAP_WIDTH = 224, 384
BLOCKS = (1, 2, 4, 8, 16, 32)

MIN_LOSSY_BLOCK = 8
"""Smallest block with bf16 or the fast resize.

Unpooling moves single values by one to four pixels when its input changes by more than rounding;
blocks of this many pixels hide that.
"""


@dataclass(frozen=True)
class TasedSettings(Numerics):
    """What a user may set of `tased`."""

    frames_per_second: float = 2.0
    """Maps kept per second: of the frames shown at these instants. Above the video's own rate, one
    for every frame.
    """
    block_pixels: int = 8
    """A kept value is the mean over a square block, with sides of this many pixels of the 224×384
    map; 1 keeps the map itself.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        above("frames_per_second", self.frames_per_second, 0)
        if self.lossy_choices and self.block_pixels < MIN_LOSSY_BLOCK:
            raise ValueError(
                f"block_pixels must be at least {MIN_LOSSY_BLOCK} with precision = "
                f"{self.precision} and resize = {self.resize}, because single pixels change too "
                f"much; got {self.block_pixels}"
            )
        if self.block_pixels not in BLOCKS:
            raise ValueError(
                f"block_pixels must be one of {', '.join(map(str, BLOCKS))}; "
                f"got {self.block_pixels}"
            )
