"""Frames of every backend: with their own times, in presentation order, and pixels on request.

Pixels are bit for bit those that the ffmpeg program writes as rgb24.
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
    """One frame. Its pixels are converted only on request."""

    index: int
    """0 for the first frame that decodes."""
    pts_seconds: float
    """Presentation time, in seconds since the container's start."""
    duration_seconds: float | None
    """None if the stream does not state it."""
    width: int
    """Of the upright picture."""
    height: int
    to_rgb: Callable[[], Frame]
    """Converts the pixels: uint8 `(height, width, 3)`, upright."""
    to_planes: Callable[[], Planes | None] = lambda: None
    """The decoded YUV planes if `to_rgb` follows from them bit for bit, else None.

    Valid until the planes of another frame are requested.
    """


Backend = Callable[[Path, Probe, Tally], Iterator[DecodedFrame]]
"""(file, its probe, counts to update) → the file's frames.

Raises av.error.FFmpegError if the file cannot be opened, SystemicFault if the library is missing.
"""
