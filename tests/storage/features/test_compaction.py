"""`drop_videos`: the rows of some videos leave a shard, and nothing else moves further than it must.

`compact` is tested beside commits.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout
from storage.base.video_status import failure_status
from storage.features.compaction import drop_videos
from storage.features.manifest import ShardManifest, digest_of_lines, logical_digest
from storage.features.manifest_file import read_manifest
from storage.features.part_reader import PartReader
from storage.files import atomic_write
from tests.support.feature_samples import commit_tracks, killed_at, make_track, variant_layout

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
TRACKS = [make_track(f"v{number}", 10 + number) for number in range(6)]
SMALL = 2 * max(track.nbytes for track in TRACKS)
"""Room for two tracks: v0 v1, v2 v3, v4 v5."""


@pytest.fixture(autouse=True)
def _seam_is_given_back() -> Iterator[None]:
    before = atomic_write.before_step
    yield
    atomic_write.before_step = before


@pytest.fixture
def layout(tmp_path: Path) -> VariantLayout:
    layout = variant_layout(tmp_path)
    commit_tracks(layout, TRACKS, part_bytes=SMALL, zz=failure_status("private"))
    return layout


def drop(layout: VariantLayout, *video_ids: str) -> ShardManifest:
    manifest = drop_videos(layout, 0, video_ids.__contains__)
    assert manifest is not None
    assert manifest == read_manifest(layout, 0)
    return manifest


def ids_of_parts(layout: VariantLayout) -> dict[str, tuple[str, ...]]:
    return {path.name: PartReader(path).ids() for path in sorted(layout.folder.glob("*.h5"))}


def digest_of(*numbers: int) -> str:
    return digest_of_lines((TRACKS[one].video_id, TRACKS[one].digest()) for one in numbers)


def test_a_part_is_replaced_by_one_of_its_other_videos(layout: VariantLayout) -> None:
    manifest = drop(layout, "v2", "zz")
    assert ids_of_parts(layout) == {
        "shard_000.p000.h5": ("v0", "v1"),
        "shard_000.p002.h5": ("v4", "v5"),
        "shard_000.p003.h5": ("v3",),
    }
    assert logical_digest([manifest]) == digest_of(0, 1, 3, 4, 5)
    assert sorted(manifest.entries) == ["v0", "v1", "v3", "v4", "v5"]
    assert len(list(layout.folder.glob("*.sums"))) == 3


def test_superseded_rows_go_too(layout: VariantLayout) -> None:
    commit_tracks(layout, [make_track("v0", 3, "again")])
    drop(layout, "v0")
    assert [ids for ids in ids_of_parts(layout).values() if "v0" in ids] == []
    assert logical_digest([drop(layout, "v0")]) == digest_of(1, 2, 3, 4, 5)


def test_nothing_to_drop_changes_nothing(layout: VariantLayout) -> None:
    before = {path: path.read_bytes() for path in layout.folder.iterdir()}
    drop(layout, "unknown")
    assert {path: path.read_bytes() for path in layout.folder.iterdir()} == before
    assert drop_videos(layout, 7, "v0".__eq__) is None


def test_all_can_go(layout: VariantLayout) -> None:
    manifest = drop(layout, *(track.video_id for track in TRACKS), "zz")
    assert (manifest.parts, dict(manifest.entries), ids_of_parts(layout)) == ((), {}, {})


def test_damaged_rows_of_another_video_stop_it(layout: VariantLayout) -> None:
    path = layout.part(0, 1)
    rows = TRACKS[3].spans.tobytes()
    content = path.read_bytes()
    path.write_bytes(content.replace(rows, rows[:-1] + b"\x41"))
    before = {file: file.read_bytes() for file in layout.folder.iterdir()}
    with pytest.raises(IntegrityError, match="v3"):
        drop(layout, "v2")
    assert {file: file.read_bytes() for file in layout.folder.iterdir()} == before
    drop(layout, "v3")  # its own rows may be damaged
    assert logical_digest([drop(layout, "v3")]) == digest_of(0, 1, 2, 4, 5)


def test_a_kill_at_any_step_is_finished_by_the_next_call(
    layout: VariantLayout, tmp_path: Path
) -> None:
    place = 0
    while True:
        killed = variant_layout(tmp_path / f"killed{place}")
        shutil.copytree(layout.folder, killed.folder, dirs_exist_ok=True)
        was_killed = killed_at(place, partial(drop, killed, "v1", "v4"))
        manifest = read_manifest(killed, 0)
        assert manifest is not None
        states = [digest_of(0, 1, 2, 3, 4, 5), digest_of(0, 2, 3, 5)]
        assert logical_digest([manifest]) in states
        assert logical_digest([drop(killed, "v1", "v4")]) == states[1]
        named = {part.file for part in manifest.parts} | set(ids_of_parts(killed))
        assert named >= {part.file for part in drop(killed).parts}
        assert all({"v1", "v4"}.isdisjoint(ids) for ids in ids_of_parts(killed).values())
        if not was_killed:
            assert place > 15
            return
        place += 1
