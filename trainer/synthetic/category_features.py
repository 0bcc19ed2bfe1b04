"""Generates features of labelled videos in four domains, for trying category models without videos.

The content of a segment is a point of a small space, seen through a fixed random projection with
noise, as in `feature_generator`. A video's best segments are its highlights (1), a few more are
borderline (0), the rest are not highlights (-1). Three things make a segment better than another
one of its video:

- content: a segment shows one of its domain's acts, or filler that all domains share, or sometimes
  an act of another domain. Acts of its own domain are better than both. Which acts those are cannot
  be learned from another domain, where they are foreign; but they occur in the videos of this
  domain only;
- excitement, in the same way in all domains. There are two kinds, and the theme of the video says
  which of them counts. One segment hints at the theme, and a set of segments shows it: a model that
  sees one segment at a time cannot know it;
- one act of each domain is better than its others: fine, and a domain's own.

The weights are named `planted:SEED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.fingerprint import to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, FeatureTrack, Group, Video
from storage.catalog.catalog import Catalog, default_shard_count, write_catalog
from trainer.synthetic.feature_generator import seeded_rng
from trainer.synthetic.variant_writer import write_variant

DOMAINS = ("dog", "gymnastics", "parkour", "surfing")
ACTS = 3
"""Of each domain."""
FILLERS = 3
"""That all domains share."""
EXCITEMENTS = 2
LATENT = len(DOMAINS) * ACTS + FILLERS + EXCITEMENTS + 1
"""A direction for each act, filler and kind of excitement, and for the theme, in this order."""
THEME_SCALE = 3.0
"""Scale of the theme's direction, for hint and noise alike; an act has 2."""
SEGMENT_SECONDS = 3.0
READER = "category sample"
"""The reader of the category sample, so that its protocol applies."""
ANNOTATOR, GROUPING = "match", "vlist_sel"
VARIANT = "c3d.segments"


@dataclass(frozen=True)
class CategorySettings:
    """The size of the catalog, and how labels depend on content. Same settings, same bytes."""

    seed: int = 0
    train_videos: int = 80
    """Of each domain."""
    test_videos: int = 40
    fewest_segments: int = 20
    most_segments: int = 40
    act_share: float = 0.45
    """Share of segments with an act of their own domain; `foreign_share` have another domain's, and
    the rest filler.
    """
    foreign_share: float = 0.1
    content: float = 2.5
    """Worth of an act of the own domain, in standard deviations of excitement."""
    favourite: float = 0.4
    """Additional worth of a domain's best act."""
    hint: float = 0.5
    """Size of a segment's hint at its video's theme, in standard deviations of the noise on it."""
    highlight_share: float = 0.3
    borderline_share: float = 0.1
    noise: float = 0.4
    """Standard deviation of the noise on each value of a row."""
    width: int = 64
    """Of `fc7_linear` and `fc6`."""

    def __post_init__(self) -> None:
        has_size = min(self.train_videos, self.test_videos, self.width) >= 1
        if not has_size or not 4 <= self.fewest_segments <= self.most_segments:
            raise ValueError(
                "videos and width must be at least 1, and 4 <= fewest_segments <= most_segments; "
                f"got {self}"
            )
        shares = (self.act_share, self.foreign_share, self.highlight_share, self.borderline_share)
        content_share = self.act_share + self.foreign_share
        label_share = self.highlight_share + self.borderline_share
        if min(shares) < 0 or max(content_share, label_share) >= 1 or not self.highlight_share > 0:
            raise ValueError(
                "shares must be 0 or more, each pair must leave a rest, and highlight_share must "
                f"be above 0; got {self}"
            )
        if min(self.content, self.favourite, self.hint, self.noise) < 0:
            raise ValueError(f"content, favourite, hint and noise must be 0 or more, got {self}")

    @property
    def mark(self) -> str:
        """The name of the weights."""
        return f"planted:{self.seed}"


@dataclass(frozen=True)
class SyntheticVideo:
    """One video of N segments, one after the other."""

    video_id: str
    domain: str
    part: str
    latents: NDArray[np.float64]
    """`(N, LATENT)`"""
    labels: NDArray[np.float64]
    """`(N,)`: 1, 0 or -1."""

    @property
    def spans(self) -> NDArray[np.float64]:
        """`(N, 2)` seconds."""
        starts = np.arange(len(self.labels)) * SEGMENT_SECONDS
        return np.stack([starts, starts + SEGMENT_SECONDS], 1)


