"""Whole catalogs from the real annotation files, built against a loopback site of synthetic videos.

Names, frame counts and lengths are the published ones. Every segment of every listed video ends in
a row or a reason.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import FramesOfSegments
from pipeline.datasets.registry import DATASETS
from pipeline.decoding.events import Decoder
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.availability import availability_by_split
from pipeline.download import integrity
from pipeline.download.fetch import Media, SourceSettings, fetch
from pipeline.download.integrity import count_in_child
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.media.container.packet_counts import PacketCounts
from pipeline.media.decode_settings import DEFAULT_LIMITS
from storage.base.paths import Layout
from storage.base.records import Video
from storage.base.video_status import State
from storage.catalog.catalog import Catalog
from storage.features.manifest import ManifestEntry
from storage.features.store import FeatureStore
from tests.support.long_videos import video_of
from tests.support.loopback_site import site
from tests.support.published_annotations import activitynet, dhf1k, published
from tests.support.tiny_extractor import tiny_variant

UNKNOWN_SECONDS = 60.0
UNKNOWN_FRAMES = 120
PAGE = b"<!DOCTYPE html><title>Video</title>" + b"<p>Sign in to watch.</p>" * 100
SPREAD = FramesOfSegments(2, "equal")
REASONS = {"removed": "not_found", "garbled": "text_answer", "failing": "server_error"}
"""What was done to a video's file → what becomes of the video."""


def name_of(video: Video) -> str:
    """What the site has it under: the last name it is asked for by."""
    return (video.alternative_ids or (video.video_id,))[-1]


class World(Mapping[str, bytes]):
    """What the site has: every video under what it is asked for, made when it is asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._videos = {name_of(video): (video, 1) for video in catalog.videos}
        self.planted: dict[str, str] = {}
        """Video id → what was done to its file, or that its address leads to another video's."""
        self.failing: frozenset[str] = frozenset()
        for video in catalog.videos:
            there = self._videos[name_of(video)][0]
            if there.frames_least != video.frames_least:
                self.planted[video.video_id] = "another"

    def remove(self, video: Video) -> None:
        """The site has it under no name."""
        for name in video.alternative_ids or (video.video_id,):
            self._videos.pop(name, None)
        self.planted[video.video_id] = "removed"

    def double(self, video: Video) -> None:
        """The site has it at twice the frame rate."""
        self._videos[name_of(video)] = (video, 2)
        self.planted[video.video_id] = "doubled"

    def garble(self, video: Video) -> None:
        """The site has a page in its place."""
        self._videos[name_of(video)] = (video, 0)
        self.planted[video.video_id] = "garbled"

    def fail(self, video: Video) -> None:
        """The site breaks down over it."""
        self.failing |= {name_of(video).replace(" ", "%20")}
        self.planted[video.video_id] = "failing"

    def __getitem__(self, name: str) -> bytes:
        video, times = self._videos[name.replace("%20", " ")]
        if not times:
            return PAGE
        frames = video.frames_least or UNKNOWN_FRAMES
        seconds = video.claimed_duration_seconds or (
            frames / 30 if video.frames_least else UNKNOWN_SECONDS
        )
        return video_of(frames * times, seconds)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)


