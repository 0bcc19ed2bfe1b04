"""The index of a variant: quick, never believed where a manifest says otherwise, and worth nothing
once altered.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout
from storage.features import manifest_index
from storage.features.commit import request_retry
from storage.features.manifest import ShardManifest, logical_digest
from storage.features.manifest_file import read_manifest, write_manifest
from storage.features.store import VariantReader
from tests.support.feature_samples import make_store

LONG_AGO_SECONDS = 1_000_000_000


@pytest.fixture
def layout(tmp_path: Path) -> VariantLayout:
    """A store whose manifests are old enough for their time of change to be believed."""
    made = make_store(tmp_path)
    settle(made)
    return made


def settle(layout: VariantLayout) -> None:
    for path in manifests(layout):
        os.utime(path, (LONG_AGO_SECONDS, LONG_AGO_SECONDS))


def manifests(layout: VariantLayout) -> list[Path]:
    return sorted(layout.folder.glob("shard_*.json"))


def reader(layout: VariantLayout) -> VariantReader:
    return FeatureStore(layout.folder.parents[1])["c3d"]


def forbid_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> ShardManifest:
        raise AssertionError("a manifest was parsed")

    monkeypatch.setattr(manifest_index, "parse_manifest", refuse)


def test_the_index_says_what_the_manifests_say(layout: VariantLayout) -> None:
    manifest_index.refresh_index(layout)
    manifests = [read_manifest(layout, shard) for shard in manifest_index.read_summaries(layout)]
    assert manifests
    for manifest in manifests:
        assert manifest is not None
        found = manifest_index.read_summary(layout, manifest.shard)
        assert found is not None
        assert dict(found.statuses) == {
            video_id: entry.status for video_id, entry in manifest.entries.items()
        }
        for place, video_id in enumerate(found.ids):
            entry = manifest.entries[video_id]
            told = (
                found.rows[place],
                found.digests[place],
                found.parts[found.part_numbers[place]].file,
            )
            assert told == (entry.rows, entry.digest, entry.part)
    assert reader(layout).digest() == logical_digest(manifest for manifest in manifests if manifest)


def test_a_store_with_an_index_opens_without_parsing_a_manifest(
    layout: VariantLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reader(layout)
    expected = (before.ids, before.statuses, before["v007"].spans.tobytes())
    manifest_index.refresh_index(layout)
    forbid_manifests(monkeypatch)
    after = reader(layout)
    assert (after.ids, after.statuses, after["v007"].spans.tobytes()) == expected


def test_a_copied_store_is_known_by_its_bytes(
    layout: VariantLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest_index.refresh_index(layout)
    catalog = layout.folder.parents[1]
    copied = tmp_path / "elsewhere" / catalog.name
    shutil.copytree(catalog, copied, copy_function=shutil.copyfile)
    forbid_manifests(monkeypatch)
    assert FeatureStore(copied)["c3d"].ids == reader(layout).ids


def test_what_changes_after_the_index_is_seen(layout: VariantLayout) -> None:
    manifest_index.refresh_index(layout)
    changed = {
        shard: request_retry(layout, shard, ("private", "network", "too_short"))
        for shard in (0, 1, 2, 3)
    }
    marked = {video_id for ids in changed.values() for video_id in ids}
    assert marked
    statuses = reader(layout).statuses
    assert {i for i, status in statuses.items() if status.reason == "requested"} == marked


def test_a_change_within_one_tick_of_the_clock_is_seen(layout: VariantLayout) -> None:
    """Equal size, equal time of change, other content: the case for which no time is believed too
    early.
    """
    shard = min(manifest_index.read_summaries(layout))
    path = layout.manifest(shard)
    os.utime(path)  # now
    manifest_index.refresh_index(layout)
    stamp = path.stat().st_mtime_ns
    manifest = read_manifest(layout, shard)
    assert manifest is not None
    video_id, entry = next((i, e) for i, e in manifest.entries.items() if e.is_done)
    other = replace(entry, digest=entry.digest[::-1])
    size = path.stat().st_size
    write_manifest(layout, replace(manifest, entries={**manifest.entries, video_id: other}))
    os.utime(path, ns=(stamp, stamp))
    assert path.stat().st_size == size
    found = manifest_index.read_summary(layout, shard)
    assert found is not None
    assert found.digests[found.ids.index(video_id)] == other.digest


def test_an_altered_index_is_worth_nothing(layout: VariantLayout) -> None:
    expected = reader(layout).digest()
    manifest_index.refresh_index(layout)
    whole = layout.index_file.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        altered = bytearray(whole)
        altered[place] ^= 1
        layout.index_file.write_bytes(bytes(altered))
        assert reader(layout).digest() == expected
    layout.index_file.write_bytes(b"")
    assert reader(layout).digest() == expected


def test_the_index_of_another_variant_is_not_taken(layout: VariantLayout) -> None:
    manifest_index.refresh_index(layout)
    other = VariantLayout(layout.folder.with_name("c3d-ffffffffffff"), "c3d", "ffffffffffff")
    shutil.copytree(layout.folder, other.folder)
    with pytest.raises(IntegrityError, match="copied here"):
        manifest_index.read_summaries(other)


def test_with_verify_the_bytes_of_every_manifest_count(layout: VariantLayout) -> None:
    manifest_index.refresh_index(layout)
    path = manifests(layout)[0]
    raw = path.read_bytes().replace(b'"rows": 1', b'"rows": 2')
    path.write_bytes(raw)
    os.utime(path, (LONG_AGO_SECONDS, LONG_AGO_SECONDS))
    with pytest.raises(IntegrityError):
        len(FeatureStore(layout.folder.parents[1], verify=True)["c3d"])


def test_an_index_that_is_right_is_not_written_again(layout: VariantLayout) -> None:
    manifest_index.refresh_index(layout)
    inode = layout.index_file.stat().st_ino
    manifest_index.refresh_index(layout)
    assert layout.index_file.stat().st_ino == inode


def test_a_summary_without_some_videos_has_the_others_unchanged(layout: VariantLayout) -> None:
    summary = next(iter(manifest_index.read_summaries(layout).values()))
    done, failed = summary.ids[1], next(iter(summary.unfinished))
    smaller = summary.without({done, failed}.__contains__)
    assert smaller.ids == tuple(one for one in summary.ids if one != done)
    assert failed not in smaller.statuses
    assert len(smaller.statuses) == len(summary.statuses) - 2
    for column in ("rows", "part_numbers", "digests"):
        before = dict(zip(summary.ids, getattr(summary, column), strict=True))
        after = dict(zip(smaller.ids, getattr(smaller, column), strict=True))
        assert after == {one: before[one] for one in smaller.ids}
    assert summary.without("unknown".__eq__) is summary


def test_the_ids_of_the_index_are_those_it_was_written_with(layout: VariantLayout) -> None:
    assert manifest_index.indexed_ids(layout) == frozenset()
    manifest_index.refresh_index(layout)
    known = manifest_index.indexed_ids(layout)
    assert known == set(reader(layout).statuses)
    layout.manifest(0).unlink()
    assert manifest_index.indexed_ids(layout) == known
