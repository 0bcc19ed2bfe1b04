"""The interface of every YOLOv5 backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.extractors.yolov5.boxes import Size


@dataclass(frozen=True)
class Detection:
    """What a detector finds in B pictures."""

    maps: Mapping[str, Tensor]
    """`p3`, `p4`, `p5`, each `(B, C, h, w)`."""
    detections: Sequence[Tensor]
    """Of each picture `(n, 6)`, in the frame's pixels: x1, y1, x2, y2, score, class."""


class Detector(Protocol):
    """A network together with the selection of its boxes."""

    def __call__(self, pictures: Tensor, frame_sizes: Sequence[Size]) -> Detection:
        """`(B, 3, H, W)` uint8, letterboxed from frames of `frame_sizes`."""
        ...
