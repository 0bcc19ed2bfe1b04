"""The error between two extractors' rows of the same windows, array by array.

Persons and objects are matched by their boxes first. `base/precision.py` holds the allowed errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
"""Array of persons or objects → the array of their boxes, which are matched.

A box is x1, y1, x2, y2, score, and a class if there are several; classes must be equal.
"""
MIN_OVERLAP = 0.5
"""Lowest intersection over union of two boxes that belong to one person or object."""

Rows = Mapping[str, Sequence[NDArray[Any]]]
"""Array → a row for each window, as `Extractor.extract` gives them."""


def output_errors(reference: Rows, found: Rows) -> dict[str, OutputError]:
    """Array → the error of `found` against `reference`: that of the worst row."""
    errors = {}
    for name in reference:
        if name in BOXES_OF_ARRAY:
            errors[name] = _error_of_items(reference, found, name)
        else:
            errors[name] = _largest_errors(zip(reference[name], found[name], strict=True))
    return errors


def _error_of_items(reference: Rows, found: Rows, name: str) -> OutputError:
    """The error of an array of persons or objects, over the pairs that match in each row."""
    boxes = BOXES_OF_ARRAY[name]
    pairs = []
    matched_items = all_items = 0
    for row, reference_row in enumerate(reference[name]):
        found_row = found[name][row]
        reference_indices, found_indices = match_items(reference[boxes][row], found[boxes][row])
        if reference_indices:
            pairs.append((reference_row[reference_indices], found_row[found_indices]))
        matched_items += len(reference_indices) + len(found_indices)
        all_items += len(reference_row) + len(found_row)
    error = _largest_errors(pairs)
    unmatched = 1 - matched_items / all_items if all_items else 0.0
    return OutputError(error.norm, error.largest, unmatched)


def _largest_errors(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> OutputError:
    errors = [_row_error(reference, found) for reference, found in pairs]
    norm = max((error for error, _ in errors), default=0.0)
    largest = max((error for _, error in errors), default=0.0)
    return OutputError(norm, largest)


def _row_error(reference: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    """Relative error in the norm, and the largest error over the largest value."""
    expected = np.asarray(reference, np.float64)
    error = np.abs(expected - np.asarray(found, np.float64))
    size = np.abs(expected)
    if not size.any():
        # A row of zeros has no scale: it is either met exactly or missed.
        return (np.inf, np.inf) if error.any() else (0.0, 0.0)
    return float(np.linalg.norm(error) / np.linalg.norm(size)), float(error.max() / size.max())


def match_items(reference: NDArray[Any], found: NDArray[Any]) -> tuple[list[int], list[int]]:
    """Indices of the items of each that belong together: the best overlaps first, each item once.

    Both are `(N, 5 or 6)` boxes; the two lists have one length.
    """
    # Greedy, not an optimal assignment: overlaps of 0.5 or more leave little choice.
    overlap = _overlaps(reference[:, :4], found[:, :4])
    has_equal_class = (reference[:, None, 5:] == found[None, :, 5:]).all(axis=-1)
    overlap *= has_equal_class
    reference_indices: list[int] = []
    found_indices: list[int] = []
    while overlap.size and overlap.max() >= MIN_OVERLAP:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        reference_indices.append(int(row))
        found_indices.append(int(column))
        overlap[row] = 0
        overlap[:, column] = 0
    return reference_indices, found_indices


def _overlaps(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """`(N, 4)` and `(M, 4)` → `(N, M)` intersections over unions."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    # Clipped, so that boxes apart in both directions do not get a positive product.
    shared = np.prod(np.clip(high - low, 0, None), axis=-1, dtype=np.float64)
    areas = [
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1, dtype=np.float64) for boxes in (one, other)
    ]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12))
