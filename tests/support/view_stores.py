"""A small catalog for the viewer: a video whose frames show their number, and what lies over each.

Frame k of `FILM` shows k as black and white blocks in its upper half. The planted detection of
frame k is a box in the lower half at the place `box_of(k)`, so a box over the wrong frame is seen.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout, video_stem
from storage.base.records import (
    JSON,
    Annotation,
    Array,
    FeatureTrack,
    Link,
    Metadata,
    Ragged,
    User,
    Video,
)
from storage.base.video_status import DONE, failure_status
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish
from storage.scores import Provenance, ScoreTrack, make_score_run, write_scores
from tests.support.synthetic_store import jpegs
from tests.support.videos import coded_frame, encode

FILM, LIKED, SHORT, MISSING = "-film_000001", "liked_000001", "short_000001", "missing_00001"
FRAMES, FRAMES_PER_SECOND = 120, 10
HEIGHT, WIDTH = 120, 160
BOX_PIXELS = 16
SHARDS = 2
HOSTILE_TITLE = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> \u202e&amp;"
)
HOSTILE_PERSON = "<b onmouseover=alert(2)>anna</b>"
MARK = "random:7"


def box_of(frame: int) -> tuple[int, int]:
    """Left and top of the planted detection of a frame, in pixels."""
    place = frame % 36
    return 4 + 16 * (place % 9), HEIGHT // 2 + 14 * (place // 9)


def spans_of(frames: int, rate: float = FRAMES_PER_SECOND) -> Array:
    """`(frames, 2)` seconds of frames side by side."""
    starts = np.arange(frames) / rate
    return np.stack([starts, np.arange(1, frames + 1) / rate], 1)


def write_viewed_store(
    root: Path, *, with_media: bool = True, container_start_seconds: float = 0.0
) -> Path:
    """`ROOT/seen`: four videos with titles, labels, detections, joints, saliency, pictures, scores
    and a prediction. With `container_start_seconds` the films are Matroska whose clock begins then.
    """
    layout = Layout(root, "seen")
    marks = [(FILM, "anna", 1.0, 3.0), (FILM, HOSTILE_PERSON, 4.5, 6.0), (LIKED, "anna", 0.5, 2.0)]
    catalog = Catalog(
        name="seen",
        videos=(Video(FILM, 12.0), Video(LIKED), Video(SHORT, 0.4), Video(MISSING)),
        users=(User("anna", "test"),),
        links=(Link("anna", FILM, "target"), Link("anna", LIKED, "history")),
        annotations=tuple(Annotation(*mark) for mark in marks),
        shard_count=SHARDS,
        time_unit="seconds",
        metadata=(
            Metadata(FILM, "title", HOSTILE_TITLE),
            Metadata(LIKED, "title", "A quiet walk"),
            Metadata(FILM, "camera", "<i>old</i>"),
        ),
    )  # fmt: skip
    write_catalog(layout, catalog)
    if with_media:
        for video_id, frames in ((FILM, FRAMES), (LIKED, 40)):
            suffix = "mkv" if container_start_seconds else "mp4"
            file = layout.sources / f"{video_id}.{suffix}"
            write_film(file, frames, "-output_ts_offset", str(container_start_seconds))
    _write_features(layout, container_start_seconds)
    _write_scores(layout)
    _write_prediction(layout)
    return layout.folder


def write_film(path: Path, frames: int, *options: str) -> None:
    """A film of coded frames as H.264 in 4:2:0, which browsers play."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [coded_frame(number, HEIGHT, WIDTH) for number in range(frames)]
    encode(
        path,
        shown,
        "-pix_fmt",
        "yuv420p",
        "-qp",
        "10",
        "-g",
        "12",
        *options,
        fps=str(FRAMES_PER_SECOND),
    )


def commit_variant(
    layout: Layout,
    variant: str,
    settings: dict[str, JSON],
    tracks: list[FeatureTrack],
    container_start_seconds: float = 0.0,
) -> str:
    """Commit tracks as a variant; every other video has a reason. Returns its full name."""
    files = layout.variant(variant, fingerprint(settings))
    publish(files.settings_file, readable_json(settings), replace=False)
    done = {track.video_id: track for track in tracks}
    reasons = {SHORT: "too_short", MISSING: "not_found"}
    probe: JSON = {
        "width": WIDTH,
        "height": HEIGHT,
        "display_matrix": [1, 0, 0, 1],
        "container_start_seconds": container_start_seconds,
    }
    facts: dict[str, JSON] = {"probe": probe, "decode": {"first_pts_seconds": 0.0}}
    for shard in range(SHARDS):
        mine = [one for one in (FILM, LIKED, SHORT, MISSING) if shard_of(one, SHARDS) == shard]
        entries = {
            one: ManifestEntry(DONE, facts=facts)
            if one in done
            else ManifestEntry(failure_status(reasons.get(one, "private")))
            for one in sorted(mine)
        }
        shown = [done[one] for one in sorted(mine) if one in done]
        commit(
            files,
            layout.catalog,
            shard,
            entries=entries,
            tracks=shown,
            max_part_bytes=10**7,
            provenance={},
        )
    return files.folder.name


