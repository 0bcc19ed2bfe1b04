"""Planted categories: videos of domains whose segments were judged, to try models of categories on
without a video.

What a segment shows is a point of a small space, seen through a fixed random projection with noise,
as in `planted_features.py`. A video's best segments are its highlights (1), a few more are
borderline (0), the rest is none (-1). What makes one segment better than another of its video:

- content. A segment shows one of its domain's acts, or filler that all domains share, or now and
  then an act of another domain; its own domain's acts are better than both. Which acts those are
  cannot be learned from another domain, which takes them for foreign; but they are what its videos
  have and those of another domain have not.
- excitement, in the same way in all domains. It has two kinds, and which of them counts is the
  video's theme. A segment hints at the theme, a set of them tells it: a model that sees one segment
  at a time cannot know.
- one act of each domain is better than its others: fine, and a domain's own.

Everything written says `planted:SEED` where real features name their weights. Refuses to know any
model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.fingerprint import fingerprint, readable_json, to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, FeatureTrack, Group, Video
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog, default_shard_count, write_catalog
from storage.features.commit import DEFAULT_PART_BYTES, commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish
from trainer.synthetic.feature_generator import seeded_rng

DOMAINS = ("dog", "gymnastics", "parkour", "surfing")
ACTS = 3
"""Of each domain."""
FILLERS = 3
"""That all domains share."""
EXCITEMENTS = 2
LATENT = len(DOMAINS) * ACTS + FILLERS + EXCITEMENTS + 1
"""A direction for each act, each filler, each kind of excitement, and the theme, in this order."""
THEME_SCALE = 3.0
"""Times the size of what a segment shows of its theme, hint and noise alike; an act has 2."""
SEGMENT_SECONDS = 3.0
READER = "category sample"
"""Read and measured as the drawn category sample is."""
ANNOTATOR, GROUPING = "match", "vlist_sel"
VARIANT = "c3d.segments"


@dataclass(frozen=True)
class CategorySettings:
    """How much to plant. The same settings give the same bytes."""

    seed: int = 0
    train_videos: int = 80
    """Of each domain."""
    test_videos: int = 40
    fewest_segments: int = 20
    most_segments: int = 40
    act_share: float = 0.45
    """Of segments that show an act of their own domain; `foreign_share` show another's, and the
    rest filler.
    """
    foreign_share: float = 0.1
    content: float = 2.5
    """How much better an act of the own domain is, in standard deviations of excitement."""
    favourite: float = 0.4
    """How much better again a domain's best act is."""
    hint: float = 0.5
    """What a segment shows of its video's theme, in standard deviations of what hides it."""
    highlight_share: float = 0.3
    borderline_share: float = 0.1
    noise: float = 0.4
    """Standard deviation of what is added to each value of a row."""
    width: int = 64
    """Of `fc7_linear` and `fc6`."""

    def __post_init__(self) -> None:
        if (
            min(self.train_videos, self.test_videos, self.width) < 1
            or not 4 <= self.fewest_segments <= self.most_segments
        ):
            raise ValueError(
                f"videos and width are at least 1, segments at least 4 and in order; got {self}"
            )
        shares = (self.act_share, self.foreign_share, self.highlight_share, self.borderline_share)
        if (
            min(shares) < 0
            or max(shares[0] + shares[1], shares[2] + shares[3]) >= 1
            or not self.highlight_share > 0
        ):
            raise ValueError(
                f"shares are 0 or more and leave some over, highlights are above 0; got {self}"
            )
        if min(self.content, self.favourite, self.hint, self.noise) < 0:
            raise ValueError(f"content, favourite, hint and noise are 0 or more, got {self}")

    @property
    def mark(self) -> str:
        """What stands where real features name their weights."""
        return f"planted:{self.seed}"


