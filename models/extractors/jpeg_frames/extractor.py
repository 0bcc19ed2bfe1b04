"""Makes the JPEG pictures of the extractor `frames`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import Frame
from models.extractors.jpeg_frames.settings import FramesSettings


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
