"""How far two extractors' rows of the same windows lie apart, array by array; persons and objects
are matched first.

Knows rows and which arrays hold boxes. Refuses to know extractors, and what is too far:
`numerics.py` says that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.precision import OutputError

BOXES_OF_ARRAY = {
    "boxes": "boxes",
    "joints": "boxes",
    "joint_features": "boxes",
    "detections": "detections",
}
"""Array of persons or objects → the one that holds their boxes, needed to match them: x1, y1, x2,
y2, score, and a class if there are several, which has to be the same.
"""
MIN_OVERLAP = 0.5
"""Intersection over union from which two boxes are of one person or object."""

Rows = Mapping[str, Sequence[NDArray[Any]]]
"""Array → a row for each window, as `Extractor.extract` gives them."""


def output_errors(reference: Rows, found: Rows) -> dict[str, OutputError]:
    """Array → how far `found` lies from `reference`, the worst row deciding."""
    return {
        name: _of_items(reference, found, name)
        if name in BOXES_OF_ARRAY
        else _of_rows(reference[name], found[name])
        for name in reference
    }


def _of_rows(reference: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> OutputError:
    errors = [_errors(*both) for both in zip(reference, found, strict=True)]
    return OutputError(max(norm for norm, _ in errors), max(largest for _, largest in errors))


def _of_items(reference: Rows, found: Rows, name: str) -> OutputError:
    boxes = BOXES_OF_ARRAY[name]
    pairs = [match_items(*both) for both in zip(reference[boxes], found[boxes], strict=True)]
    rows = zip(reference[name], found[name], pairs, strict=True)
    errors = [_errors(one[ones], other[others]) for one, other, (ones, others) in rows if ones]
    norm, largest = (max((error[k] for error in errors), default=0.0) for k in (0, 1))
    items = sum(len(row) for row in (*reference[name], *found[name]))
    return OutputError(
        norm, largest, 1 - sum(2 * len(ones) for ones, _ in pairs) / items if items else 0.0
    )


def _errors(reference: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    """Relative error in the norm, and the largest error over the largest value."""
    one, other = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    error, size = np.abs(one - other), np.abs(one)
    if not size.any():
        return (0.0, 0.0) if not error.any() else (np.inf, np.inf)
    return float(np.linalg.norm(error) / np.linalg.norm(size)), float(error.max() / size.max())


def match_items(reference: NDArray[Any], found: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Items of each that belong together: the best overlaps first, each item once."""
    overlap = _overlaps(reference[:, :4], found[:, :4])
    overlap *= (reference[:, None, 5:] == found[None, :, 5:]).all(axis=-1)
    ones: list[int] = []
    others: list[int] = []
    while overlap.size and overlap.max() >= MIN_OVERLAP:
        one, other = np.unravel_index(overlap.argmax(), overlap.shape)
        ones.append(int(one))
        others.append(int(other))
        overlap[one], overlap[:, other] = 0, 0
    return ones, others


def _overlaps(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """`(N, 4)` and `(M, 4)` → `(N, M)` intersections over unions."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1, dtype=np.float64)
    areas = [
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1, dtype=np.float64) for boxes in (one, other)
    ]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12))
