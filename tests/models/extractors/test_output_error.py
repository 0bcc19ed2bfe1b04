"""Drift of arrays whose answer is known by arithmetic, and of persons in another order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.extractors.base.precision import OutputError
from models.extractors.golden.output_error import output_errors


def numbers(drift: OutputError) -> tuple[float, float, float]:
    return drift.norm, drift.largest, drift.unmatched


def test_the_worst_row_decides() -> None:
    reference = {"fc6": [np.array([3.0, 4.0]), np.array([0.0, 10.0])]}
    found = {"fc6": [np.array([3.0, 4.5]), np.array([0.1, 10.0])]}
    assert numbers(output_errors(reference, found)["fc6"]) == pytest.approx((0.1, 0.125, 0))
    assert output_errors(reference, reference)["fc6"] == OutputError(0, 0)


def test_something_where_nothing_was_is_infinitely_far() -> None:
    nothing = {"p5": [np.zeros(3)]}
    assert output_errors(nothing, {"p5": [np.ones(3)]})["p5"] == OutputError(np.inf, np.inf)
    assert output_errors(nothing, nothing)["p5"] == OutputError(0, 0)


def test_persons_are_matched_by_their_boxes_whatever_their_order() -> None:
    left, right, elsewhere = (np.array([x, 0.0, x + 10, 20.0, 0.9]) for x in (0, 50, 90))
    moved = left + np.array([1, 0, 1, 0, 0])
    joints = np.arange(6.0).reshape(2, 1, 3) + 1
    reference = {"boxes": [np.stack([left, right])], "joints": [joints]}
    same = output_errors(reference, {"boxes": [np.stack([right, left])], "joints": [joints[::-1]]})
    assert same == {"boxes": OutputError(0, 0), "joints": OutputError(0, 0)}
    found = {
        "boxes": [np.stack([elsewhere, moved])],
        "joints": [np.stack([joints[1], joints[0] + [0, 0, 0.3]])],
    }
    drift = output_errors(reference, found)
    assert numbers(drift["boxes"]) == pytest.approx(
        (math.sqrt(2) / np.linalg.norm(left), 1 / 20, 0.5)
    )
    assert numbers(drift["joints"]) == pytest.approx((0.3 / math.sqrt(14), 0.1, 0.5))


def test_another_class_is_another_object_and_none_matches_none() -> None:
    box = np.array([[0.0, 0, 10, 10, 0.5, 3]])
    other = box + np.array([0, 0, 0, 0, 0, 1])
    assert output_errors({"detections": [box]}, {"detections": [other]})[
        "detections"
    ] == OutputError(0, 0, 1)
    assert output_errors({"detections": [box[:0]]}, {"detections": [box[:0]]})[
        "detections"
    ] == OutputError(0, 0, 0)
    one_missing = output_errors({"detections": [box, box]}, {"detections": [box, box[:0]]})[
        "detections"
    ]
    assert numbers(one_missing) == pytest.approx((0, 0, 1 / 3))
