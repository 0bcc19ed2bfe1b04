"""What may be chosen for which array, and that a refusal says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from models.extractors.base.precision import (
    ALLOWED_ERRORS,
    PARITY,
    Numerics,
    OutputError,
    allowed_error,
    numerics_of,
    precision_conflicts,
)
from models.extractors.registry import EXTRACTORS
from models.extractors.tased.settings import TasedSettings
from models.extractors.yolov5.settings import YOLOv5Settings
from pipeline.extraction.variant import Variant

BOTH = Numerics(precision="bf16", resize="fast")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "precision must be one of fp32, bf16; got 'fp16'"),
        ({"resize": "parity "}, "resize must be one of parity, fast; got 'parity '"),
        (
            {"precision": "bf16", "release": "u", "backend": "ultralytics"},
            "ultralytics supports only precision = fp32",
        ),
    ],
)
def test_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YOLOv5Settings(**settings)


def test_single_pixels_of_a_saliency_map_are_refused() -> None:
    assert TasedSettings(block_pixels=8, precision="bf16").lossy_choices == ("bf16",)
    with pytest.raises(
        ValueError, match=r"block_pixels must be at least 8 with precision = bf16 .*; got 4"
    ):
        TasedSettings(block_pixels=4, precision="bf16")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "yolov5",
            {"precision": "bf16"},
            "bf16 changes detections too much against fp32; it supports p3, p4, p5. Set",
        ),
        (
            "keypoint_rcnn",
            {"precision": "bf16"},
            "has not been measured for boxes, joints, joint_features.*supports no array",
        ),
        (
            "keypoint_rcnn",
            {"resize": "fast"},
            "resize = fast has not been measured for boxes, .* Set resize = parity",
        ),
    ],
)
def test_what_drifts_too_far_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    spec = EXTRACTORS[name]
    with pytest.raises(ValueError, match=message):
        Variant(name, spec, spec.settings_type(**settings), "random:0")


def test_every_number_is_of_an_array_that_exists() -> None:
    for choice, drifts in ALLOWED_ERRORS.items():
        assert choice in BOTH.lossy_choices
        for name, drift in drifts.items():
            extractor, _, array = name.partition(".")
            every = {"arrays": (array,)} if extractor in ("c3d", "yolov5") else {}
            assert array in EXTRACTORS[extractor].arrays(
                EXTRACTORS[extractor].settings_type(**every)
            )
            assert 0 < drift.norm <= 0.06, "no row is offered that is further off"
            assert drift.unmatched <= 0.12


def test_choices_add_up_and_each_changes_the_fingerprint() -> None:
    bf16, fast = ALLOWED_ERRORS["bf16"]["c3d.pool5"], ALLOWED_ERRORS["fast"]["c3d.pool5"]
    assert allowed_error("c3d", "pool5", BOTH) == OutputError(
        bf16.norm + fast.norm, bf16.largest + fast.largest
    )
    assert allowed_error("yolov5", "detections", BOTH) is None
    assert allowed_error("keypoint_rcnn", "boxes", PARITY) == OutputError(0, 0)
    assert list(precision_conflicts("keypoint_rcnn", ["boxes"], PARITY)) == []
    spec = EXTRACTORS["c3d"]
    made = [
        Variant("c3d", spec, spec.settings_type(**one), "random:0")
        for one in ({}, {"resize": "fast"}, vars(BOTH))
    ]
    assert len({variant.fingerprint() for variant in made}) == 3
    assert [variant.numerics for variant in made] == [PARITY, Numerics(resize="fast"), BOTH]
    assert numerics_of(EXTRACTORS["frames"].settings_type()) == PARITY


@pytest.mark.parametrize(
    "worse",
    [
        OutputError(0.2, 0, 0),
        OutputError(0, 0.2, 0),
        OutputError(0, 0, 0.2),
        OutputError(float("nan"), 0, 0),
    ],
)
def test_each_of_the_three_numbers_can_be_too_much(worse: OutputError) -> None:
    limit = OutputError(0.1, 0.1, 0.1)
    assert worse.exceeds(limit)
    assert not limit.exceeds(limit)
