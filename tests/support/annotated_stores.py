"""A small catalog of domains whose clips were judged, with features of every clip, for tests. All
from its seed.

A clip's feature is a direction of its domain, plus one that all domains' highlights share, plus
noise; so what is learned on one domain says something of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Array, FeatureTrack, Group, Video
from storage.base.video_status import DONE, failure_status
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish

DOMAINS = ("dog", "skiing", "surfing")
FRAMES_PER_CLIP, STRIDE_FRAMES = 100, 50
FRAMES_PER_SECOND = 25.0
SHARDS = 2
WIDTH = 16


def write_domains(
    root: Path,
    *,
    reader: str = "YouTube Highlights",
    videos: int = 8,
    seed: int = 0,
    absent: Sequence[str] = (),
) -> Path:
    """`ROOT/domains`: so many videos of each domain, half of them for training, of 7 to 30 clips
    each.

    Clips are frame numbers and overlap by half; videos named in `absent` are private.
    """
    dice = np.random.default_rng(seed)
    shared, of_domain = (
        dice.normal(size=WIDTH),
        {domain: dice.normal(size=WIDTH) for domain in DOMAINS},
    )
    rows: list[Annotation] = []
    groups: list[Group] = []
    tracks: list[FeatureTrack] = []
    found: list[Video] = []
    for domain in DOMAINS:
        for number in range(videos):
            video_id = f"{domain}{number:02d}"
            n_clips = 7 + (number * 23) // videos
            starts = STRIDE_FRAMES * np.arange(n_clips)
            labels = dice.choice([-1.0, 0.0, 1.0], n_clips, p=[0.5, 0.1, 0.4])
            labels[:2] = (1.0, -1.0)
            found.append(
                Video(
                    video_id,
                    None,
                    int(starts[-1]) + FRAMES_PER_CLIP,
                    int(starts[-1]) + FRAMES_PER_CLIP,
                )
            )
            for start, label in zip(starts.tolist(), labels.tolist(), strict=True):
                for annotator, value in (("match", label), ("mturk", float(dice.integers(0, 5)))):
                    rows.append(
                        Annotation(video_id, annotator, start, start + FRAMES_PER_CLIP, value)
                    )
            part = "train" if number % 2 == 0 else "test"
            groups += [Group("domain", domain, video_id), Group("vlist_sel", part, video_id)]
            groups.append(Group("set_learning_sorted", part, video_id))
            values = (
                of_domain[domain]
                + (labels[:, None] > 0) * 2 * shared
                + dice.normal(0, 0.5, (n_clips, WIDTH))
            )
            spans = np.stack([starts, starts + FRAMES_PER_CLIP], 1) / FRAMES_PER_SECOND
            arrays: dict[str, Array] = {
                "fc6": np.maximum(values, 0).astype(np.float16),
                "fc7_linear": values.astype(np.float16),
                "segment": np.arange(n_clips),
            }
            tracks.append(FeatureTrack(video_id, spans, arrays))
    catalog = Catalog(
        "domains", tuple(found), (), (), tuple(rows), SHARDS, "frames", {"reader": reader}, tuple(groups)
    )  # fmt: skip
    write_catalog(Layout(root, "domains"), catalog)
    settings: dict[str, JSON] = {"weights": "planted:1", "segments": catalog.segments.description()}
    write_tracks(root, catalog, tracks, "c3d.segments", settings, absent)
    return root / "domains"


def write_tracks(
    root: Path,
    catalog: Catalog,
    tracks: Sequence[FeatureTrack],
    variant: str,
    settings: dict[str, JSON],
    absent: Sequence[str] = (),
) -> None:
    """Commit tracks as a variant of a catalog; the videos named in `absent`, and those without a
    track, are private.
    """
    layout = Layout(root, catalog.name).variant(variant, fingerprint(settings))
    publish(layout.settings_file, readable_json(settings), replace=False)
    done = {track.video_id: track for track in tracks if track.video_id not in absent}
    for shard in range(catalog.shard_count):
        mine = [
            one.video_id
            for one in catalog.videos
            if shard_of(one.video_id, catalog.shard_count) == shard
        ]
        entries = {
            one: ManifestEntry(DONE if one in done else failure_status("private")) for one in mine
        }
        shown = [done[one] for one in mine if one in done]
        commit(
            layout,
            catalog.name,
            shard,
            entries=entries,
            tracks=shown,
            max_part_bytes=10**6,
            provenance={},
        )
