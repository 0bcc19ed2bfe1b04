"""Base classes of extractors with a network: frames are resized on arrival, or on the device.

With `resize = parity` the authors' library resizes each frame in `prepare`. With `resize = fast`,
and for YUV planes, `prepare` keeps a copy of the frame and the device resizes it in `extract`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from models.extractors.base.contract import Frame
from models.extractors.base.inference import (
    Picture,
    clip_stacking_key,
    copy_frame,
    prefers_planes,
    split_into_batches,
    stack_clips,
    stack_frames,
    stacking_key,
)
from models.extractors.base.precision import Numerics
from models.extractors.base.yuv import Planes


def resize_like_opencv(frame: Frame, height: int, width: int) -> Frame:
    """`(H, W, 3)` uint8 → `(height, width, 3)` uint8, bilinear, as OpenCV resizes by default."""
    resized = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


class ResizingExtractor(ABC):
    """A network on a device, and where its frames are resized."""

    def __init__(self, numerics: Numerics, device: str) -> None:
        self.device = device
        self.resizes_on_device = numerics.resize == "fast"
        self.planar = prefers_planes(device, resizes_on_device=self.resizes_on_device)

    @abstractmethod
    def resize(self, frame: Frame) -> Frame:
        """`(H, W, 3)` uint8 RGB of any size → the network's input, to the authors' bits."""

    def resize_or_copy(self, frame: Picture) -> Picture:
        """The resized frame; a copy of the frame, or its planes, if the device resizes."""
        if self.resizes_on_device or isinstance(frame, Planes):
            return copy_frame(frame)
        return self.resize(frame)


class ClipExtractor(ResizingExtractor):
    """An extractor whose window is a clip, all frames squeezed to one `(height, width)`."""

    def __init__(self, numerics: Numerics, device: str, size: tuple[int, int]) -> None:
        super().__init__(numerics, device)
        self.size = size

    def resize(self, frame: Frame) -> Frame:
        """`(H, W, 3)` uint8 RGB of any size → `(height, width, 3)`."""
        return resize_like_opencv(frame, *self.size)

    def prepare(self, frame: Picture) -> Picture:
        """`(H, W, 3)` uint8 RGB of any size → `(height, width, 3)` uint8.

        With `resize = fast` the frame, or its planes, stay as they are until `extract`.
        """
        return self.resize_or_copy(frame)

    def clip_batches(self, windows: Sequence[Sequence[Any]]) -> Iterator[Tensor]:
        """The clips that share a forward: `(B, 3, T, height, width)` uint8 on the device."""
        size = self.size if self.resizes_on_device else None
        for batch in split_into_batches(windows, self.device, clip_stacking_key):
            yield stack_clips(batch, self.device, size)


@dataclass(frozen=True)
class SizedFrame:
    """A frame as a detector looks at it, and how large it was."""

    picture: Picture
    """`(H, W, 3)` uint8 RGB; the frame as decoded, or its planes, if the device resizes."""
    frame_size: tuple[int, int]
    """Height and width of the frame as decoded, in which boxes are reported."""


class FrameExtractor(ResizingExtractor):
    """An extractor whose window is one frame, and whose boxes are in pixels of that frame."""

    def prepare(self, frame: Picture) -> SizedFrame:
        """`(H, W, 3)` uint8 RGB of any size → the network's input, with the size the frame had.

        With `resize = fast` the frame, or its planes, stay as they are until `extract`.
        """
        height, width, _ = frame.shape
        return SizedFrame(self.resize_or_copy(frame), (height, width))

    def frame_batches(self, windows: Sequence[Sequence[Any]]) -> list[list[SizedFrame]]:
        """The frames that share a forward; each window holds one frame."""
        frames: list[SizedFrame] = [window[0] for window in windows]
        return split_into_batches(frames, self.device, lambda frame: stacking_key(frame.picture))

    def stack(self, frames: Sequence[SizedFrame]) -> Tensor:
        """`(B, 3, H, W)` uint8 RGB on the device."""
        return stack_frames([frame.picture for frame in frames], self.device)
