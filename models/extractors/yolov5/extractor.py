"""YOLOv5 as an extractor: letterbox, network, detections, pooled maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.extractors.base.contract import Frame, random_seed
from models.extractors.base.inference import inference_context
from models.extractors.base.resizing_extractor import FrameExtractor, SizedFrame
from models.extractors.yolov5.boxes import (
    CLASS_OFFSET_PIXELS,
    NmsSettings,
    Size,
    best_detections,
    letterbox,
    letterbox_on_device,
    mark_not_finite,
    to_frame,
    to_frame_by_rounded_size,
)
from models.extractors.yolov5.detector import Detection, Detector
from models.extractors.yolov5.network import YOLOv5
from models.extractors.yolov5.settings import DETECTIONS, MAPS, SIZES, YOLOv5Settings
from models.extractors.yolov5.weights import initialise, load_tensors


class TorchDetector:
    """Our network, and its release's selection of boxes. Folds the network's norms."""

    def __init__(self, network: YOLOv5, settings: YOLOv5Settings, device: str) -> None:
        network.eval().fold_norms()
        network.set_precision(settings.precision)
        self.network = network.to(device)
        self.to_frame = to_frame_by_rounded_size if settings.release == "u" else to_frame
        self.nms = NmsSettings(
            settings.score_threshold,
            settings.nms_threshold,
            CLASS_OFFSET_PIXELS[settings.release],
            settings.max_detections,
        )

    def __call__(self, pictures: Tensor, frame_sizes: Sequence[Size]) -> Detection:
        """See `Detector`."""
        outputs = self.network(pictures)
        boxes, scores = outputs["boxes"], outputs["scores"]
        input_size = (pictures.shape[2], pictures.shape[3])
        best = best_detections(boxes, scores, self.nms)
        detections = [
            self.to_frame(of_picture, input_size, frame_size)
            for of_picture, frame_size in zip(best, frame_sizes, strict=True)
        ]
        maps = {name: outputs[name] for name in MAPS}
        return Detection(maps, mark_not_finite(detections, boxes, scores))


class YOLOv5Extractor(FrameExtractor):
    """A detector on a device. On a GPU frames of one size share a forward."""

    def __init__(self, detector: Detector, settings: YOLOv5Settings, device: str) -> None:
        super().__init__(settings, device)
        self.detector = detector
        self.settings = settings

    def resize(self, frame: Frame) -> Frame:
        """`(H, W, 3)` uint8 RGB → scaled and padded, bit-equal to the releases' `letterbox`."""
        return letterbox(frame, self.settings.input_pixels)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one prepared frame → float32 rows of each kept array."""
        rows: dict[str, list[NDArray[Any]]] = {name: [] for name in self.settings.arrays}
        with inference_context(self.device):
            for frames in self.frame_batches(windows):
                detection = self._detect(frames)
                for name in rows:
                    rows[name].extend(self._rows(detection, name))
        return rows

    def _detect(self, frames: Sequence[SizedFrame]) -> Detection:
        pictures = self.stack(frames)
        if self.resizes_on_device:
            pictures = letterbox_on_device(pictures, self.settings.input_pixels)
        return self.detector(pictures, [frame.frame_size for frame in frames])

    def _rows(self, detection: Detection, name: str) -> list[NDArray[Any]]:
        """The float32 rows of one array for a batch."""
        if name == DETECTIONS:
            counts = [len(found) for found in detection.detections]
            # Joined first: one wait for a GPU, and not one per picture.
            joined = torch.cat(list(detection.detections)).float().cpu()
            return [part.numpy() for part in torch.split(joined, counts)]
        # (B, C, grid, grid)
        pooled = functional.adaptive_avg_pool2d(detection.maps[name], self.settings.grid)
        return list(pooled.float().cpu().numpy())


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
    # Imported here, because the import takes seconds.
    from models.extractors.yolov5.ultralytics_backend import UltralyticsDetector

    return UltralyticsDetector(network.state_dict(), settings, device)
