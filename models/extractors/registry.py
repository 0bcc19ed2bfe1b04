"""Every extractor, by name.

To add one: write its folder beside this file, import its SPEC, and add a row.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable

from models.extractors.base.contract import ExtractorSpec
from models.extractors.c3d import spec as c3d
from models.extractors.jpeg_frames import spec as frames
from models.extractors.keypoint_rcnn import spec as keypoint_rcnn
from models.extractors.tased import spec as tased
from models.extractors.yolov5 import spec as yolov5
from models.registry import Registry

EXTRACTORS = Registry(
    "extractor",
    {
        "c3d": c3d.SPEC,
        "frames": frames.SPEC,
        "keypoint_rcnn": keypoint_rcnn.SPEC,
        "tased": tased.SPEC,
        "yolov5": yolov5.SPEC,
    },
    kind=ExtractorSpec,
    group="video_highlights.extractors",
)


def _spec_of_name(name: str) -> ExtractorSpec:
    return EXTRACTORS[name]


def _pickle_by_name(spec: ExtractorSpec) -> tuple[Callable[[str], ExtractorSpec], tuple[str]]:
    return _spec_of_name, (spec.name,)


# A spec holds functions, which cannot be pickled. It travels between processes as its name and is
# looked up again.
copyreg.pickle(ExtractorSpec, _pickle_by_name)
