"""Generates the category sample: synthetic videos of four domains with labelled segments.

A video is a row of three-second segments. In each of them a figure of the video's domain is
somewhere and moves in some manner:

- coarse, the same in all domains: a figure that performs is better than a quiet one, which rests or
  drifts;
- fine, a domain's own: one performance is the highlight (1), that of another domain is borderline
  (0), quiet is not a highlight (-1).

Only the figure's motion decides. Places, sizes and colours have the same distribution in all
segments, and a bystander and dim extras move or rest independently of the figure. So a network has
to find out whose motion counts, from labels of whole segments, unless saliency shows it. The masks
of the figure are written too, as `<id>.figure.npy`: the truth about distinction maps.
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
"""Fewest and most segments of a video; a feint performs as figures of another domain do."""
QUIET = ("still", "still", "drift")
"""Manners of segments that are not highlights, each equally likely."""
DOMAINS: Mapping[str, tuple[str, str]] = {
    "discs": ("disc", "hop"),
    "bars": ("bar", "turn"),
    "rings": ("ring", "circle"),
    "crosses": ("cross", "dash"),
}
"""Domain → its figure, and the performance that is its highlight."""
Progress = Callable[[int, int], None]
"""Called with (videos done, videos in all) after each video."""


@dataclass(frozen=True)
class CategorySize:
    """Videos to generate."""

    train: int = 4
    """Training videos of each domain."""
    test: int = 16
    """Test videos of each domain."""


@dataclass(frozen=True)
class Segment:
    """One segment of a video."""

    manner: str
    label: float
    style: SegmentStyle


def write_category_sample(
    folder: Path,
    size: CategorySize | None = None,
    *,
    seed: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write `<id>.mp4`, `<id>.figure.npy` (see `read_figure_mask`) and, last, `segments.csv`.

    An existing file with the same bytes is kept. Raises `IntegrityError` if a file of one of these
    names has other bytes.
    """
    size = size or CategorySize()
    rng = np.random.default_rng(seed)
    planned = _planned_videos(size)
    rows: list[tuple[object, ...]] = []
    for number, (domain, part) in enumerate(planned):
        video_id = f"{domain}-{number + 1:03d}"
        segments = _random_segments(rng, domain)
        rendered = _render_video(domain, segments)
        video = encode_mp4(rendered.pictures, CONSTANT_RATE)
        # With the same name as the video, so that one folder holds both.
        masks = _pack_masks(rendered.figure_masks)
        atomic_write.publish(folder / f"{video_id}.mp4", video, replace=False)
        atomic_write.publish(folder / f"{video_id}.figure.npy", masks, replace=False)
        for position, segment in enumerate(segments):
            span = segment_span(position)
            shown = (segment.label, segment.manner, segment.style.bystander)
            rows.append((video_id, domain, part, *span, *shown))
        if progress is not None:
            progress(number + 1, len(planned))
    atomic_write.publish(folder / SEGMENTS, _table(rows), replace=False)


def _planned_videos(size: CategorySize) -> list[tuple[str, str]]:
    """Domain and part of each video."""
    planned = []
    for domain in DOMAINS:
        planned += [(domain, "train")] * size.train
        planned += [(domain, "test")] * size.test
    return planned


def _random_segments(rng: np.random.Generator, domain: str) -> list[Segment]:
    """The segments of a video, in order."""
    n_highlights, n_feints, n_all = (
        int(rng.integers(fewest, most + 1)) for fewest, most in PER_VIDEO.values()
    )
    _, own = DOMAINS[domain]
    others = [manner for _, manner in DOMAINS.values() if manner != own]
    manners = [(own, 1.0)] * n_highlights
    manners += [(str(rng.choice(others)), 0.0) for _ in range(n_feints)]
    n_quiet = n_all - len(manners)
    manners += [(str(rng.choice(QUIET)), -1.0) for _ in range(n_quiet)]
    segments = []
    for number in rng.permutation(len(manners)):
        manner, label = manners[number]
        segments.append(Segment(manner, label, random_segment_style(rng)))
    return segments


def _render_video(domain: str, segments: list[Segment]) -> RenderedSegment:
    """The segments one after the other, as one long segment."""
    times = CONSTANT_RATE.times_seconds(SEGMENT_SECONDS)
    figure, _ = DOMAINS[domain]
    rendered = [
        render_segment(figure, segment.manner, segment.style, times, width=WIDTH, height=HEIGHT)
        for segment in segments
    ]
    return RenderedSegment(
        np.concatenate([segment.pictures for segment in rendered]),
        np.concatenate([segment.figure_masks for segment in rendered]),
    )


def _pack_masks(masks: NDArray[np.bool_]) -> bytes:
    """`(T, H, W / 8)` uint8 as .npy: one bit per pixel, for every frame of the file."""
    content = io.BytesIO()
    np.save(content, np.packbits(masks, axis=2), allow_pickle=False)
    return content.getvalue()


def _table(rows: list[tuple[object, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
