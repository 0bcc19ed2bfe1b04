"""A store that keeps something of one video in every place where a store keeps anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from storage.base.fingerprint import readable_json
from storage.base.paths import Layout, VariantLayout, video_stem
from storage.base.records import JSON, Annotation, FeatureTrack, Group, Link, Metadata, User, Video
from storage.base.video_status import DONE, failure_status
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features import spool
from storage.features.commit import request_retry
from storage.features.manifest import ManifestEntry
from storage.features.manifest_index import refresh_index
from storage.features.media_records import encode_media_record
from storage.features.store import FeatureStore
from storage.files.atomic_write import publish
from storage.files.checksummed_json import seal
from storage.scores import Provenance, ScoreTrack, make_score_run, write_scores
from tests.support.feature_samples import commit_tracks, make_track, variant_layout

NAME = "sample"
SHARDS = 2
IDS = tuple(f"-Vid{number:02d}_xYz{number:02d}" for number in range(12))
SHARD_0 = tuple(video_id for video_id in IDS if shard_of(video_id, SHARDS) == 0)
GONE, OTHER, TARGET = SHARD_0[:3]
"""The video that most is stored of, one that is taken down with it, and a user's only target."""
FAILED = SHARD_0[3]
"""A video of the same shard without features."""
STAYS = SHARD_0[4]
PUBLISHED = "sources/testing.csv"


def make_forgettable(root: Path) -> Layout:
    """The store, in `root/sample`."""
    layout = Layout(root, NAME)
    write_catalog(layout, _catalog())
    for variant in (variant_layout(root), variant_layout(root, {"extractor": "b"}, "other")):
        _write_rows(variant)
        refresh_index(variant)
    _write_files(layout)
    for name in ("one.test", "two.test"):
        _write_scores(layout, name)
    return layout


def _catalog() -> Catalog:
    users = (User("anna", "test"), User("bert", "test"), User("carl", "train"))
    links = [Link("anna", TARGET, "target"), Link("anna", GONE, "history")]
    links += [Link("bert", GONE, "target"), Link("bert", STAYS, "target")]
    links += [Link("bert", OTHER, "history"), Link("carl", OTHER, "history")]
    annotations = [Annotation(video_id, "bert", 1.0, 2.5) for video_id in IDS]
    annotations.append(Annotation(STAYS, "anna", 3.0, 4.0))
    return Catalog(
        name=NAME,
        videos=tuple(map(Video, IDS)),
        users=users,
        links=tuple(links),
        annotations=tuple(annotations),
        shard_count=SHARDS,
        time_unit="seconds",
        origin={"oddities": {"odd": {"count": 2, "examples": [f"1 {GONE}", f"2 {STAYS}"]}}},
        groups=tuple(Group("domain", "dog", video_id) for video_id in (GONE, STAYS)),
        metadata=(Metadata(GONE, "title", "a title"), Metadata(OTHER, "title", "another")),
    )


def _write_rows(variant: VariantLayout) -> None:
    for shard in range(SHARDS):
        mine = [one for one in IDS if shard_of(one, SHARDS) == shard and one != FAILED]
        failures = {FAILED: failure_status("too_short", "3 frames")} if shard == 0 else {}
        commit_tracks(variant, map(rows_of, mine), shard=shard, part_bytes=400, **failures)
    # Superseded rows stay in their part.
    commit_tracks(variant, [make_track(GONE, 9, salt="again")])
    request_retry(variant, 0, ["too_short"])
    folder = variant.spool(0)
    for video_id in (GONE, STAYS):
        spool.put(folder, video_id, ManifestEntry(DONE), rows_of(video_id, "spooled"))
    journal = folder / "finished.journal"
    with journal.open("ab") as file:
        file.write(journal.read_bytes()[:150])  # a record that was cut short
    damaged = variant.part(0, 0)
    shutil.copy(damaged, f"{damaged}.damaged")


def rows_of(video_id: str, salt: str = "") -> FeatureTrack:
    return make_track(video_id, 4 + int(video_id[-2:]), salt)


