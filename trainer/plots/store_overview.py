"""Draws a catalog's features as one picture: what each video shows, how its features change, who
liked which part.

Reads the store and the catalog. Refuses to know how either was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from storage.base.records import FeatureTrack, Ragged
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.store import FeatureStore
from storage.files import atomic_write
from trainer.plots.captions import as_caption, encode_png, font_families, literal_text

MAX_VIDEOS = 12
PICTURES_PER_VIDEO = 12
PALETTE = ("#d1495b", "#2e86ab", "#edae49", "#66a182", "#8d5a97", "#3d405b", "#f4845f", "#577590")
"""One colour per user, repeated when there are more."""
PICTURES, BAND, BARS = (0.44, 1.0), (0.28, 0.40), (0.0, 0.24)
"""Where in a video's row, as shares of its height, pictures, feature colours and highlight bars
stand.
"""


@dataclass(frozen=True)
class VideoRow:
    """What is drawn of one video."""

    video_id: str
    pictures: FeatureTrack
    clips: FeatureTrack
    colours: NDArray[np.float64]
    """`(clips, 3)` in [0, 1]: a colour per clip, alike where features are alike."""


def draw_overview(folder: Path, *, pictures: str, clips: str, array: str, into: Path) -> Path:
    """Draw the catalog kept in `folder` (`ROOT/<catalog>`) as a PNG at `into`.

    `pictures` and `clips` name variants: one with a ragged `jpeg` array, one whose `array` is
    coloured by its first three principal components over all drawn clips. Videos without both are
    left out; at most 12 are drawn.
    """
    store, catalog = FeatureStore(folder), read_catalog(folder)
    drawn = [video_id for video_id in store[clips].ids if video_id in set(store[pictures].ids)][
        :MAX_VIDEOS
    ]
    tracks = [store[clips][video_id].track() for video_id in drawn]
    colours = feature_colours([_values(track, array) for track in tracks])
    rows = [
        VideoRow(video_id, store[pictures][video_id].track(), track, colour)
        for video_id, track, colour in zip(drawn, tracks, colours, strict=True)
    ]
    weights = str(store[clips].settings["weights"])
    videos = f"{len(rows)} of {len(catalog.videos)} videos"
    title = f"{as_caption(catalog.name)}: {videos} · {clips} {array}, weights {weights}"
    with literal_text():
        atomic_write.publish(into, encode_png(_figure(rows, catalog, title)), replace=True)
    return into


def feature_colours(features: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Each `(clips, width)` array → `(clips, 3)` in [0, 1]: the first three principal components
    over all arrays.

    Every component is stretched over its own range, so colours compare within one picture, not
    between pictures.
    """
    if not features:
        return []
    stacked = np.concatenate(features)
    centred = stacked - stacked.mean(axis=0)
    # The Gram matrix is clips × clips, thousands of times smaller than width × width, and has the
    # same components.
    strengths, vectors = np.linalg.eigh(centred @ centred.T)
    components = vectors[:, ::-1][:, :3] * np.sqrt(np.maximum(strengths[::-1][:3], 0))
    components = np.pad(components, ((0, 0), (0, 3 - components.shape[1])))
    low, high = components.min(axis=0), components.max(axis=0)
    scaled = (components - low) / np.where(high > low, high - low, 1)
    return np.split(scaled, np.cumsum([len(block) for block in features])[:-1])


def _values(track: FeatureTrack, array: str) -> NDArray[np.float64]:
    values = track.arrays[array]
    if isinstance(values, Ragged):
        raise ValueError(f"{array} is ragged; only arrays with one value a row have colours")
    return values.reshape(len(values), -1).astype(np.float64)


def _figure(rows: Sequence[VideoRow], catalog: Catalog, title: str) -> Figure:
    figure = Figure(figsize=(13, 0.9 + 1.15 * max(1, len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    people = sorted({annotation.annotator for annotation in catalog.annotations})
    colour_of = {person: PALETTE[place % len(PALETTE)] for place, person in enumerate(people)}
    longest = max((float(row.clips.spans[-1, 1]) for row in rows), default=1.0)
    axes = figure.subplots(max(1, len(rows)), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows, strict=False):
        _draw_row(axis, row, catalog, colour_of)
        axis.set_xlim(0, longest)
    axes[-1].set_xlabel(
        "seconds    (pictures · colour of features · what each user marked)", fontsize=8
    )
    shown = [
        Patch(color=colour_of[person], label=f"user {as_caption(person)}")
        for person in people[: len(PALETTE)]
    ]
    if shown:
        figure.legend(handles=shown, loc="upper right", ncols=len(shown), fontsize=8, frameon=False)
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
    marks = [
        annotation for annotation in catalog.annotations if annotation.video_id == row.video_id
    ]
    people = sorted({mark.annotator for mark in marks})
    lane = (BARS[1] - BARS[0]) / max(1, len(people))
    for mark in marks:
        top = BARS[1] - lane * people.index(mark.annotator)
        axis.axvspan(
            mark.start,
            mark.end,
            top - 0.8 * lane,
            top,
            color=colour_of[mark.annotator],
            linewidth=0,
        )
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    name, fonts = as_caption(row.video_id), list(font_families(monospace=True))
    axis.set_ylabel(name, fontsize=6, rotation=0, ha="right", va="center", family=fonts)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right", "left"]].set_visible(False)


def sample_pictures(
    track: FeatureTrack, end_seconds: float
) -> list[tuple[NDArray[np.uint8], float, float]]:
    """Pictures at even distances over `[0, end)`, each with its place: (picture, start, width)."""
    jpeg = track.arrays["jpeg"]
    if not isinstance(jpeg, Ragged):
        raise ValueError("jpeg must be a ragged array of bytes")
    count = min(PICTURES_PER_VIDEO, track.rows)
    width = end_seconds / count
    wanted = (np.arange(count) + 0.5) * width
    places = np.clip(
        np.searchsorted(track.spans[:, 0], wanted, side="right") - 1, 0, track.rows - 1
    )
    return [
        (_decode(jpeg, int(place)), number * width, width) for number, place in enumerate(places)
    ]


def _decode(jpeg: Ragged, row: int) -> NDArray[np.uint8]:
    first, last = jpeg.offsets[row : row + 2]
    picture = cv2.imdecode(np.ascontiguousarray(jpeg.values[first:last]), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"row {row} holds no JPEG picture")
    return np.asarray(picture, dtype=np.uint8)
