"""What is drawn over a frame: boxes, joints and saliency of the rows in a range of seconds.

A row is about the frames in its span `[start, end)`, in seconds since the container's start.
Coordinates are pixels of the decoded frame, upright.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from storage.base.records import JSON, Array, Ragged
from storage.features.lazy_arrays import ArrayHandle, VideoHandle
from trainer.view.opened_store import UNREADABLE, OpenVariant

KINDS = {"detections": "boxes", "boxes": "boxes", "joints": "joints", "saliency": "saliency"}
"""Array → how it is drawn."""
MOST_ROWS = 600
"""Most rows of one array in one answer; the answer says until when it is complete."""
MOST_MAP_SIDE = 96
"""A larger saliency map is averaged over blocks before it is sent."""
_CLASS_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, "
    "fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, "
    "sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, "
    "bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, "
    "toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
CLASSES = tuple(_CLASS_NAMES.split(", "))
"""COCO's classes in the order of the published YOLOv5 weights."""


def overlay_arrays(video: VideoHandle) -> list[str]:
    """The arrays of a video that can be drawn over its frames."""
    return [name for name in video.arrays if name in KINDS]


def overlays_json(
    video_id: str,
    variants: Mapping[str, OpenVariant],
    start: float,
    end: float,
    *,
    most_rows: int = MOST_ROWS,
) -> dict[str, JSON]:
    """Rows of all overlays whose spans meet `[start, end)` seconds.

    `until` is the second to which the answer is complete: `end`, or less where there are many rows.
    """
    overlays: list[JSON] = []
    problems: list[JSON] = []
    until = end
    for name, variant in variants.items():
        try:
            video = variant.reader[video_id]
            spans = video.spans
            first, behind, reached = _rows_between(spans, start, end, most_rows)
            until = min(until, reached)
            for array in overlay_arrays(video):
                overlays.append(_overlay(name, video[array], spans, first, behind))
        except UNREADABLE as error:
            problems.append(f"overlays of {name} cannot be read. {error}")
    return {"from": start, "until": until, "overlays": overlays, "problems": problems}


def _rows_between(
    spans: NDArray[np.float64], start: float, end: float, most_rows: int
) -> tuple[int, int, float]:
    """The rows `[first, behind)` that meet `[start, end)`, and until when they are complete."""
    meets = np.flatnonzero((spans[:, 0] < end) & (spans[:, 1] > start))
    if not len(meets):
        return 0, 0, end
    first, behind = int(meets[0]), int(meets[-1]) + 1
    if behind - first <= most_rows:
        return first, behind, end
    behind = first + most_rows
    # The next row's start, and later than `start`, so that asking for the rest comes to an end.
    return first, behind, max(float(spans[behind, 0]), float(np.nextafter(start, np.inf)))


def _overlay(
    variant: str, array: ArrayHandle, spans: NDArray[np.float64], first: int, behind: int
) -> dict[str, JSON]:
    rows = array[first:behind]
    items: list[JSON]
    if isinstance(rows, Ragged):
        bounds = rows.offsets
        items = [
            _finite(rows.values[bounds[row] : bounds[row + 1]]) for row in range(behind - first)
        ]
    else:
        items = [_map_json(row) for row in rows]
    return {
        "variant": variant,
        "array": array.name,
        "kind": KINDS[array.name],
        "first_row": first,
        "spans": spans[first:behind].tolist(),
        "items": items,
    }


def _finite(values: Array) -> JSON:
    """Numbers to three decimals; what is not finite becomes 0, which lies outside no frame."""
    plain: JSON = np.round(np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0), 3).tolist()
    return plain


def _map_json(saliency: Array) -> JSON:
    """A map as base64 of uint8, where 255 is its own highest value."""
    values = np.nan_to_num(saliency.astype(np.float64), posinf=0, neginf=0)
    values = np.maximum(_smaller(values), 0)
    highest = float(values.max(initial=0))
    levels = np.round(values / (highest or 1.0) * 255).astype(np.uint8)
    height, width = levels.shape
    encoded = base64.b64encode(levels.tobytes()).decode()
    return {"height": height, "width": width, "highest": highest, "base64": encoded}


def _smaller(values: NDArray[np.float64]) -> NDArray[np.float64]:
    block = -(-max(values.shape) // MOST_MAP_SIDE)
    if block == 1:
        return values
    height, width = (side // block for side in values.shape)
    cut = values[: height * block, : width * block]
    means: NDArray[np.float64] = cut.reshape(height, block, width, block).mean(axis=(1, 3))
    return means
