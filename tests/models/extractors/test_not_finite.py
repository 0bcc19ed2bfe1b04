"""Pictures of one colour, and numbers that are none inside a network: finite rows, or rows that say
so; no crash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.base.contract import Frame
from models.extractors.base.inference import LOW_PRECISION_LAYERS
from models.extractors.golden import golden_outputs
from models.extractors.registry import EXTRACTORS
from pipeline.extraction.track_builder import TrackBuilder
from pipeline.extraction.variant import Variant
from pipeline.sampling.planner import Window
from storage.base.errors import VideoError

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "c3d": ("c3d", {"arrays": ("pool5", "fc6", "fc7")}),
    "frames": ("frames", {}),
    "keypoint_rcnn": (
        "keypoint_rcnn",
        {"min_size_pixels": 64, "max_size_pixels": 96, "max_persons": 2},
    ),
    "tased": ("tased", {}),
    "yolov5": (
        "yolov5",
        {"arrays": ("p3", "p4", "p5", "detections"), "size": "n", "input_pixels": 96},
    ),
    "yolov5-detections": ("yolov5", {"arrays": ("detections",), "size": "n", "input_pixels": 96}),
    "yolov5-u": (
        "yolov5",
        {"arrays": ("detections",), "size": "n", "input_pixels": 96, "release": "u"},
    ),
    "yolov5-ultralytics": (
        "yolov5",
        {
            "arrays": ("detections",),
            "size": "n",
            "input_pixels": 96,
            "release": "u",
            "backend": "ultralytics",
        },
    ),
}
NETWORKS = [
    pytest.param(case, marks=pytest.mark.slow) if case == "c3d" else case
    for case in CASES
    if case != "frames"
]
HAS_ULTRALYTICS = find_spec("ultralytics") is not None
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green of a screen": (0, 177, 64),
}
SPOILT_LAYERS = 3
"""So many layers are spoilt, one after the other."""


def variant_of(case: str) -> Variant:
    if case == "yolov5-ultralytics" and not HAS_ULTRALYTICS:
        pytest.skip("LOUD SKIP: the ultralytics package is not installed")
    name, settings = CASES[case]
    spec = EXTRACTORS[name]
    return Variant(
        name,
        spec,
        spec.settings_type(**settings),
        golden_outputs.WEIGHTS if spec.needs_weights else "",
    )


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A name, and its extractor."""
    return request.param, variant_of(request.param).build("cpu")


of_networks = pytest.mark.parametrize("case", NETWORKS, indirect=True, scope="module")


def rows_of(
    name: str, extractor: Any, frames: Sequence[Frame]
) -> Mapping[str, Sequence[NDArray[Any]]]:
    prepared = [extractor.prepare(frame) for frame in frames]
    if name == "tased":
        prepared = [picture[:32, :64] for picture in prepared]
    return dict(extractor.extract([prepared]))


def frames_of(name: str, colour: tuple[int, int, int] | None = None) -> list[Frame]:
    variant = variant_of(name)
    length = golden_outputs.window_frames(variant.sampling)
    return (
        golden_outputs.synthetic_clip(length)
        if colour is None
        else [np.full((90, 120, 3), colour, np.uint8)] * length
    )


def is_finite(rows: Mapping[str, Sequence[NDArray[Any]]]) -> bool:
    return all(bool(np.isfinite(row).all()) for array in rows.values() for row in array)


@pytest.mark.parametrize("colour", COLOURS)
def test_pictures_of_one_colour_give_finite_rows(case: tuple[str, Any], colour: str) -> None:
    name, extractor = case
    assert is_finite(rows_of(name, extractor, frames_of(name, COLOURS[colour])))


def layers_of(extractor: Any) -> list[nn.Module]:
    """Some that compute, the first and the last among them."""
    inner = getattr(extractor, "detector", extractor)
    network = getattr(inner, "network", getattr(inner, "model", inner))
    every = [layer for layer in network.modules() if isinstance(layer, LOW_PRECISION_LAYERS)]
    places = np.linspace(0, len(every) - 1, SPOILT_LAYERS).round().astype(int)
    return [every[place] for place in sorted(set(places))]


@contextmanager
def spoilt_output(layer: nn.Module, value: float) -> Iterator[None]:
    def hook(_layer: object, _given: object, output: Tensor) -> Tensor:
        flat = output.flatten().clone()
        flat[len(flat) // 2] = value
        return flat.view(output.shape)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def spoilt_weight(layer: Any, value: float) -> Iterator[None]:
    weights = layer.weight.data
    before = weights.clone()
    with torch.inference_mode():
        weights[tuple(size // 2 for size in weights.shape)] = value
    try:
        yield
    finally:
        with torch.inference_mode():
            weights.copy_(before)


@of_networks
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("spoilt", [spoilt_output, spoilt_weight])
def test_what_is_no_number_inside_a_network_is_no_crash_and_is_not_hidden(
    case: tuple[str, Any], spoilt: Any, value: float
) -> None:
    """Infinities may end in a finite row: a ReLU makes 0 of one, a sigmoid 0 or 1. What is no
    number stays none.
    """
    name, extractor = case
    frames = frames_of(name)
    for layer in layers_of(extractor):
        with spoilt(layer, value):
            rows = rows_of(name, extractor, frames)
        assert not (math.isnan(value) and is_finite(rows)), layer
    if math.isnan(value):
        assert is_finite(rows_of(name, extractor, frames)), "nothing is spoilt any more"


@pytest.mark.parametrize("case_name", ["yolov5-detections", "keypoint_rcnn"])
def test_a_video_that_a_broken_network_saw_is_rejected_and_not_taken_for_an_empty_one(
    case_name: str,
) -> None:
    variant = variant_of(case_name)
    extractor = variant.build("cpu")
    frames = golden_outputs.synthetic_clip(2)
    with spoilt_weight(layers_of(extractor)[0], math.nan):
        builder = TrackBuilder("v", variant, extractor)
        for number, frame in enumerate(frames):
            builder.add_frame(number, frame)
            builder.add_window(Window((number,), number / 2, number / 2))
        with pytest.raises(VideoError, match="non_finite"):
            builder.finish()
