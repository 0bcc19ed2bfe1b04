"""`yolov5`, objects in single frames: the maps under the detector's last layer, and what it
detects.

The network itself is in `yolov5_network.py`, its preprocessing and its boxes in `yolov5_boxes.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec
from models.extractors.base.sampling import EveryFrame, FramesAtRate, Sampling
from models.extractors.yolov5.settings import DETECTIONS, MAPS, SIZES, YOLOv5Settings


def _build(settings: YOLOv5Settings, weights: str, device: str) -> Extractor:
    from models.extractors.yolov5.extractor import build_extractor

    return build_extractor(settings, weights, device)


def _arrays(settings: YOLOv5Settings) -> Mapping[str, ArraySpec]:
    """Maps are (channels, grid, grid); a detection is x1, y1, x2, y2 in pixels of the decoded
    frame, score, class.
    """
    scale, cells = SIZES[settings.size], (settings.grid, settings.grid)
    maps = {
        name: ArraySpec("float16", (scale.channels(base), *cells)) for name, base in MAPS.items()
    }
    return {
        name: (maps | {DETECTIONS: ArraySpec("float32", (6,), ragged=True)})[name]
        for name in settings.arrays
    }


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
)
