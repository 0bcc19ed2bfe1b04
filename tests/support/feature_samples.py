"""Small tracks, parts and stores that the tests of storage share. Everything follows from its
arguments.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout, VariantLayout
from storage.base.records import JSON, Array, FeatureTrack, Ragged, Video
from storage.base.video_status import DONE, VideoStatus, failure_status
from storage.catalog.catalog import Catalog, shard_of, write_catalog
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry, ShardManifest
from storage.features.part_writer import PartHeader
from storage.files import atomic_write
from storage.files.atomic_write import publish

HEADER = PartHeader("sample", 3, "c3d", "0123456789ab")
SETTINGS = {"extractor": "c3d", "settings": {"stride_frames": 16}}
PROVENANCE: dict[str, JSON] = {"weights": {"sha256": "ab" * 32}, "libraries": ["numpy", "h5py"]}


def make_track(video_id: str, rows: int, salt: str = "") -> FeatureTrack:
    """A track with a fixed array, a ragged one with empty rows, and a ragged one without any
    item.
    """
    seed = int.from_bytes(hashlib.sha256(f"{video_id}{rows}{salt}".encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    starts = np.arange(rows) / 2
    lengths = generator.integers(0, 3, rows)
    arrays: dict[str, Array | Ragged] = {
        "pool5": generator.normal(size=(rows, 6)).astype(np.float16),
        "boxes": Ragged(generator.normal(size=(int(lengths.sum()), 4)).astype(np.float32), lengths),
        "nobody": Ragged(np.zeros((0, 2), np.uint8), np.zeros(rows, np.int64)),
    }
    return FeatureTrack(video_id, np.stack([starts, starts + 0.5], 1), arrays)


def same(one: FeatureTrack, other: FeatureTrack) -> bool:
    """Equal to the bit, compared array by array and not by the digest under test."""
    if one.video_id != other.video_id or one.spans.tobytes() != other.spans.tobytes():
        return False
    return one.arrays.keys() == other.arrays.keys() and all(
        _plain(one.arrays[name]) == _plain(other.arrays[name]) for name in one.arrays
    )


def _plain(array: object) -> object:
    if isinstance(array, Ragged):
        return (*_spell(array.values), *_spell(array.lengths))
    return _spell(np.asarray(array))


def _spell(array: Array) -> tuple[object, ...]:
    return array.dtype.str, array.shape, array.tobytes()


def variant_layout(root: Path, settings: object = SETTINGS, variant: str = "c3d") -> VariantLayout:
    """The layout of a variant with its settings file written."""
    layout = Layout(root, "sample").variant(variant, fingerprint(settings))
    publish(layout.settings_file, readable_json(settings), replace=False)
    return layout


def commit_tracks(
    layout: VariantLayout,
    tracks: Iterable[FeatureTrack],
    *,
    shard: int = 0,
    part_bytes: int = 10**6,
    **failures: VideoStatus,
) -> ShardManifest:
    """Commit these tracks as done, and these ids as failed."""
    tracks = sorted(tracks, key=lambda track: track.video_id)
    entries = {
        track.video_id: ManifestEntry(DONE, facts={"frames": 16 * track.rows}) for track in tracks
    }
    entries |= {video_id: ManifestEntry(status) for video_id, status in failures.items()}
    return commit(
        layout,
        "sample",
        shard,
        entries=entries,
        tracks=tracks,
        max_part_bytes=part_bytes,
        provenance=PROVENANCE,
    )


def make_store(
    root: Path, videos: int = 12, *, shards: int = 2, part_bytes: int = 400
) -> VariantLayout:
    """A catalog and one variant of it: the first three ids failed, all others are done."""
    shutil.copytree(_made_store(videos, shards, part_bytes).name, root, dirs_exist_ok=True)
    return variant_layout(root)


@cache
def _made_store(videos: int, shards: int, part_bytes: int) -> tempfile.TemporaryDirectory[str]:
    """The same store, written once a process: tests copy it."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    ids = [f"v{number:03d}" for number in range(videos)]
    catalog = Catalog(
        name="sample",
        videos=tuple(map(Video, ids)),
        users=(),
        links=(),
        annotations=(),
        shard_count=shards,
        time_unit="seconds",
        origin={"source": "made up"},
    )
    write_catalog(Layout(root, "sample"), catalog)
    layout = variant_layout(root)
    statuses = dict(
        zip(
            ids,
            [
                failure_status("private"),
                failure_status("too_short", "3 frames"),
                failure_status("too_short", "9 frames"),
            ],
            strict=False,
        )
    )
    for shard in range(shards):
        mine = [video_id for video_id in ids if shard_of(video_id, shards) == shard]
        tracks = [
            make_track(video_id, 3 + int(video_id[1:]))
            for video_id in mine
            if video_id not in statuses
        ]
        failures = {video_id: status for video_id, status in statuses.items() if video_id in mine}
        commit_tracks(layout, tracks, shard=shard, part_bytes=part_bytes, **failures)
    return folder


def killed_at(place: int, action: Callable[[], object]) -> bool:
    """Whether SIGKILL struck `action`, run in a forked process, before its write step number
    `place`.
    """
    child = os.fork()
    if child == 0:
        steps = iter(range(10_000))
        atomic_write.before_step = lambda step, path: (
            os.kill(os.getpid(), signal.SIGKILL) if next(steps) == place else None
        )
        code = 99
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"the process ended with {code}")
    return code != 0


def race(runners: int, action: Callable[[int], int]) -> list[int]:
    """Exit codes of `action(0)`, `action(1)`, ... run in forked processes that all start at
    once.
    """
    read_end, write_end = os.pipe()
    children = []
    for number in range(runners):
        child = os.fork()
        if child == 0:
            os.close(write_end)
            os.read(read_end, 1)  # returns at the end of file, when the parent closes its end
            code = 99
            try:
                code = action(number)
            finally:  # an unexpected error is told by the code 99; nothing may run on in the copy of the test
                os._exit(code)
        children.append(child)
    os.close(write_end)
    os.close(read_end)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
