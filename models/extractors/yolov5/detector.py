"""What every YOLOv5 backend takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.extractors.base.inference import Picture
from models.extractors.yolov5.boxes import (
    Size,
)


@dataclass(frozen=True)
class LetterboxedFrame:
    """A frame as the network looks at it."""

    picture: Picture
    """`(H, W, 3)` RGB, both sides multiples of 32; with the fast resize, the frame as decoded, or
    its planes.
    """
    frame_size: Size
    """Height and width of the frame as decoded."""


@dataclass(frozen=True)
class Detection:
    """What a detector says of B pictures."""

    maps: Mapping[str, Tensor]
    """`p3`, `p4`, `p5`, each `(B, C, h, w)`."""
    detections: Sequence[Tensor]
    """Of each picture `(n, 6)`, in the frame's pixels."""


class Detector(Protocol):
    """A network together with how its boxes are chosen."""

    def __call__(self, pictures: Tensor, frame_sizes: Sequence[Size]) -> Detection:
        """`(B, 3, H, W)` uint8, and how large each picture's frame was."""
        ...
