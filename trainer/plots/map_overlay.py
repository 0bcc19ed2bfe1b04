"""Distinction maps over the frames they are about, as one PNG for people to look at.

Refuses to know networks and stores.

Letters in shapes: n frames, H and W pixels.
"""

from __future__ import annotations

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
"""How much of a fully distinct pixel is colour."""
LEGEND_PIXELS = 14
"""Height of the bar under each picture that says its score."""
PLAIN, MARKED = (60, 60, 60), (230, 120, 20)
"""RGB of that bar, and of that of a frame of a highlight."""


def overlay(picture: NDArray[np.uint8], distinctions: NDArray[np.floating]) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8 RGB and `(H, W)` in [0, 1] → `(H, W, 3)` uint8: the more distinct, the more
    colour.

    Where the map is 0 the picture is as it was. Colours run from blue (0) to red (1), on the scale
    [0, 1] itself, not stretched to each map: two sheets can be compared. ValueError for other sizes
    or values.
    """
    if distinctions.shape != picture.shape[:2]:
        raise ValueError(
            f"a map of {distinctions.shape} is not about a picture of {picture.shape[:2]}"
        )
    if not ((distinctions >= 0) & (distinctions <= 1)).all():
        low, high = float(distinctions.min()), float(distinctions.max())
        raise ValueError(f"distinctions are 0 to 1, got {low:.3g} to {high:.3g}")
    levels = np.round(distinctions * 255).astype(np.uint8)
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

    In reading order. Each cell: the frame, the frame with its map, and a bar whose length is the
    mean of the map, the score of eq. 6; a mean of `full_bar` or more fills it. `(n,)`
    `is_highlight` colours the bars of what people marked. ValueError without any frame.
    """
    if len(pictures) != len(distinctions) or not len(pictures):
        raise ValueError(
            f"a sheet takes as many maps as pictures, at least 1; got {len(distinctions)}, {len(pictures)}"
        )
    marked = np.zeros(len(pictures), bool) if is_highlight is None else is_highlight
    cells = [_cell(*each, full_bar) for each in zip(pictures, distinctions, marked, strict=True)]
    height, width = cells[0].shape[:2]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    step_y, step_x = height + GAP_PIXELS, width + GAP_PIXELS
    sheet = np.full((rows * step_y - GAP_PIXELS, columns * step_x - GAP_PIXELS, 3), 255, np.uint8)
    for number, cell in enumerate(cells):
        top, left = number // columns * step_y, number % columns * step_x
        sheet[top : top + height, left : left + width] = cell
    return sheet


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """A picture as a PNG at `path`, replaced whole."""
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
    bar[2:-2, : round(width * min(1.0, float(distinctions.mean()) / full_bar))] = (
        MARKED if is_marked else PLAIN
    )
    return np.concatenate([picture, overlay(picture, distinctions), bar])


def video_contact_sheet(videos: Sequence[VideoMaps], *, columns: int) -> NDArray[np.uint8]:
    """A row for each video: so many of its frames, evenly spaced, each above the same with its map
    and its score.
    """
    rows = []
    for video in videos:
        chosen = ((np.arange(columns) + 0.75) * len(video.maps) / columns).astype(int)
        rows.append([array[chosen] for array in (video.pictures, video.maps, video.is_highlight)])
    pictures, maps, marked = (np.concatenate(each) for each in zip(*rows, strict=True))
    fullest = max(0.01, float(maps.mean(axis=(1, 2)).max()))
    return contact_sheet(pictures, maps, columns=columns, is_highlight=marked, full_bar=fullest)
