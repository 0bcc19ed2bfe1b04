"""The `frames` extractor: small JPEG pictures of chosen instants, without a network.

People look at them, and pixel-level highlight models read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, ExtractorSpec, Frame, GoldenCase
from models.extractors.base.sampling import EveryFrame, FramesAtRate, Sampling
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


class JpegFrames:
    """Shrinks each frame and encodes it; a row is the bytes of one JPEG file."""

    def __init__(self, settings: FramesSettings) -> None:
        self.settings = settings

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 RGB → `(bytes,)` uint8, a JPEG file."""
        height, width = frame.shape[:2]
        new_height = min(self.settings.height_pixels, height)
        small: Any = frame
        if new_height < height:
            new_width = max(1, round(width * new_height / height))
            small = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_AREA)
        flags = [cv2.IMWRITE_JPEG_QUALITY, self.settings.jpeg_quality]
        is_encoded, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), flags)
        if not is_encoded:
            raise RuntimeError(f"the JPEG encoder refused a frame of {width}×{height} pixels")
        return np.asarray(encoded, dtype=np.uint8).reshape(-1)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one JPEG each → those JPEGs."""
        return {"jpeg": [window[0] for window in windows]}


def _sampling(settings: FramesSettings) -> Sampling:
    return FramesAtRate(settings.frames_per_second) if settings.frames_per_second else EveryFrame()


def _arrays(_: FramesSettings) -> Mapping[str, ArraySpec]:
    return {"jpeg": ArraySpec("uint8", (), ragged=True)}


def _build(settings: FramesSettings, _weights: str, _device: str) -> JpegFrames:
    return JpegFrames(settings)


SPEC = ExtractorSpec(
    name="frames",
    numerics_version=1,
    settings_type=FramesSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=False,
    # JPEG decoders differ by a step of 255.
    golden=GoldenCase(tolerances={"jpeg": 1e-2}),
)
