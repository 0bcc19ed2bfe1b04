"""Every extractor there is. To add one: write its file beside this one, import its SPEC, add a
row.
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

EXTRACTORS: dict[str, ExtractorSpec] = {
    "c3d": c3d.SPEC,
    "frames": frames.SPEC,
    "keypoint_rcnn": keypoint_rcnn.SPEC,
    "tased": tased.SPEC,
    "yolov5": yolov5.SPEC,
}


def extractor(name: str) -> ExtractorSpec:
    """The row of that name; KeyError lists the names there are."""
    if name not in EXTRACTORS:
        raise KeyError(
            f"no extractor is called {name!r}; there are {', '.join(sorted(EXTRACTORS))}"
        )
    return EXTRACTORS[name]


def _by_name(spec: ExtractorSpec) -> tuple[Callable[[str], ExtractorSpec], tuple[str]]:
    return extractor, (spec.name,)


# A spec holds functions, which cannot be pickled. It travels between processes as its name and is
# looked up again.
copyreg.pickle(ExtractorSpec, _by_name)
