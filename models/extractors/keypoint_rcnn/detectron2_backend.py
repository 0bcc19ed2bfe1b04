"""Keypoint R-CNN computed by the detectron2 package itself, where somebody has installed it.

It gives what `keypoint_rcnn_network.py` gives, and is held to it. Refuses to know files: tensors
come checked.
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
        self.kept = threading.local()  # frames may be looked at side by side
        self.model.roi_heads.keypoint_head.conv_fcn_relu8.register_forward_hook(self._keep_maps)

    def _keep_maps(self, _module: Any, _inputs: Any, output: Tensor) -> None:
        self.kept.maps = output

    def __call__(
        self, pictures: Tensor, originals: Sequence[tuple[int, int]], rules: RcnnSettings
    ) -> list[Persons]:
        """`(B, 3, H, W)` uint8 RGB, resized from frames of `originals` (height, width) → the
        persons of each.
        """
        return [self._persons(*one, rules) for one in zip(pictures, originals, strict=True)]

    def _persons(self, picture: Tensor, original: tuple[int, int], rules: RcnnSettings) -> Persons:
        height, width = original
        batch = [{"image": picture.flip(0).float(), "height": height, "width": width}]
        self.kept.maps = None
        found = self.model.inference(batch, do_postprocess=False)[0]
        if self.kept.maps is None:
            raise RuntimeError(
                "Detectron2 ran no keypoint head; this release is not the one this backend was made for"
            )
        # Detectron2 carries every field along when it rescales and drops persons.
        found.joint_features = features_at_keypoints(
            self.kept.maps, found.pred_keypoints, found.pred_boxes.tensor
        )
        found = detector_postprocess(found, height, width)[: rules.max_persons]
        boxes = found.pred_boxes.tensor
        scored = boxes.new_empty(len(boxes), 5)
        scored[:, :4], scored[:, 4] = boxes, found.scores
        return Persons(scored, found.pred_keypoints, found.joint_features)
