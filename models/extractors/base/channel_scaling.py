"""How many channels a layer has in a narrower copy of a published network. Refuses to know any
network.
"""

from __future__ import annotations

LEAST_CHANNELS = 4
"""As few as the last layers of the released TASED-Net have."""


def scale_channels(channels: int, width: float) -> int:
    """So many times `channels`, rounded, and at least 4. 1 changes nothing. ValueError for a width
    of 0 or less.
    """
    if not width > 0:
        raise ValueError(f"width is above 0, got {width}")
    return max(LEAST_CHANNELS, round(channels * width))