def synthesize_categories(
    root: Path, settings: CategorySettings, *, name: str = "planted-category"
) -> Path:
    """Write the catalog and its variant `c3d.segments`, with a row for each segment.

    Returns the catalog's folder. Writing the same again changes nothing.
    """
    videos = {video.video_id: video for video in synthetic_videos(settings)}
    layout = Layout(root, name)
    catalog = _catalog(videos.values(), settings, name)
    write_catalog(layout, catalog)
    described: dict[str, JSON] = {
        "extractor": VARIANT,
        "settings": to_json_value(settings),
        "segments": catalog.segments.description(),
        "weights": settings.mark,
    }
    write_variant(
        layout,
        catalog,
        VARIANT,
        described,
        lambda video_id: _track(videos[video_id], settings),
        failures={},
    )
    return layout.folder


def synthetic_videos(settings: CategorySettings) -> Iterator[SyntheticVideo]:
    """Every video, without features."""
    counts = {"train": settings.train_videos, "test": settings.test_videos}
    for domain in DOMAINS:
        for part, count in counts.items():
            for number in range(count):
                yield _video(f"{domain}-{part}-{number:03d}", domain, part, settings)


def _video(video_id: str, domain: str, part: str, settings: CategorySettings) -> SyntheticVideo:
    rng = seeded_rng(settings.seed, video_id, "latents")
    count = int(rng.integers(settings.fewest_segments, settings.most_segments + 1))
    first_act = DOMAINS.index(domain) * ACTS
    first_filler = len(DOMAINS) * ACTS
    own_acts = np.arange(first_act, first_act + ACTS)
    foreign_acts = np.setdiff1d(np.arange(first_filler), own_acts)
    kind = rng.random(count)
    is_own = kind < settings.act_share
    is_foreign = ~is_own & (kind < settings.act_share + settings.foreign_share)
    # An act of each kind is drawn for all segments, whichever they show: the numbers of a seed must
    # not depend on shares.
    own = rng.choice(own_acts, count)
    filler = rng.integers(first_filler, first_filler + FILLERS, count)
    foreign = rng.choice(foreign_acts, count)
    shown = np.where(is_foreign, foreign, np.where(is_own, own, filler))
    theme, excitement = int(rng.integers(EXCITEMENTS)), rng.normal(size=(count, EXCITEMENTS))
    is_favourite = shown == first_act
    worth = excitement[:, theme] + settings.content * is_own + settings.favourite * is_favourite
    latents = np.zeros((count, LATENT))
    latents[np.arange(count), shown] = 2.0
    latents[:, -1 - EXCITEMENTS : -1] = excitement
    hint = settings.hint if theme else -settings.hint
    latents[:, -1] = THEME_SCALE * (hint + rng.normal(size=count))
    return SyntheticVideo(video_id, domain, part, latents, _labels(worth, settings))


def _labels(worth: NDArray[np.float64], settings: CategorySettings) -> NDArray[np.float64]:
    best_first = np.argsort(-worth, kind="stable")
    n_highlights = max(1, round(len(worth) * settings.highlight_share))
    n_borderline = round(len(worth) * settings.borderline_share)
    labels = np.full(len(worth), -1.0)
    labels[best_first[:n_highlights]] = 1
    labels[best_first[n_highlights : n_highlights + n_borderline]] = 0
    return labels


def _catalog(videos: Iterable[SyntheticVideo], settings: CategorySettings, name: str) -> Catalog:
    records: list[Video] = []
    annotations: list[Annotation] = []
    groups: list[Group] = []
    for video in videos:
        video_id = video.video_id
        records.append(Video(video_id, float(video.spans[-1, 1])))
        groups += [Group("domain", video.domain, video_id), Group(GROUPING, video.part, video_id)]
        for (start, end), label in zip(video.spans, video.labels, strict=True):
            annotations.append(
                Annotation(video_id, ANNOTATOR, float(start), float(end), float(label))
            )
    return Catalog(
        name=name,
        videos=tuple(records),
        users=(),
        links=(),
        annotations=tuple(annotations),
        shard_count=default_shard_count(len(records)),
        time_unit="seconds",
        origin={"reader": READER, "planted": settings.mark, "settings": to_json_value(settings)},
        groups=tuple(groups),
    )


def _track(video: SyntheticVideo, settings: CategorySettings) -> FeatureTrack:
    projection_rng = seeded_rng(settings.seed, VARIANT, "projection")
    projection = projection_rng.normal(size=(LATENT, settings.width))
    # Divided by the root of the dimensions, which keeps the size of values for any LATENT.
    clean = video.latents @ projection / np.sqrt(LATENT)
    noise_rng = seeded_rng(settings.seed, video.video_id, VARIANT)
    rows = clean + settings.noise * noise_rng.normal(size=clean.shape)
    arrays = {
        "fc7_linear": rows.astype(np.float16),
        "fc6": np.maximum(rows, 0).astype(np.float16),
        "segment": np.arange(len(video.labels)),
    }
    return FeatureTrack(video.video_id, video.spans, arrays)
