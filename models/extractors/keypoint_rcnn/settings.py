"""Settings and constants of keypoint R-CNN; imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from models.extractors.base.contract import ArraySpec
from models.extractors.base.precision import Numerics

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""Names of the joints, in the order of every array's joint axis (COCO's)."""


FEATURE_CHANNELS = 512


ARRAYS = {
    "boxes": ArraySpec("float32", (5,), ragged=True),
    "joints": ArraySpec("float32", (len(KEYPOINTS), 3), ragged=True),
    "joint_features": ArraySpec("float16", (len(KEYPOINTS), FEATURE_CHANNELS), ragged=True),
}
"""What can be kept. A row is a frame; its items are persons, the same ones in the same order in
every array.

`boxes`: x1, y1, x2, y2 in pixels of the frame as decoded, and the score, 0 to 1. `joints`: x, y in
the same pixels, and Detectron2's keypoint score, 0 and up. `joint_features`: the last hidden map of
the keypoint head (`conv_fcn8`, 512 channels, 14×14 over the box), read bilinearly where the joint
is; it is the layer under the one that says where joints are, and unlike the heatmaps it has more to
tell than a place.
"""


BACKENDS = ("torchvision", "detectron2")


@dataclass(frozen=True)
class KeypointRCNNSettings(Numerics):
    """What a user may set of `keypoint_rcnn`; the defaults are those of the published model."""

    arrays: tuple[str, ...] = ("boxes", "joints", "joint_features")
    """Which of boxes, joints and joint_features (17 kB a person) to keep."""
    frames_per_second: float = 2.0
    """Frames looked at per second; 0 looks at every native frame."""
    min_size_pixels: int = 800
    """The shorter side of a frame is resized to this many pixels, ..."""
    max_size_pixels: int = 1333
    """... unless the longer one would exceed this many; then the longer one is resized to it."""
    score_threshold: float = 0.05
    """Persons must score more than this."""
    nms_threshold: float = 0.5
    """Of two boxes whose intersection over union is more than this, the lower scored one goes."""
    max_persons: int = 5
    """A row holds at most the so many best scored persons, best first; with equal scores the order
    of Detectron2's suppression decides. A frame without a person is a row without items. 100, its
    own limit, is the highest.
    """
    backend: str = "torchvision"
    """torchvision computes what Detectron2 computes; detectron2 asks that package itself, where it
    is installed.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.arrays if name not in ARRAYS]
        if unknown or not self.arrays or len(set(self.arrays)) != len(self.arrays):
            raise ValueError(
                f"arrays names one or more of {', '.join(ARRAYS)}, each once; got {self.arrays}"
            )
        if self.frames_per_second < 0:
            raise ValueError(
                f"frames_per_second is 0 (every frame) or more, got {self.frames_per_second}"
            )
        if not 32 <= self.min_size_pixels <= self.max_size_pixels <= 4096:
            sizes = f"{self.min_size_pixels} and {self.max_size_pixels}"
            raise ValueError(
                f"32 <= min_size_pixels <= max_size_pixels <= 4096 must hold, got {sizes}"
            )
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is 0 to 1, got {getattr(self, name)}")
        if not 1 <= self.max_persons <= 100:
            raise ValueError(f"max_persons is 1 to 100, got {self.max_persons}")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is one of {', '.join(BACKENDS)}; got {self.backend!r}")
        if self.backend == "detectron2" and self.precision != "fp32":
            raise ValueError(
                f"precision is fp32 with the backend detectron2; got {self.precision!r}"
            )
        if self.backend == "detectron2" and importlib.util.find_spec("detectron2") is None:
            raise ValueError(
                "backend is detectron2, but that package is not installed here: build it from "
                "github.com/facebookresearch/detectron2, or use torchvision, which gives the same numbers"
            )
