"""The category sample: drawn videos of four domains, in each of which another performance is the
highlight.

A video is a row of three-second segments, in each of which its domain's figure is somewhere and
does something:

- coarse, the same everywhere: a figure that performs is better than a quiet one, which holds still
  or drifts;
- fine, a domain's own: one way to perform is a highlight (1), another domain's is borderline (0),
  quiet is none (-1).

Nothing but the figure's motion tells: places, sizes and colours are drawn alike, and a bystander
and dim things on the ground move or not whatever the figure does. So a network has to find out
whose motion counts, from labels of whole segments, unless it is told where to look. Written with
the drawing: where the figure is, `<id>.figure.npy`, the truth about maps.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.readers.category_videos import (
    COLUMNS,
    SEGMENT_SECONDS,
    SEGMENTS,
    segment_span,
)
from pipeline.synthetic.encoder import CONSTANT_RATE, encode_mp4
from pipeline.synthetic.sprites import (
    RenderedSegment,
    SegmentStyle,
    random_segment_style,
    render_segment,
)
from storage.files import atomic_write

HEIGHT, WIDTH = 64, 96
PER_VIDEO = {"highlights": (3, 5), "feints": (1, 1), "all": (10, 10)}
QUIET = ("still", "still", "drift")
DOMAINS: Mapping[str, tuple[str, str]] = {
    "discs": ("disc", "hop"),
    "bars": ("bar", "turn"),
    "rings": ("ring", "circle"),
    "crosses": ("cross", "dash"),
}
"""Domain → its figure, and the performance that is a highlight in it."""
Progress = Callable[[int, int], None]
"""Called with (videos done, videos in all) after each video."""


@dataclass(frozen=True)
class CategorySize:
    """How much to draw."""

    train: int = 4
    """Videos of each domain to learn from."""
    test: int = 16


@dataclass(frozen=True)
class Segment:
    """One segment of a video."""

    manner: str
    label: float
    look: SegmentStyle


def write_category_sample(
    folder: Path,
    size: CategorySize | None = None,
    *,
    seed: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write `<id>.mp4`, `<id>.figure.npy` (see `read_figure`) and, last of all, `segments.csv`.

    A file that is there with the same bytes stays; other bytes under one of these names raise
    `IntegrityError`.
    """
    size = size or CategorySize()
    rng = np.random.default_rng(seed)
    planned = [
        (domain, part)
        for domain in DOMAINS
        for part, n in (("train", size.train), ("test", size.test))
        for _ in range(n)
    ]
    rows: list[tuple[object, ...]] = []
    for number, (domain, part) in enumerate(planned):
        video_id = f"{domain}-{number + 1:03d}"
        segments = _segments(rng, domain)
        shown = _film(domain, segments)
        atomic_write.publish(
            folder / f"{video_id}.mp4", encode_mp4(shown.pictures, CONSTANT_RATE), replace=False
        )
        atomic_write.publish(
            folder / f"{video_id}.figure.npy", _packed(shown.figure_masks), replace=False
        )
        rows += (
            (
                video_id,
                domain,
                part,
                *segment_span(place),
                one.label,
                one.manner,
                one.look.bystander,
            )
            for place, one in enumerate(segments)
        )
        if progress is not None:
            progress(number + 1, len(planned))
    atomic_write.publish(folder / SEGMENTS, _table(rows), replace=False)


def _segments(rng: np.random.Generator, domain: str) -> list[Segment]:
    """What a video shows, in order."""
    highlights, feints, all_of_them = (
        int(rng.integers(low, high + 1)) for low, high in PER_VIDEO.values()
    )
    own = DOMAINS[domain][1]
    others = [manner for _, manner in DOMAINS.values() if manner != own]
    manners = [(own, 1.0)] * highlights + [(str(rng.choice(others)), 0.0) for _ in range(feints)]
    manners += [(str(rng.choice(QUIET)), -1.0) for _ in range(all_of_them - len(manners))]
    shown = (manners[number] for number in rng.permutation(len(manners)))
    return [Segment(manner, label, random_segment_style(rng)) for manner, label in shown]


def _film(domain: str, segments: list[Segment]) -> RenderedSegment:
    times = CONSTANT_RATE.times_seconds(SEGMENT_SECONDS)
    films = [
        render_segment(DOMAINS[domain][0], one.manner, one.look, times, width=WIDTH, height=HEIGHT)
        for one in segments
    ]
    return RenderedSegment(
        np.concatenate([one.pictures for one in films]),
        np.concatenate([one.figure_masks for one in films]),
    )


def _packed(covers: NDArray[np.bool_]) -> bytes:
    """`(T, H, W / 8)` uint8 as .npy: a bit a pixel, for every frame of the file."""
    content = io.BytesIO()
    np.save(content, np.packbits(covers, axis=2), allow_pickle=False)
    return content.getvalue()


def _table(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
