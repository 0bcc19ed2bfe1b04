"""What each extractor gives for one small clip made from a formula, with seeded weights: known
numbers to be held to.

The numbers lie in `goldens.json`, written by `tests/models/goldens/make_goldens.py`. Knows
extractors by their contract only. Refuses to know when the proof is due and what follows from a
failure.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, Frame
from models.extractors.base.precision import Numerics, allowed_error
from models.extractors.base.sampling import (
    ConsecutiveFrames,
    FramesAtRateWithHistory,
    FramesOfSegments,
    Sampling,
)
from models.extractors.golden.output_error import Rows, output_errors

GOLDENS_FILE = Path(__file__).with_name("goldens.json")
WEIGHTS = "random:0"
HEIGHT, WIDTH = 180, 320
PROJECTIONS = 8
TOLERANCE = 1e-4
"""Of an array's norm. Rounding differs by about 1e-6 between processors; a swapped channel, a
missing division or a shifted crop by more than 1e-2.
"""
TOLERANCES = {"frames.jpeg": 1e-2, "keypoint_rcnn.joint_features": 5e-3, "tased.saliency": 1e-3}
"""Arrays that rounding moves further: JPEG decoders differ by a step of 255; joint features are
read where a joint is, and move with it; unpooled saliency amplifies rounding (noise of 1e-7 in
every convolution, two threads and float64 each move it by 8e-5; two frames in the wrong order, or a
mean that is off by 4 of 255, by 2e-2).
"""

GOLDEN_SETTINGS: dict[str, dict[str, Any]] = {
    "c3d": {"arrays": ("pool5", "fc6", "fc7")},
    "keypoint_rcnn": {"min_size_pixels": 224, "max_size_pixels": 416, "max_persons": 2},
    "tased": {"block_pixels": 8},
    "yolov5": {"arrays": ("p3", "p4", "p5", "detections"), "size": "n", "input_pixels": 320},
}
"""Extractor → settings other than its defaults that make the proof cheap, or make it look at
more.
"""
RESIZE_SETTINGS: dict[str, dict[str, Any]] = {"yolov5": {"input_pixels": 256}}
"""The same for the proof of another resize: settings under which the clip has to be resized."""


@dataclass(frozen=True)
class GoldenOutput:
    """One array of one row, in a few numbers."""

    shape: tuple[int, ...]
    norm: float
    projections: tuple[float, ...]


class GoldenMissing(LookupError):
    """An extractor has no known numbers of its present numerics version."""


def synthetic_clip(length_frames: int) -> list[Frame]:
    """`(180, 320, 3)` frames with coarse and fine structure, all three channels unlike each other,
    moving.
    """
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return [_picture(x, y, t) for t in range(length_frames)]


def _picture(x: NDArray[Any], y: NDArray[Any], t: int) -> Frame:
    red = (x + 3 * t) // 2 ^ (y // 3 * 2)
    green = x * y // 97 + 5 * t
    blue = 40 + 60 * (((x - 160 - 2 * t) ** 2 + 2 * (y - 90) ** 2) // 900 % 3)
    return np.stack([red & 255, green & 255, blue & 255], axis=-1).astype(np.uint8)


def window_frames(sampling: Sampling) -> int:
    """How many frames a row of this sampling sees."""
    if isinstance(sampling, ConsecutiveFrames | FramesOfSegments):
        return sampling.length_frames
    return sampling.history_frames if isinstance(sampling, FramesAtRateWithHistory) else 1


def golden_settings(spec: ExtractorSpec, **others: Any) -> Any:
    """The settings of the proof: defaults, but for what stands in `GOLDEN_SETTINGS` and
    `others`.
    """
    return spec.settings_type(**{**GOLDEN_SETTINGS.get(spec.name, {}), **others})


def _rows(spec: ExtractorSpec, device: str, **others: Any) -> Rows:
    settings = golden_settings(spec, **others)
    extractor: Extractor = spec.build(settings, WEIGHTS if spec.needs_weights else "", device)
    frames = synthetic_clip(window_frames(spec.sampling(settings)))
    return extractor.extract([[extractor.prepare(frame) for frame in frames]])


def compute_golden_outputs(spec: ExtractorSpec, device: str) -> dict[str, GoldenOutput]:
    """What the code gives here, on a torch device: array name → signature."""
    forms = spec.arrays(golden_settings(spec))
    return {name: summarize_row(rows[0], forms[name]) for name, rows in _rows(spec, device).items()}


def precision_violations(spec: ExtractorSpec, device: str, numerics: Numerics) -> Iterator[str]:
    """A sentence for each array that `numerics` takes further here than allowed from what fp32 and
    parity give here.
    """
    resizing = RESIZE_SETTINGS.get(spec.name, {})
    reference = _rows(spec, device, **resizing)
    found = _rows(spec, device, **resizing, precision=numerics.precision, resize=numerics.resize)
    limits = {
        name: limit
        for name in reference
        if (limit := allowed_error(spec.name, name, numerics)) is not None
    }
    for name, drift in output_errors({name: reference[name] for name in limits}, found).items():
        if drift.exceeds(limits[name]):
            yield f"{spec.name}.{name} drifts by {drift} under {numerics}; allowed is {limits[name]}"


def summarize_row(row: NDArray[Any], form: ArraySpec | None = None) -> GoldenOutput:
    """A row in a few numbers; of JPEG bytes, as `form` tells them, the picture."""
    values = _decoded(row) if form and form.dtype == "uint8" else row
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    steps = np.arange(1, flat.size + 1)
    projections = [
        float((flat * np.cos(steps * math.sqrt(k + 2))).sum()) for k in range(PROJECTIONS)
    ]
    return GoldenOutput(tuple(values.shape), float(np.linalg.norm(flat)), tuple(projections))


def _decoded(jpeg: NDArray[Any]) -> NDArray[Any]:
    picture = cv2.imdecode(np.asarray(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("an array of uint8 rows holds JPEG files, and OpenCV reads none there")
    return np.asarray(picture)


def golden_entry(spec: ExtractorSpec, found: Mapping[str, GoldenOutput]) -> dict[str, Any]:
    """The entry of one extractor in `goldens.json`."""
    arrays = {name: dataclasses.asdict(signature) for name, signature in found.items()}
    settings = dataclasses.asdict(golden_settings(spec))
    for field in dataclasses.fields(
        Numerics
    ):  # known numbers are those of the defaults, whatever is chosen
        settings.pop(field.name, None)
    return {"numerics_version": spec.numerics_version, "settings": settings, "arrays": arrays}


def known_outputs(spec: ExtractorSpec) -> dict[str, GoldenOutput]:
    """The committed numbers of an extractor. Raises GoldenMissing if they are missing or of other
    numerics or settings.
    """
    entry = json.loads(GOLDENS_FILE.read_text()).get(spec.name)
    if entry is None:
        raise GoldenMissing(f"{GOLDENS_FILE.name} has no numbers for {spec.name}")
    made = json.loads(json.dumps(golden_entry(spec, {})))
    for what in ("numerics_version", "settings"):
        if entry[what] != made[what]:
            raise GoldenMissing(
                f"{GOLDENS_FILE.name} has {spec.name} with {what} {entry[what]}, the code has {made[what]}"
            )
    return {
        name: GoldenOutput(tuple(array["shape"]), array["norm"], tuple(array["projections"]))
        for name, array in entry["arrays"].items()
    }


def golden_differences(spec: ExtractorSpec, found: Mapping[str, GoldenOutput]) -> Iterator[str]:
    """A sentence for each array that is not what it is known to be. Raises GoldenMissing."""
    expected = known_outputs(spec)
    if expected.keys() != found.keys():
        yield f"{spec.name} gives {', '.join(found)}, known are {', '.join(expected)}"
    for name in expected.keys() & found.keys():
        tolerance = TOLERANCES.get(f"{spec.name}.{name}", TOLERANCE)
        if expected[name].shape != found[name].shape:
            yield f"{spec.name}.{name} has the shape {found[name].shape}, known is {expected[name].shape}"
        elif (error := golden_error(expected[name], found[name])) > tolerance or math.isnan(error):
            yield f"{spec.name}.{name} is off by {error:.1e} of its norm, allowed is {tolerance:.0e}"


def golden_error(expected: GoldenOutput, found: GoldenOutput) -> float:
    """The largest difference of norms and projections, over the norm."""
    pairs: Sequence[tuple[float, float]] = [
        (expected.norm, found.norm),
        *zip(expected.projections, found.projections, strict=True),
    ]
    return max(abs(one - other) for one, other in pairs) / max(expected.norm, 1e-30)