def _write_features(layout: Layout, container_start_seconds: float) -> None:
    lefts_tops = np.array([box_of(frame) for frame in range(FRAMES)], np.float32)
    # x1, y1, x2, y2, score, class: the class of frame k is k modulo 80.
    numbers = np.arange(FRAMES, dtype=np.float32)[:, None]
    boxes = np.concatenate(
        [lefts_tops, lefts_tops + BOX_PIXELS, np.full_like(numbers, 0.5), numbers % 80], 1
    )
    one_each = np.ones(FRAMES, np.int64)
    every_frame = spans_of(FRAMES)
    detections = Ragged(boxes.astype(np.float32), one_each)
    generator = np.random.default_rng(5)
    places = generator.uniform([10, 10, 0], [150, 110, 1], (12, 17, 3)).astype(np.float32)
    seconds = np.stack([np.arange(12.0), np.arange(12.0) + 0.1], 1)
    joints = Ragged(places, np.ones(12, np.int64))
    saliency = generator.uniform(0, 1, (12, 28, 48)).astype(np.float16)
    c3d = generator.normal(size=(7, 32)).astype(np.float16)
    pictures = jpegs(np.stack([coded_frame(5 * number, 64, 96) for number in range(24)]))
    halves = np.stack([np.arange(24) / 2, np.arange(24) / 2 + 0.1], 1)
    tracks: dict[str, tuple[str, list[FeatureTrack]]] = {
        "c3d": (MARK, [FeatureTrack(FILM, spans_of(7, 10 / 16), {"fc6": c3d})]),
        "frames": (
            "",
            [
                FeatureTrack(FILM, halves, {"jpeg": pictures}),
                FeatureTrack(LIKED, halves, {"jpeg": pictures}),
            ],
        ),
        "keypoint_rcnn": ("sha256:ab", [FeatureTrack(FILM, seconds, {"joints": joints})]),
        "tased": (MARK, [FeatureTrack(FILM, seconds, {"saliency": saliency})]),
        "yolov5": ("sha256:ab", [FeatureTrack(FILM, every_frame, {"detections": detections})]),
    }
    for variant, (weights, of_variant) in tracks.items():
        settings: dict[str, JSON] = {"extractor": variant, "weights": weights}
        commit_variant(layout, variant, settings, of_variant, container_start_seconds)


def _write_scores(layout: Layout) -> None:
    spans = spans_of(12, 1)
    for name, scores in (
        ("one.test", np.linspace(0, 1, 12)),
        ("two.test", np.linspace(7, 7.5, 12)),
    ):
        track = ScoreTrack("anna", FILM, 12.0, spans, scores.astype(np.float32))
        provenance = Provenance(name[:3], marks=(f"c3d: {MARK}",))
        write_scores(layout, name, make_score_run(provenance, [track]))


def _write_prediction(layout: Layout) -> None:
    """As `python -m trainer predict` keeps it, of a network with attention."""
    starts = [0.0, 5.0, 10.0]
    content = {
        "video_id": FILM,
        "person": HOSTILE_PERSON,
        "model": "pr_net, seed 0",
        "checkpoint_sha256": "ab" * 32,
        "segments": [
            {"start": start, "end": min(start + 5, 12.0), "score": score, "rank": rank}
            for start, score, rank in zip(starts, [0.2, 0.9, 0.4], [3, 1, 2], strict=True)
        ],
        "marked": [[1.0, 3.0]],
        "history": [
            {"video_id": LIKED, "start": 0.5, "end": 2.0, "weights": {"attention": [0.75, 0.25, 0.5]}},
            {"video_id": "elsewhere__1", "start": 3.0, "end": 4.0, "weights": {"attention": [0.25, 0.75, 0.5]}},
        ],
        "notes": [f"c3d: {MARK}"],
    }  # fmt: skip
    layout.report.mkdir(parents=True, exist_ok=True)
    file = layout.report / f"{video_stem(FILM)}.0123456789ab.json"
    file.write_text(json.dumps(content))


def write_large_catalog(root: Path, videos: int) -> Path:
    """`ROOT/large`: so many videos with titles and one variant, in which every tenth is missing."""
    layout = Layout(root, "large")
    ids = [f"video{number:06d}" for number in range(videos)]
    shards = max(1, videos // 300)
    catalog = Catalog(
        name="large",
        videos=tuple(Video(one, 60.0 if place % 2 else None) for place, one in enumerate(ids)),
        users=(), links=(), annotations=(), shard_count=shards, time_unit="seconds",
        metadata=tuple(
            Metadata(one, "title", f"Film number {place} of the coast")
            for place, one in enumerate(ids)
        ),
    )  # fmt: skip
    write_catalog(layout, catalog)
    settings: dict[str, JSON] = {"extractor": "c3d", "weights": "planted:1"}
    files = layout.variant("c3d", fingerprint(settings))
    publish(files.settings_file, readable_json(settings), replace=False)
    spans = spans_of(3, 1)
    for shard in range(shards):
        entries, tracks = {}, []
        for one in catalog.shard_ids(shard):
            if int(one[5:]) % 10:
                entries[one] = ManifestEntry(DONE)
                tracks.append(FeatureTrack(one, spans, {"fc6": np.zeros((3, 4), np.float16)}))
            else:
                entries[one] = ManifestEntry(failure_status("not_found"))
        commit(
            files,
            "large",
            shard,
            entries=entries,
            tracks=tracks,
            max_part_bytes=10**7,
            provenance={},
        )
    return layout.folder
