"""The rows of one variant as strips over time: a colour for each row, or a number of items.

An array with one value per row becomes colours by its first three principal components over this
video. A ragged array, such as detections, becomes the number of its items in each row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from storage.base.records import JSON, Ragged
from storage.features.lazy_arrays import ArrayHandle, VideoHandle
from trainer.view.opened_store import UNREADABLE

MOST_CELLS = 600
"""Most cells of a strip. Components of more rows take seconds, and a screen has few more pixels."""
GREY = 128
PICTURES = "jpeg"
"""The array whose rows are pictures: they are shown as they are."""


def strips_json(video: VideoHandle) -> dict[str, JSON]:
    """All strips of a video in one variant, and its rows' spans."""
    spans = video.spans
    groups = _groups(len(spans))
    strips: list[JSON] = []
    problems: list[JSON] = []
    for name in _shown_arrays(video):
        try:
            strips.append(_strip(video[name], spans, groups))
        except UNREADABLE as error:
            problems.append(f"{name} cannot be read. {error}")
    return {"rows": len(spans), "strips": strips, "problems": problems}


def _shown_arrays(video: VideoHandle) -> list[str]:
    """All arrays, but of several ragged ones only the one with the smallest items.

    The ragged arrays of a row describe the same items, such as persons. Counting the features of
    persons would read a thousand times the bytes that counting their boxes does.
    """
    ragged = [name for name in video.arrays if video[name].format.ragged and name != PICTURES]
    smallest = min(ragged, key=lambda name: _item_bytes(video[name]), default="")
    return [name for name in video.arrays if name not in ragged or name == smallest]


def _item_bytes(array: ArrayHandle) -> int:
    return int(np.prod(array.format.item_shape)) * array.dtype.itemsize


def _groups(rows: int) -> list[tuple[int, int]]:
    """Rows `[first, end)` of each cell: one row, or neighbours where there are many."""
    size = max(1, -(-rows // MOST_CELLS))
    return [(first, min(first + size, rows)) for first in range(0, rows, size)]


def _strip(
    array: ArrayHandle, spans: NDArray[np.float64], groups: list[tuple[int, int]]
) -> dict[str, JSON]:
    strip: dict[str, JSON] = {
        "array": array.name,
        "rows_per_cell": groups[0][1] - groups[0][0] if groups else 1,
        "spans": [[float(spans[first, 0]), float(spans[end - 1, 1])] for first, end in groups],
    }
    if array.name == PICTURES:
        return {**strip, "kind": "pictures"}
    if array.format.ragged:
        counts = [_items_per_row(array, first, end) for first, end in groups]
        return {**strip, "kind": "counts", "values": list(counts)}
    return {**strip, "kind": "colours", "values": _colours(array, groups)}


def _colours(array: ArrayHandle, groups: list[tuple[int, int]]) -> JSON:
    """Red, green and blue of each cell, 0 to 255."""
    # A single row has no component that differs, and would be black.
    if len(groups) < 2:
        return [[GREY, GREY, GREY] for _ in groups]
    means = np.stack([_mean_row(array, first, end) for first, end in groups])
    (colours,) = feature_colours([means])
    levels: JSON = np.round(np.nan_to_num(colours) * 255).astype(int).tolist()
    return levels


def _items_per_row(array: ArrayHandle, first: int, end: int) -> float:
    rows = array[first:end]
    if not isinstance(rows, Ragged):
        raise ValueError(f"{array.name} is not ragged")
    return float(rows.lengths.mean())


def _mean_row(array: ArrayHandle, first: int, end: int) -> NDArray[np.float64]:
    """`(width,)`, with 0 in place of values that are not finite."""
    rows = np.asarray(array[first:end]).reshape(end - first, -1).astype(np.float64)
    mean: NDArray[np.float64] = np.nan_to_num(rows, posinf=0, neginf=0).mean(axis=0)
    return mean


def feature_colours(features: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """`(clips, width)` arrays → `(clips, 3)` each, in [0, 1].

    The colours are the first three principal components over all arrays. Each component is
    stretched to its own range, so colours can be compared within one picture, not between pictures.
    """
    if not features:
        return []
    stacked = np.concatenate(features)
    centred = stacked - stacked.mean(axis=0)
    # The Gram matrix is clips × clips, thousands of times smaller than width × width, and has the
    # same components.
    strengths, vectors = np.linalg.eigh(centred @ centred.T)
    components = vectors[:, ::-1][:, :3] * np.sqrt(np.maximum(strengths[::-1][:3], 0))
    # Fewer than three clips have fewer than three components.
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = components.min(axis=0), components.max(axis=0)
    scaled = (components - low) / np.where(high > low, high - low, 1)
    return np.split(scaled, np.cumsum([len(block) for block in features])[:-1])
