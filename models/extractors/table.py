"""Every extractor there is. To add one: write its file beside this one, import its SPEC, add a row."""

from __future__ import annotations

import copyreg
from collections.abc import Callable

from models.extractors import c3d, frames, keypoint_rcnn, tased, yolov5
from models.extractors.spec import ExtractorSpec

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
        raise KeyError(f"no extractor is called {name!r}; there are {', '.join(sorted(EXTRACTORS))}")
    return EXTRACTORS[name]


def _by_name(spec: ExtractorSpec) -> tuple[Callable[[str], ExtractorSpec], tuple[str]]:
    return extractor, (spec.name,)


# A spec holds functions, which cannot be pickled. It travels between processes as its name and is looked up again.
copyreg.pickle(ExtractorSpec, _by_name)
