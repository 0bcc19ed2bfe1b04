"""`yolov5`: objects in single frames, as detections and as the maps under the last layer.

The network is in `network.py`; preprocessing and boxes are in `boxes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, GoldenCase
from models.extractors.base.sampling import EveryFrame, FramesAtRate, Sampling
from models.extractors.yolov5.settings import DETECTIONS, MAPS, SIZES, YOLOv5Settings


def _build(settings: YOLOv5Settings, weights: str, device: str) -> Extractor:
    from models.extractors.yolov5.extractor import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: YOLOv5Settings) -> Mapping[str, ArraySpec]:
    """Maps are (channels, grid, grid).

    A detection is x1, y1, x2, y2 in pixels of the decoded frame, score and class.
    """
    scale, grid = SIZES[settings.size], settings.grid
    specs = {DETECTIONS: ArraySpec("float32", (6,), ragged=True)}
    for name, base_channels in MAPS.items():
        specs[name] = ArraySpec("float16", (scale.channels(base_channels), grid, grid))
    return {name: specs[name] for name in settings.arrays}


def _sampling(settings: YOLOv5Settings) -> Sampling:
    return FramesAtRate(settings.frames_per_second) if settings.frames_per_second else EveryFrame()


SPEC = ExtractorSpec(
    name="yolov5",
    numerics_version=1,
    settings_type=YOLOv5Settings,
    arrays=_arrays,
    sampling=_sampling,
    build=_build,
    needs_weights=True,
    windows_on_gpu=64,
    golden=GoldenCase(
        settings={
            "arrays": ("p3", "p4", "p5", "detections"),
            "size": "n",
            "input_pixels": 320,
        },
        resize_settings={"input_pixels": 256},
    ),
)
