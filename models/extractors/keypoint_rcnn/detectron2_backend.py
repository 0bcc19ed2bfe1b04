"""Keypoint R-CNN computed by the detectron2 package itself, where it is installed.

A test holds it to the numbers of `network.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2 import model_zoo
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from torch import Tensor

from models.extractors.keypoint_rcnn.keypoints import features_at_keypoints
from models.extractors.keypoint_rcnn.network import Persons, RcnnSettings
from models.extractors.keypoint_rcnn.settings import KeypointRCNNSettings

CONFIG = "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml"


class Detectron2Detector:
    """Detectron2's model with the thresholds of `settings`."""

    def __init__(
        self, tensors: Mapping[str, Tensor], settings: KeypointRCNNSettings, device: str
    ) -> None:
        config = model_zoo.get_config(CONFIG)
        config.MODEL.DEVICE = device
        config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = settings.score_threshold
        config.MODEL.ROI_HEADS.NMS_THRESH_TEST = settings.nms_threshold
        self.model = build_model(config).eval()
        self.model.load_state_dict(dict(tensors))
        # One for each thread, because several threads may run frames through the same model.
        self.captured = threading.local()
        self.model.roi_heads.keypoint_head.conv_fcn_relu8.register_forward_hook(self._capture_maps)

    def _capture_maps(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self.captured.maps = output

    def __call__(
        self, pictures: Tensor, frame_sizes: Sequence[tuple[int, int]], settings: RcnnSettings
    ) -> list[Persons]:
        """The persons of each of `(B, 3, H, W)` uint8 RGB pictures.

        They were resized from frames of `frame_sizes` (height, width).
        """
        return [
            self._persons(picture, frame_size, settings)
            for picture, frame_size in zip(pictures, frame_sizes, strict=True)
        ]

    def _persons(
        self, picture: Tensor, frame_size: tuple[int, int], settings: RcnnSettings
    ) -> Persons:
        height, width = frame_size
        batch = [{"image": picture.flip(0).float(), "height": height, "width": width}]
        self.captured.maps = None
        found = self.model.inference(batch, do_postprocess=False)[0]
        if self.captured.maps is None:
            raise RuntimeError(
                "Detectron2 did not run its keypoint head conv_fcn_relu8. Install the release that "
                "this backend supports, or set backend = torchvision"
            )
        # An extra field, because Detectron2 carries every field along when it rescales and drops
        # persons.
        found.keypoint_features = features_at_keypoints(
            self.captured.maps, found.pred_keypoints, found.pred_boxes.tensor
        )
        found = detector_postprocess(found, height, width)[: settings.max_persons]
        boxes = found.pred_boxes.tensor
        scored = boxes.new_empty(len(boxes), 5)
        scored[:, :4], scored[:, 4] = boxes, found.scores
        return Persons(scored, found.pred_keypoints, found.keypoint_features)
