"""Draws a catalog's features as one picture: frames, features as colours, and each user's marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from storage.base.records import FeatureTrack, Ragged
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.store import FeatureStore
from trainer.plots.captions import as_caption, font_families
from trainer.plots.figure import PALETTE, new_figure, save_png
from trainer.view.feature_strips import feature_colours

MAX_VIDEOS = 12
PICTURES_PER_VIDEO = 12
PICTURES, BAND, BARS = (0.44, 1.0), (0.28, 0.40), (0.0, 0.24)
"""Bottom and top of pictures, feature colours and highlight bars, as shares of a video's row."""


@dataclass(frozen=True)
class VideoRow:
    """The data of one video that is drawn."""

    video_id: str
    pictures: FeatureTrack
    clips: FeatureTrack
    colours: NDArray[np.float64]
    """`(clips, 3)` in [0, 1]: a colour per clip; similar features have similar colours."""


def draw_overview(folder: Path, *, pictures: str, clips: str, array: str, into: Path) -> Path:
    """Draw the catalog in `folder` (`ROOT/<catalog>`) as a PNG at `into`.

    `pictures` and `clips` name variants: the first has a ragged array `jpeg`; the `array` of the
    second is coloured by its first three principal components over all drawn clips. Videos without
    both are left out; at most 12 are drawn.
    """
    store, catalog = FeatureStore(folder), read_catalog(folder)
    with_pictures = set(store[pictures].ids)
    drawn = [video_id for video_id in store[clips].ids if video_id in with_pictures][:MAX_VIDEOS]
    tracks = [store[clips][video_id].track() for video_id in drawn]
    colours = feature_colours([_matrix(track, array) for track in tracks])
    rows = [
        VideoRow(video_id, store[pictures][video_id].track(), track, colour)
        for video_id, track, colour in zip(drawn, tracks, colours, strict=True)
    ]
    weights = str(store[clips].settings["weights"])
    videos = f"{len(rows)} of {len(catalog.videos)} videos"
    title = f"{as_caption(catalog.name)}: {videos} · {clips} {array}, weights {weights}"
    return save_png(into, lambda: _figure(rows, catalog, title))


def _matrix(track: FeatureTrack, array: str) -> NDArray[np.float64]:
    """`(rows, width)` values."""
    values = track.arrays[array]
    if isinstance(values, Ragged):
        raise ValueError(f"{array} is ragged; only arrays with one value per row have colours")
    return values.reshape(len(values), -1).astype(np.float64)


def _figure(rows: Sequence[VideoRow], catalog: Catalog, title: str) -> Figure:
    n_rows = max(1, len(rows))
    figure = new_figure(13, 0.9 + 1.15 * n_rows)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    users = sorted({annotation.annotator for annotation in catalog.annotations})
    colour_of = {user: PALETTE[number % len(PALETTE)] for number, user in enumerate(users)}
    longest = max((float(row.clips.spans[-1, 1]) for row in rows), default=1.0)
    axes = figure.subplots(n_rows, 1, squeeze=False)[:, 0]
    # An empty catalog has one axis and no row.
    for axis, row in zip(axes, rows, strict=False):
        _draw_row(axis, row, catalog, colour_of)
        axis.set_xlim(0, longest)
    axes[-1].set_xlabel(
        "seconds    (pictures · colour of features · what each user marked)", fontsize=8
    )
    legend = [
        Patch(color=colour_of[user], label=f"user {as_caption(user)}")
        for user in users[: len(PALETTE)]
    ]
    if legend:
        figure.legend(
            handles=legend, loc="upper right", ncols=len(legend), fontsize=8, frameon=False
        )
    return figure


def _draw_row(axis: Axes, row: VideoRow, catalog: Catalog, colour_of: Mapping[str, str]) -> None:
    end_seconds = float(row.clips.spans[-1, 1])
    for picture, start, width in sample_pictures(row.pictures, end_seconds):
        axis.imshow(
            picture,
            extent=(start, start + width, *PICTURES),
            aspect="auto",
            interpolation="bilinear",
        )
    for colour, (start, end) in zip(row.colours, row.clips.spans, strict=True):
        axis.axvspan(start, end, *BAND, color=tuple(colour), linewidth=0)
    _draw_marks(axis, row.video_id, catalog, colour_of)
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    name, fonts = as_caption(row.video_id), list(font_families(monospace=True))
    axis.set_ylabel(name, fontsize=6, rotation=0, ha="right", va="center", family=fonts)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _draw_marks(axis: Axes, video_id: str, catalog: Catalog, colour_of: Mapping[str, str]) -> None:
    """The marks of each user in a lane of its own."""
    marks = [mark for mark in catalog.annotations if mark.video_id == video_id]
    users = sorted({mark.annotator for mark in marks})
    bottom, top_of_all = BARS
    lane = (top_of_all - bottom) / max(1, len(users))
    for mark in marks:
        top = top_of_all - lane * users.index(mark.annotator)
        # A fifth of the lane stays empty, so that bars of neighbouring users do not touch.
        low = top - 0.8 * lane
        colour = colour_of[mark.annotator]
        axis.axvspan(mark.start, mark.end, low, top, color=colour, linewidth=0)


def sample_pictures(
    track: FeatureTrack, end_seconds: float
) -> list[tuple[NDArray[np.uint8], float, float]]:
    """Pictures evenly spaced over `[0, end)` seconds: (picture, start, width) of each."""
    jpeg = track.arrays["jpeg"]
    if not isinstance(jpeg, Ragged):
        raise ValueError("jpeg must be a ragged array of bytes")
    count = min(PICTURES_PER_VIDEO, track.rows)
    width = end_seconds / count
    wanted = (np.arange(count) + 0.5) * width
    shown_then = np.searchsorted(track.spans[:, 0], wanted, side="right") - 1
    rows = np.clip(shown_then, 0, track.rows - 1)
    return [(_decode(jpeg, int(row)), number * width, width) for number, row in enumerate(rows)]


def _decode(jpeg: Ragged, row: int) -> NDArray[np.uint8]:
    first, last = jpeg.offsets[row : row + 2]
    picture = cv2.imdecode(np.ascontiguousarray(jpeg.values[first:last]), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"row {row} is not a JPEG picture")
    return np.asarray(picture, dtype=np.uint8)
