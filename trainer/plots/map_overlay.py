"""Draws distinction maps over the frames they are about, as one PNG.

Letters in shapes: n frames, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.files import atomic_write
from trainer.inference.distinction_maps import VideoMaps

COLUMNS = 6
GAP_PIXELS = 4
STRENGTH = 0.6
"""Opacity of the colour at a fully distinct pixel."""
LEGEND_PIXELS = 14
"""Height of the bar under each picture that shows its score."""
PLAIN, MARKED = (60, 60, 60), (230, 120, 20)
"""RGB of the bar, of other frames and of highlights."""


def overlay(picture: NDArray[np.uint8], distinctions: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture, `(H, W, 3)` uint8 RGB, under its map, `(H, W)` in [0, 1]; the same shape.

    Where the map is 0, the picture is unchanged. Colours run from blue (0) to red (1). They are not
    stretched to the range of a map, so sheets can be compared. Raises ValueError for other sizes or
    values.
    """
    if distinctions.shape != picture.shape[:2]:
        raise ValueError(
            f"a map of {distinctions.shape} does not fit a picture of {picture.shape[:2]}"
        )
    if not ((distinctions >= 0) & (distinctions <= 1)).all():
        low, high = float(distinctions.min()), float(distinctions.max())
        raise ValueError(f"distinctions must be 0 to 1, got {low:.3g} to {high:.3g}")
    levels = np.round(distinctions * 255).astype(np.uint8)
    # OpenCV gives BGR.
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[..., ::-1].astype(np.float64)
    share = STRENGTH * distinctions[..., None].astype(np.float64)
    return np.asarray(np.round(picture * (1 - share) + colours * share), np.uint8)


def contact_sheet(
    pictures: NDArray[np.uint8],
    distinctions: NDArray[np.floating],
    *,
    columns: int = COLUMNS,
    is_highlight: NDArray[np.bool_] | None = None,
    full_bar: float = 1.0,
) -> NDArray[np.uint8]:
    """`(n, H, W, 3)` uint8 RGB and `(n, H, W)` → one picture, `(rows, columns, 3)` uint8 RGB.

    Cells are in reading order. Each has the frame, the frame with its map, and a bar whose length
    is the mean of the map, the score of eq. 6; a mean of `full_bar` or more fills it. `(n,)`
    `is_highlight` gives the bars of highlights another colour. Raises ValueError if there is no
    frame.
    """
    if len(pictures) != len(distinctions) or not len(pictures):
        raise ValueError(
            "a sheet needs as many maps as pictures, at least 1; "
            f"got {len(distinctions)} and {len(pictures)}"
        )
    marked = np.zeros(len(pictures), bool) if is_highlight is None else is_highlight
    cells = [_cell(*each, full_bar) for each in zip(pictures, distinctions, marked, strict=True)]
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    step_y, step_x = height + GAP_PIXELS, width + GAP_PIXELS
    sheet = np.full((rows * step_y - GAP_PIXELS, columns * step_x - GAP_PIXELS, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * step_y, number % columns * step_x
        sheet[top : top + height, left : left + width] = cell
    return sheet


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, and replace an older one as a whole."""
    worked, encoded = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    if not worked:
        raise RuntimeError(
            f"the PNG encoder refused a sheet of {sheet.shape[1]}×{sheet.shape[0]} pixels"
        )
    atomic_write.publish(path, encoded.tobytes(), replace=True)


def _cell(
    picture: NDArray[np.uint8], distinctions: NDArray[np.floating], is_marked: bool, full_bar: float
) -> NDArray[np.uint8]:
    width = picture.shape[1]
    bar = np.full((LEGEND_PIXELS, width, 3), 225, np.uint8)
    share = min(1.0, float(distinctions.mean()) / full_bar)
    bar[2:-2, : round(width * share)] = MARKED if is_marked else PLAIN
    return np.concatenate([picture, overlay(picture, distinctions), bar])


def video_contact_sheet(videos: Sequence[VideoMaps], *, columns: int) -> NDArray[np.uint8]:
    """A row for each video: `columns` of its frames, evenly spaced, with their maps and scores."""
    rows = []
    for video in videos:
        chosen = ((np.arange(columns) + 0.75) * len(video.maps) / columns).astype(int)
        rows.append([array[chosen] for array in (video.pictures, video.maps, video.is_highlight)])
    pictures, maps, marked = (np.concatenate(each) for each in zip(*rows, strict=True))
    # One scale for all videos of a sheet; above 0 even if all maps are empty.
    fullest = max(0.01, float(maps.mean(axis=(1, 2)).max()))
    return contact_sheet(pictures, maps, columns=columns, is_highlight=marked, full_bar=fullest)
