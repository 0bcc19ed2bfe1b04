"""YOLOv5 with its weights, fed frame by frame: letterbox, network, detections, pooled maps.

Refuses to know files' formats and the layers of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.base.contract import random_seed
from models.extractors.base.inference import (
    Picture,
    copy_frame,
    inference_context,
    prefers_planes,
    split_into_batches,
    stack_frames,
    stacking_key,
)
from models.extractors.base.yuv import Planes
from models.extractors.yolov5.boxes import (
    CLASS_OFFSET_PIXELS,
    NmsSettings,
    Size,
    best_detections,
    letterbox,
    letterbox_on_device,
    to_frame,
    to_frame_by_rounded_size,
    unknown_where_not_finite,
)
from models.extractors.yolov5.detector import Detection, Detector, LetterboxedFrame
from models.extractors.yolov5.network import YOLOv5
from models.extractors.yolov5.settings import DETECTIONS, MAPS, SIZES, YOLOv5Settings
from models.extractors.yolov5.weights import initialise, load_tensors


class TorchDetector:
    """Our network, and what its release does with its boxes. Folds the network's norms."""

    def __init__(self, network: YOLOv5, settings: YOLOv5Settings, device: str) -> None:
        network.eval().fold_norms()
        network.lower(settings.precision)
        self.network = network.to(device)
        self.settings = settings
        self.back = to_frame_by_rounded_size if settings.release == "u" else to_frame
        self.choice = NmsSettings(
            settings.score_threshold,
            settings.nms_threshold,
            CLASS_OFFSET_PIXELS[settings.release],
            settings.max_detections,
        )

    def __call__(self, pictures: Tensor, frame_sizes: Sequence[Size]) -> Detection:
        """As `Detector` says."""
        outputs = self.network(pictures)
        size = (pictures.shape[2], pictures.shape[3])
        found = best_detections(outputs["boxes"], outputs["scores"], self.choice)
        detections = [
            self.back(one, size, frame_size)
            for one, frame_size in zip(found, frame_sizes, strict=True)
        ]
        detections = unknown_where_not_finite(detections, outputs["boxes"], outputs["scores"])
        return Detection({name: outputs[name] for name in MAPS}, detections)


class YOLOv5Extractor:
    """A detector on a device. Frames share a forward only on a GPU, and only with frames of their
    size.
    """

    def __init__(self, detector: Detector, settings: YOLOv5Settings, device: str) -> None:
        self.detector = detector
        self.settings = settings
        self.device = device
        self.fast = settings.resize == "fast"
        self.planar = prefers_planes(device, fast=self.fast)

    def prepare(self, frame: Picture) -> LetterboxedFrame:
        """`(H, W, 3)` uint8 RGB of any size → scaled and padded, bit-equal to the releases' own
        `letterbox`.

        With the fast resize the frame, or its planes, stay as they are until `extract`.
        """
        size = (frame.shape[0], frame.shape[1])
        return LetterboxedFrame(
            copy_frame(frame)
            if self.fast or isinstance(frame, Planes)
            else letterbox(frame, self.settings.input_pixels),
            size,
        )

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one prepared frame each → float32 rows of each kept array."""
        frames: list[LetterboxedFrame] = [window[0] for window in windows]
        with inference_context(self.device):
            outputs = [
                self._arrays(batch)
                for batch in split_into_batches(
                    frames, self.device, lambda frame: stacking_key(frame.picture)
                )
            ]
        return {
            name: [row for output in outputs for row in output[name]]
            for name in self.settings.arrays
        }

    def _arrays(self, frames: Sequence[LetterboxedFrame]) -> dict[str, Sequence[NDArray[Any]]]:
        pictures = stack_frames([frame.picture for frame in frames], self.device)
        if self.fast:
            pictures = letterbox_on_device(pictures, self.settings.input_pixels)
        seen = self.detector(pictures, [frame.frame_size for frame in frames])
        arrays: dict[str, Sequence[NDArray[Any]]] = {}
        for name in self.settings.arrays:
            if name == DETECTIONS:
                counts = [len(found) for found in seen.detections]
                every = (
                    torch.cat(list(seen.detections)).float().cpu()
                )  # one wait for a GPU, and not one a picture
                arrays[name] = [found.numpy() for found in torch.split(every, counts)]
            else:
                pooled = nn.functional.adaptive_avg_pool2d(
                    seen.maps[name], self.settings.grid
                )  # (B, C, grid, grid)
                arrays[name] = list(pooled.float().cpu().numpy())
        return arrays


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
    from models.extractors.yolov5.ultralytics_backend import (
        UltralyticsDetector,
    )  # seconds to import

    return UltralyticsDetector(network.state_dict(), settings, device)