def _write_files(layout: Layout) -> None:
    for video_id in IDS:
        shard = shard_of(video_id, SHARDS)
        record: dict[str, JSON] = {"asked": "site", "state": "done", "suffix": ".mp4"}
        content = encode_media_record({**record, "size_bytes": 5, "sha256": "0" * 64})
        publish(layout.media_record(video_id, shard), content, replace=False)
        publish(layout.media_file(video_id, shard, ".mp4"), b"media", replace=False)
        publish(layout.sources / f"{video_id}.figure.npy", b"mask", replace=False)
    stem = video_stem(GONE)
    (layout.media_folder(0) / f"{stem}.mp4.part").write_bytes(b"a piece")
    (layout.media_folder(0) / f"{stem}.json.damaged").write_bytes(b"x")
    texts = {
        PUBLISHED: f"youtubeId,start\n{GONE},1\n{STAYS},2\n",
        "sources/oddities.csv": f"oddity,case\nodd,1 {GONE}\nodd,2 {STAYS}\n",
        "report/account.json": f'{{"too_short": ["{GONE}"]}}',
        "report/survival.json": "{}",
        f"report/{stem}.0123.json": "{}",
        f"report/{stem}.0123.png": "a picture",
        f"report/{video_stem(STAYS)}.0123.json": "{}",
        f"report/{video_stem(STAYS)}.0123.png": "a picture",
        f"report/{video_stem(STAYS)}.4567.json": f'{{"history": ["{GONE}"]}}',
        f"report/{video_stem(STAYS)}.4567.png": "a picture with the history",
        "report/features.png": "a picture of all",
        "report/time.png": "bars",
        "cluster/job.out": f"begins {STAYS}\nbegins {GONE}\n",
        "leases/shard_000.begun": f"{GONE}\n{STAYS} {GONE}\n{STAYS}\n",
        "runs/fit.seed0/log.csv": "epoch,loss\n1,0.5\n",
    }
    for name, text in texts.items():
        publish(layout.folder / name, text.encode(), replace=False)
    times: dict[str, JSON] = {
        "videos": {"": {"clock": 2.0}, GONE: {"decode": 1.0}, STAYS: {"decode": 1.0}}
    }
    publish(layout.shard_times("abc", 0), seal(times), replace=False)
    publish(layout.run_times("abc"), readable_json({"videos": 2}), replace=False)


def _write_scores(layout: Layout, name: str) -> None:
    tracks = [_scores_of("bert", GONE), _scores_of("bert", STAYS)]
    run = make_score_run(Provenance("model"), tracks, {("anna", TARGET): "no_features"})
    write_scores(layout, name, run)


def _scores_of(user: str, video_id: str) -> ScoreTrack:
    spans = np.array([[0.0, 1.0], [1.0, 2.0]])
    values = np.array([0.25, 0.75], np.float32) + np.float32(int(video_id[-2:]))
    return ScoreTrack(user, video_id, 2.0, spans, values)


def digests_without(layout: Layout, *video_ids: str) -> dict[str, dict[str, str]]:
    """Variant → done video → its digest, computed anew from its rows."""
    store = FeatureStore(layout.folder)
    return {
        name: {
            one: store[name][one].track().digest() for one in store[name] if one not in video_ids
        }
        for name in store.variants()
    }


def files_with(layout: Layout, *needles: bytes) -> list[str]:
    """The files whose name or bytes hold one of these, but for the published table."""
    found = []
    for path in sorted(layout.folder.rglob("*")):
        name = str(path.relative_to(layout.folder))
        content = path.read_bytes() if path.is_file() else b""
        if name != PUBLISHED and any(one in content or one in name.encode() for one in needles):
            found.append(name)
    return found


def traces_of(video_id: str) -> tuple[bytes, ...]:
    """Its id, and pieces of all rows that were ever stored of it."""
    tracks = [rows_of(video_id), rows_of(video_id, "spooled"), make_track(video_id, 9, "again")]
    pieces = [np.asarray(track.arrays["pool5"]).tobytes()[:24] for track in tracks]
    return (video_id.encode(), *pieces)
