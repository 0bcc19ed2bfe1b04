"""Settings and constants of keypoint R-CNN; imports no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from models.extractors.base.contract import ArraySpec
from models.extractors.base.precision import Numerics
from models.validation import at_least, between, distinct_names, one_of, unit_interval

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
"""COCO's keypoints, in the order of every array's keypoint axis."""

FEATURE_CHANNELS = 512

ARRAYS = {
    "boxes": ArraySpec("float32", (5,), ragged=True),
    "joints": ArraySpec("float32", (len(KEYPOINTS), 3), ragged=True),
    "joint_features": ArraySpec("float16", (len(KEYPOINTS), FEATURE_CHANNELS), ragged=True),
}
"""The arrays that can be kept. A row is a frame; its items are persons, in the same order in every
array.

`boxes`: x1, y1, x2, y2 in pixels of the frame as decoded, and the score, 0 to 1. `joints` (COCO
keypoints): x, y in the same pixels, and Detectron2's keypoint score, 0 and up. `joint_features`:
the last hidden map of the keypoint head (`conv_fcn8`, 512 channels, 14×14 over the box), read
bilinearly at the keypoint. It is the layer below the heatmaps, and holds more than a place.
"""

BACKENDS = ("torchvision", "detectron2")


@dataclass(frozen=True)
class KeypointRCNNSettings(Numerics):
    """What a user may set of `keypoint_rcnn`; the defaults are those of the published model."""

    arrays: tuple[str, ...] = ("boxes", "joints", "joint_features")
    """Which of boxes, joints (COCO keypoints) and joint_features (17 kB a person) to keep."""
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
        distinct_names("arrays", self.arrays, ARRAYS)
        at_least("frames_per_second", self.frames_per_second, 0)
        if not 32 <= self.min_size_pixels <= self.max_size_pixels <= 4096:
            raise ValueError(
                "32 <= min_size_pixels <= max_size_pixels <= 4096 must hold; got "
                f"{self.min_size_pixels} and {self.max_size_pixels}"
            )
        unit_interval("score_threshold", self.score_threshold)
        unit_interval("nms_threshold", self.nms_threshold)
        between("max_persons", self.max_persons, 1, 100)
        one_of("backend", self.backend, BACKENDS)
        if self.backend == "detectron2":
            self._check_detectron2()

    def _check_detectron2(self) -> None:
        if self.precision != "fp32":
            raise ValueError(
                f"backend detectron2 supports only precision = fp32; got {self.precision!r}"
            )
        if importlib.util.find_spec("detectron2") is None:
            raise ValueError(
                "backend = detectron2, but that package is not installed. Build it from "
                "github.com/facebookresearch/detectron2, or set backend = torchvision, which gives "
                "the same numbers"
            )
