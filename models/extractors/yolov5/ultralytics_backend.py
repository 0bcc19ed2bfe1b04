"""YOLOv5 of the release `u`, computed by the ultralytics package without its side effects.

On import that package writes settings into the home folder, tests its internet connection, turns
off OpenCV's threads for the whole process, replaces `torch.save` and sets environment variables.
Here its settings go into a temporary folder, a variable makes it work offline, and the process-wide
changes are undone. Its licence is AGPL-3.0.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from models.extractors.yolov5.boxes import Size, mark_not_finite
from models.extractors.yolov5.detector import Detection
from models.extractors.yolov5.settings import MAPS, YOLOv5Settings


@contextmanager
def _without_side_effects() -> Iterator[None]:
    environment, threads, save = dict(os.environ), cv2.getNumThreads(), torch.save
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.printoptions():
        os.environ |= {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= environment
            cv2.setNumThreads(threads)
            torch.save = save


with _without_side_effects():
    import ultralytics
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes


class UltralyticsDetector:
    """The package's network, suppression and scaling; a `Detector`."""

    def __init__(
        self, tensors: Mapping[str, Tensor], settings: YOLOv5Settings, device: str
    ) -> None:
        # An absolute path, because the package prefers a file of that name in the working folder.
        folder = Path(ultralytics.__file__).parent / "cfg" / "models" / "v5"
        model = DetectionModel(str(folder / f"yolov5{settings.size}.yaml"), verbose=False)
        model.load_state_dict(tensors)
        self.model = model.eval().fuse(verbose=False).to(device)
        self.settings = settings

    def __call__(self, pictures: Tensor, frame_sizes: Sequence[Size]) -> Detection:
        """See `Detector`."""
        prediction, raw = self.model(pictures.float() / 255)
        detections = non_max_suppression(
            prediction,
            self.settings.score_threshold,
            self.settings.nms_threshold,
            max_det=self.settings.max_detections,
        )
        for found, frame_size in zip(detections, frame_sizes, strict=True):
            found[:, :4] = scale_boxes(tuple(pictures.shape[2:]), found[:, :4], frame_size)
        return Detection(
            dict(zip(MAPS, raw["feats"], strict=True)),
            mark_not_finite(detections, prediction),
        )