def part_of(catalog: Catalog, n_videos: int) -> Catalog:
    """So many of its shortest videos, half of them such as are asked for by another name."""
    shortest = sorted(catalog.videos, key=lambda video: (video.frames_least or 0, video.video_id))
    renamed = [video for video in shortest if video.alternative_ids][: n_videos // 2]
    rest = [video for video in shortest if video not in renamed]
    videos = (renamed + rest)[:n_videos]
    ids = {video.video_id for video in videos}
    return dataclasses.replace(
        catalog,
        videos=tuple(videos),
        annotations=tuple(row for row in catalog.annotations if row.video_id in ids),
        groups=tuple(row for row in catalog.groups if row.video_id in ids),
        shard_count=1,
    )


def build(
    catalog: Catalog, world: World, folder: Path, decoder: Decoder
) -> tuple[dict[str, ManifestEntry], str]:
    """Every shard through the real download, decoder and store; the entries, and the variant's full
    name.
    """
    variant = tiny_variant("tiny", SPREAD, SPREAD.length_frames).of_catalog(
        lambda: catalog.segments
    )
    layout = Layout(folder, catalog.name)
    entries: dict[str, ManifestEntry] = {}
    with site() as served:
        served.files, served.failing = world, world.failing  # type: ignore[assignment]
        source = SourceSettings(f"{served.address}/{{id}}", backoff_seconds=0.0)

        def ask(shard: int, video_id: str, retry: bool) -> Media:
            alternative_ids = catalog.alternative_ids.get(video_id, ())
            return fetch(
                video_id,
                layout=layout,
                shard=shard,
                source=source,
                alternative_ids=alternative_ids,
                retry=retry,
            )

        for shard in range(catalog.shard_count):
            job = ShardJob(layout, shard, catalog.shard_ids(shard), (variant,), 10**8)
            process_shard(
                job,
                fetch=functools.partial(ask, shard),
                decoder=decoder,
                device="cpu",
                on_video=lambda *_: None,
            )
            manifest = job.manifest(variant)
            entries |= manifest.entries if manifest else {}
    return entries, variant.full_name


def check(catalog: Catalog, world: World, folder: Path, decoder: Decoder) -> None:
    entries, variant = build(catalog, world, folder, decoder)
    assert set(entries) == {video.video_id for video in catalog.videos}
    states = Counter(entry.status.state for entry in entries.values())
    assert states.total() == len(catalog.videos)
    assert states[State.PENDING] == sum(
        what in ("failing", "garbled") for what in world.planted.values()
    )
    assert not states[State.QUARANTINED]
    table = catalog.segments.segments
    store = FeatureStore(folder / catalog.name)[variant]
    for video in catalog.videos:
        entry, planted = entries[video.video_id], world.planted.get(video.video_id)
        segments = table.get(video.video_id, ())
        if planted in REASONS:
            assert entry.status.reason == REASONS[planted]
        elif not segments:
            assert entry.status.reason == "no_segment"
        elif planted == "another" or (
            planted == "doubled" and video.frames_least != video.frames_most
        ):
            assert entry.status.reason == "misaligned"
        else:
            told = entry.facts["segments"]
            assert isinstance(told, dict), f"{video.video_id}: {entry.status}"
            clock = (
                "seconds"
                if catalog.time_unit == "seconds"
                else "scaled"
                if planted == "doubled"
                else "numbered"
            )
            assert (told["clock"], told["annotated"]) == (clock, len(segments))
            rows = np.asarray(store[video.video_id]["segment"])
            assert sorted({*rows.tolist()}) == rows.tolist()
            assert told["outside"] == len(segments) - len(rows)
            outside = [
                span for number, span in enumerate(segments) if number not in {*rows.tolist()}
            ]
            assert all(start >= length_of(catalog, video) for start, _ in outside)
            spans = store[video.video_id].spans
            assert (np.diff(spans, axis=1) > 0).all()
    rows_of_splits = {
        row.split: row
        for row in availability_by_split(catalog, {one: entries[one].status for one in entries})
    }
    for grouping, groups in catalog.groupings.items():
        for name, ids in groups.items():
            row = rows_of_splits[f"{grouping}/{name}"]
            assert row.ids == len(ids) == row.done + sum(row.missing.values())


def length_of(catalog: Catalog, video: Video) -> float:
    """Where the video ends, in the unit of the catalog's marks, to a frame."""
    seconds = video.claimed_duration_seconds or UNKNOWN_SECONDS
    return (
        seconds if catalog.time_unit == "seconds" else video.frames_least or UNKNOWN_FRAMES
    ) - 1e-3


def read(name: str, shared_data: Path) -> Catalog:
    if name in ("activitynet", "dhf1k"):
        return (
            DATASETS[name]
            .read(activitynet(shared_data) if name == "activitynet" else dhf1k(), name=name)
            .catalog
        )
    return published(name, shared_data).catalog


def world_of(catalog: Catalog) -> World:
    """Of those with and without a known number of frames one each at twice the rate, gone, no
    video, and failing.
    """
    world = World(catalog)
    exact = [video for video in catalog.videos if video.frames_most == video.frames_least]
    vague = [video for video in catalog.videos if video not in exact]
    for video in (*exact[:1], *vague[:1]):
        world.double(video)
    for video in (*exact[1:2], *vague[1:2]):
        world.remove(video)
    for video in (*exact[2:3], *vague[2:3]):
        world.garble(video)
    for video in (*exact[3:4], *vague[3:4]):
        world.fail(video)
    return world


NAMES = ("youtube-highlights", "tvsum", "cosum", "summe", "activitynet", "dhf1k")


@pytest.mark.parametrize("name", NAMES)
def test_every_segment_of_some_videos_has_a_row_or_a_reason(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    catalog = part_of(read(name, shared_data), 6)
    check(catalog, world_of(catalog), tmp_path, InlineDecoder())


@pytest.fixture
def _count_no_file_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter a download is what limits thousands of small videos, and many of them are byte
    for byte alike.
    """
    known: dict[bytes, PacketCounts] = {}

    def counted(video_id: str, path: Path) -> PacketCounts:
        digest = hashlib.sha256(path.read_bytes()).digest()
        known[digest] = known.get(digest) or count_in_child(video_id, path)
        return known[digest]

    monkeypatch.setattr(integrity, "count_in_child", counted)


@pytest.mark.slow
@pytest.mark.usefixtures("_count_no_file_twice")
@pytest.mark.parametrize("name", NAMES)
def test_every_segment_of_the_whole_catalog_has_a_row_or_a_reason(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    catalog = read(name, shared_data)
    with SubprocessDecoder("pyav", DEFAULT_LIMITS, 1000) as decoder:
        check(catalog, world_of(catalog), tmp_path, decoder)
