"""Small stores made of literal numbers, for the tests of `trainer.data`. Everything follows from
its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Array, FeatureTrack, Link, Ragged, User, Video
from storage.base.video_status import DONE, failure_status
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish

SETTINGS: dict[str, JSON] = {
    "extractor": "c3d",
    "settings": {"stride_frames": 16},
    "weights": "sha256:abc",
}
SHARDS = 3


def rows_of(video_id: str, rows: int, width: int = 4, row_seconds: float = 1.0) -> FeatureTrack:
    """Rows side by side from 0 s; row i of `pool5` is i in every channel, plus a tenth of the
    video's number.
    """
    starts = np.arange(rows) * row_seconds
    values = np.arange(rows)[:, None] + np.full(width, int(video_id[1:]) / 8)
    return FeatureTrack(
        video_id, np.stack([starts, starts + row_seconds], 1), {"pool5": values.astype(np.float16)}
    )


def write_variant(
    folder: Path,
    tracks: Sequence[FeatureTrack],
    *,
    variant: str = "c3d",
    settings: Mapping[str, JSON] = SETTINGS,
) -> str:
    """Commit tracks as one variant of the catalog in `folder`; every other video of the catalog is
    private.
    """
    layout = Layout(folder.parent, folder.name).variant(variant, fingerprint(settings))
    publish(layout.settings_file, readable_json(settings), replace=False)
    done = {track.video_id: track for track in tracks}
    ids = [line.split(",")[0] for line in (folder / "videos.csv").read_text().splitlines()[1:]]
    for shard in range(SHARDS):
        mine = [video_id for video_id in sorted(ids) if shard_of(video_id, SHARDS) == shard]
        entries = {
            video_id: ManifestEntry(DONE if video_id in done else failure_status("private"))
            for video_id in mine
        }
        shown = [done[video_id] for video_id in mine if video_id in done]
        commit(
            layout,
            folder.name,
            shard,
            entries=entries,
            tracks=shown,
            max_part_bytes=10**6,
            provenance={},
        )
    return layout.folder.name


def write_people(
    root: Path,
    marks: Sequence[tuple[str, str, float, float]],
    targets: Mapping[str, str],
    splits: Mapping[str, str],
) -> Path:
    """A catalog: (user, video, start, end) of marks; user → the video that is their target; user →
    split.
    """
    pairs = sorted({(user, video) for user, video, _, _ in marks})
    links = tuple(
        Link(user, video, "target" if targets.get(user) == video else "history")
        for user, video in pairs
    )
    catalog = Catalog(
        name="tiny",
        videos=tuple(Video(video) for video in sorted({video for _, video in pairs})),
        users=tuple(User(user, split) for user, split in splits.items()),
        links=links,
        annotations=tuple(Annotation(video, user, start, end) for user, video, start, end in marks),
        shard_count=SHARDS,
        time_unit="seconds",
    )
    write_catalog(Layout(root, "tiny"), catalog)
    return root / "tiny"


def write_frames(folder: Path, video_id: str, persons: Sequence[int]) -> None:
    """`yolov5/p5` and a ragged `keypoint_rcnn/joints` over the same rows; row i has `persons[i]`
    persons.
    """
    lengths = np.array(persons, np.int64)
    starts = np.arange(len(persons)) / 2
    spans = np.stack([starts, starts + 0.5], 1)
    joints = np.arange(1, 1 + int(lengths.sum()) * 34, dtype=np.float32).reshape(-1, 17, 2)
    maps: dict[str, Array] = {"p5": np.ones((len(persons), 3, 2, 2), np.float16)}
    pictures = Ragged(np.arange(lengths.sum(), dtype=np.uint8), lengths)
    for variant, arrays in (
        ("yolov5", maps),
        ("keypoint_rcnn", {"joints": Ragged(joints, lengths)}),
        ("frames", {"jpeg": pictures}),
    ):
        track = FeatureTrack(video_id, spans, arrays)
        write_variant(folder, [track], variant=variant, settings={"extractor": variant})