@dataclass(frozen=True)
class SyntheticVideo:
    """One video. N segments, side by side."""

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
    """Write the catalog and its variant `c3d.segments`, a row for each segment; returns the
    catalog's folder.

    Planting the same again changes nothing.
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
    variant = layout.variant(VARIANT, fingerprint(described))
    publish(variant.settings_file, readable_json(described), replace=False)
    for shard in range(catalog.shard_count):
        ids = catalog.shard_ids(shard)
        commit(
            variant, catalog.name, shard, entries={one: ManifestEntry(DONE) for one in ids},
            tracks=(_track(videos[one], settings) for one in ids),
            max_part_bytes=DEFAULT_PART_BYTES, provenance={"weights": settings.mark},
        )  # fmt: skip
    return layout.folder


def synthetic_videos(settings: CategorySettings) -> Iterator[SyntheticVideo]:
    """Every video, before any feature is drawn."""
    for domain in DOMAINS:
        for part, count in (("train", settings.train_videos), ("test", settings.test_videos)):
            for number in range(count):
                yield _video(f"{domain}-{part}-{number:03d}", domain, part, settings)


def _video(video_id: str, domain: str, part: str, settings: CategorySettings) -> SyntheticVideo:
    rng = seeded_rng(settings.seed, video_id, "latents")
    count = int(rng.integers(settings.fewest_segments, settings.most_segments + 1))
    own = DOMAINS.index(domain) * ACTS
    acts, foreign, fillers = (
        np.arange(own, own + ACTS),
        np.arange(len(DOMAINS) * ACTS),
        len(DOMAINS) * ACTS,
    )
    foreign = foreign[(foreign < own) | (foreign >= own + ACTS)]
    dice = rng.random(count)
    is_own = dice < settings.act_share
    is_foreign = ~is_own & (dice < settings.act_share + settings.foreign_share)
    shown = np.where(
        is_own, rng.choice(acts, count), rng.integers(fillers, fillers + FILLERS, count)
    )
    shown = np.where(is_foreign, rng.choice(foreign, count), shown)
    theme, excitement = int(rng.integers(EXCITEMENTS)), rng.normal(size=(count, EXCITEMENTS))
    worth = excitement[:, theme] + settings.content * is_own + settings.favourite * (shown == own)
    latents = np.zeros((count, LATENT))
    latents[np.arange(count), shown] = 2.0
    latents[:, -1 - EXCITEMENTS : -1] = excitement
    latents[:, -1] = THEME_SCALE * ((1 if theme else -1) * settings.hint + rng.normal(size=count))
    return SyntheticVideo(video_id, domain, part, latents, _labels(worth, settings))


def _labels(worth: NDArray[np.float64], settings: CategorySettings) -> NDArray[np.float64]:
    best = np.argsort(-worth, kind="stable")
    highlights = max(1, round(len(worth) * settings.highlight_share))
    borderline = round(len(worth) * settings.borderline_share)
    labels = np.full(len(worth), -1.0)
    labels[best[:highlights]] = 1
    labels[best[highlights : highlights + borderline]] = 0
    return labels


def _catalog(videos: Iterable[SyntheticVideo], settings: CategorySettings, name: str) -> Catalog:
    rows = list(videos)
    return Catalog(
        name=name,
        videos=tuple(Video(one.video_id, float(one.spans[-1, 1])) for one in rows),
        users=(),
        links=(),
        annotations=tuple(
            Annotation(one.video_id, ANNOTATOR, float(start), float(end), float(label))
            for one in rows
            for (start, end), label in zip(one.spans, one.labels, strict=True)
        ),
        shard_count=default_shard_count(len(rows)),
        time_unit="seconds",
        origin={"reader": READER, "planted": settings.mark, "settings": to_json_value(settings)},
        groups=tuple(
            Group(grouping, group, one.video_id)
            for one in rows
            for grouping, group in (("domain", one.domain), (GROUPING, one.part))
        ),
    )


def _track(video: SyntheticVideo, settings: CategorySettings) -> FeatureTrack:
    projection = seeded_rng(settings.seed, VARIANT, "projection").normal(
        size=(LATENT, settings.width)
    )
    clean = video.latents @ projection / np.sqrt(LATENT)
    seen = clean + settings.noise * seeded_rng(settings.seed, video.video_id, VARIANT).normal(
        size=clean.shape
    )
    arrays = {
        "fc7_linear": seen.astype(np.float16),
        "fc6": np.maximum(seen, 0).astype(np.float16),
        "segment": np.arange(len(video.labels)),
    }
    return FeatureTrack(video.video_id, video.spans, arrays)
