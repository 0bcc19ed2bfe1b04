"""COCO's skeleton as a graph: bones between the 17 keypoints of `keypoint_rcnn`."""

from __future__ import annotations

import torch
from torch import Tensor

from models.extractors.keypoint_rcnn.settings import KEYPOINTS

BONES = (
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
    ("left_ear", "left_shoulder"),
    ("right_ear", "right_shoulder"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_hip", "left_knee"),
    ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"),
    ("right_knee", "right_ankle"),
)
"""COCO's 19 bones (person_keypoints annotations, field `skeleton`)."""


def bone_weights() -> Tensor:
    """`(17, 17)`: row i averages over the neighbours of keypoint i."""
    connected = torch.zeros(len(KEYPOINTS), len(KEYPOINTS))
    for start, end in BONES:
        i, j = KEYPOINTS.index(start), KEYPOINTS.index(end)
        connected[i, j] = connected[j, i] = 1
    return connected / connected.sum(dim=1, keepdim=True)
