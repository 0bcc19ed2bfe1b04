"""Settings of the extractor `frames`."""

from __future__ import annotations

from dataclasses import dataclass

from models.validation import at_least, between


@dataclass(frozen=True)
class FramesSettings:
    """What a user may set of `frames`."""

    frames_per_second: float = 2.0
    """Instants kept per second; 0 keeps every native frame."""
    height_pixels: int = 128
    """Height of a kept picture; its width follows the video's aspect ratio. Smaller videos are not
    enlarged.
    """
    jpeg_quality: int = 90
    """1 to 100, as libjpeg defines it."""

    def __post_init__(self) -> None:
        at_least("frames_per_second", self.frames_per_second, 0)
        between("height_pixels", self.height_pixels, 16, 4320)
        between("jpeg_quality", self.jpeg_quality, 1, 100)
