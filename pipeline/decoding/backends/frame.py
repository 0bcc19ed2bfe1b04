"""What every backend delivers: frames with their own times, in presentation order, pixels on
demand.

Bit for bit the pictures that the ffmpeg program writes as rgb24. Refuses to know any library,
sampling and process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.extractors.base.contract import Frame
from models.extractors.base.yuv import Planes
from pipeline.media.container.packets import Tally
from pipeline.media.probe import Probe


@dataclass(frozen=True)
class DecodedFrame:
    """One frame; its pixels are made when asked for."""

    index: int
    """0 for the first frame that decodes."""
    pts_seconds: float
    """When it is shown, in seconds since the container's start."""
    duration_seconds: float | None
    """How long, if the stream says so."""
    width: int
    """Upright."""
    height: int
    to_rgb: Callable[[], Frame]
    """Pays for the conversion: uint8 `(height, width, 3)`, upright."""
    to_planes: Callable[[], Planes | None] = lambda: None
    """The picture as it was decoded, if that says bit for bit what `to_rgb` gives; else None. Valid
    until another frame's are asked for.
    """


Backend = Callable[[Path, Probe, Tally], Iterator[DecodedFrame]]
"""(file, its probe, counts to keep) → its frames. Raises av.error.FFmpegError where nothing can be
opened, and SystemicFault where the library itself is missing.
"""
