"""`keypoint_rcnn`: persons and their 17 COCO keypoints in single frames.

The network, its source and its preprocessing are in `network.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, GoldenCase
from models.extractors.base.sampling import EveryFrame, FramesAtRate, Sampling
from models.extractors.keypoint_rcnn.settings import ARRAYS, KeypointRCNNSettings


def _build(settings: KeypointRCNNSettings, weights: str, device: str) -> Extractor:
    from models.extractors.keypoint_rcnn.extractor import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: KeypointRCNNSettings) -> Mapping[str, ArraySpec]:
    return {name: ARRAYS[name] for name in settings.arrays}


def _sampling(settings: KeypointRCNNSettings) -> Sampling:
    return FramesAtRate(settings.frames_per_second) if settings.frames_per_second else EveryFrame()


SPEC = ExtractorSpec(
    name="keypoint_rcnn",
    numerics_version=1,
    settings_type=KeypointRCNNSettings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
    windows_on_gpu=8,
    golden=GoldenCase(
        settings={"min_size_pixels": 224, "max_size_pixels": 416, "max_persons": 2},
        # Features are read at a keypoint, and move with it.
        tolerances={"joint_features": 5e-3},
    ),
)
