"""YOLOv5 with its weights, fed frame by frame: letterbox, network, detections, pooled maps.

Refuses to know files' formats and the layers of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.compute import inference, kept, stacked
from models.extractors.spec import Frame, random_seed
from models.extractors.yolov5 import DETECTIONS, MAPS, SIZES, YOLOv5Settings
from models.extractors.yolov5_boxes import (
    CLASS_OFFSET_PIXELS,
    Size,
    best_detections,
    letterbox,
    letterbox_on_device,
    to_frame,
    to_frame_by_rounded_size,
)
from models.extractors.yolov5_network import YOLOv5
from models.extractors.yolov5_weights import initialise, load_tensors


@dataclass(frozen=True)
class Prepared:
    """A frame as the network looks at it."""

    picture: NDArray[np.uint8]
    """`(H, W, 3)` RGB, both sides multiples of 32; with the fast resize, the frame as decoded."""
    frame_size: Size
    """Height and width of the frame as decoded."""


class Detector(Protocol):
    """A network together with how its boxes are chosen."""

    def __call__(self, picture: Tensor, frame_size: Size) -> Mapping[str, Tensor]:
        """`(1, 3, H, W)` uint8 → `p3`, `p4`, `p5` `(1, C, h, w)`, and `detections` `(n, 6)` in the frame's pixels."""
        ...


class TorchDetector:
    """Our network, and what its release does with its boxes. Folds the network's norms."""

    def __init__(self, network: YOLOv5, settings: YOLOv5Settings, device: str) -> None:
        network.eval().fold_norms()
        network.lower(settings.precision)
        self.network = network.to(device)
        self.settings = settings

    def __call__(self, picture: Tensor, frame_size: Size) -> Mapping[str, Tensor]:
        """As `Detector` says."""
        outputs = self.network(picture)
        found = best_detections(
            outputs["boxes"][0],
            outputs["scores"][0],
            score_threshold=self.settings.score_threshold,
            nms_threshold=self.settings.nms_threshold,
            class_offset=CLASS_OFFSET_PIXELS[self.settings.release],
            limit=self.settings.max_detections,
        )
        back = to_frame_by_rounded_size if self.settings.release == "u" else to_frame
        found = back(found, (picture.shape[2], picture.shape[3]), frame_size)
        return {name: outputs[name] for name in MAPS} | {DETECTIONS: found}


class YOLOv5Extractor:
    """A detector on a device, one frame at a time: frames of unequal videos have unequal sizes."""

    def __init__(self, detector: Detector, settings: YOLOv5Settings, device: str) -> None:
        self.detector = detector
        self.settings = settings
        self.device = device
        self.fast = settings.resize == "fast"

    def prepare(self, frame: Frame) -> Prepared:
        """`(H, W, 3)` uint8 RGB of any size → scaled and padded, bit-equal to the releases' own `letterbox`.

        With the fast resize the frame stays as large as it is until `extract`.
        """
        size = (frame.shape[0], frame.shape[1])
        return Prepared(kept(frame) if self.fast else letterbox(frame, self.settings.input_pixels), size)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one prepared frame each → float32 rows of each kept array."""
        with inference(self.device):
            rows = [self._row(window[0]) for window in windows]
        return {name: [row[name] for row in rows] for name in self.settings.arrays}

    def _row(self, prepared: Prepared) -> dict[str, NDArray[Any]]:
        picture = stacked([prepared.picture], self.device)
        if self.fast:
            picture = letterbox_on_device(picture, self.settings.input_pixels)
        outputs = dict(self.detector(picture, prepared.frame_size))
        for name in MAPS:
            outputs[name] = nn.functional.adaptive_avg_pool2d(outputs[name], self.settings.grid)[0]  # (C, grid, grid)
        return {name: outputs[name].float().cpu().numpy() for name in self.settings.arrays}


def build_extractor(settings: YOLOv5Settings, weights: str, device: str) -> YOLOv5Extractor:
    """YOLOv5 from a published file of the release, or from `random:SEED`."""
    network = YOLOv5(SIZES[settings.size], settings.release)
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_tensors(Path(weights), settings))
    else:
        initialise(network, seed)
    return YOLOv5Extractor(_detector(network, settings, device), settings, device)


def _detector(network: YOLOv5, settings: YOLOv5Settings, device: str) -> Detector:
    if settings.backend == "torch":
        return TorchDetector(network, settings, device)
    from models.extractors.yolov5_ultralytics import UltralyticsDetector  # seconds to import

    return UltralyticsDetector(network.state_dict(), settings, device)
