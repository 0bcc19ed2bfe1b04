"""How many channels a layer has in a narrower copy of a published network."""

from __future__ import annotations

from models.validation import above

LEAST_CHANNELS = 4
"""The last layers of the released TASED-Net have 4 channels."""


def scale_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, and at least 4. ValueError for a width of 0 or less."""
    above("width", width, 0)
    return max(LEAST_CHANNELS, round(channels * width))
