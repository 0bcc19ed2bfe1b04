from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from storage.base.errors import DiskFull, IntegrityError
from storage.base.fingerprint import readable_json
from storage.base.paths import VariantLayout
from storage.base.records import JSON, FeatureTrack
from storage.base.video_status import DONE, State, failure_status
from storage.features.commit import commit, request_retry
from storage.features.compaction import compact
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest, logical_digest
from storage.features.manifest_file import read_manifest, write_manifest
from storage.features.manifest_index import lost_shards
from storage.features.part_writer import PartReader
from storage.files import atomic_write
from storage.files.checksummed_json import seal, unseal
from tests.support.feature_samples import commit_tracks, killed_at, make_track, same, variant_layout

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

TRACKS = [make_track(f"v{number}", 10 + number) for number in range(6)]
SMALL = 2 * max(track.nbytes for track in TRACKS)
"""Room for two tracks, and not for three."""


@pytest.fixture(autouse=True)
def _seam_is_given_back() -> Iterator[None]:
    before = atomic_write.before_step
    yield
    atomic_write.before_step = before


@pytest.fixture
def layout(tmp_path: Path) -> VariantLayout:
    return variant_layout(tmp_path)


def rows_of(layout: VariantLayout, manifest: ShardManifest) -> dict[str, FeatureTrack]:
    done = {video_id: entry for video_id, entry in manifest.entries.items() if entry.is_done}
    return {
        video_id: PartReader(layout.folder / entry.part).track(video_id)
        for video_id, entry in done.items()
    }


def parts_on_disk(layout: VariantLayout) -> list[str]:
    return sorted(path.name for path in layout.folder.glob("*.h5"))


def test_six_videos_go_greedily_into_parts_of_two(layout: VariantLayout) -> None:
    manifest = commit_tracks(
        layout, TRACKS, part_bytes=SMALL, zz=failure_status("private"), yy=failure_status("hang")
    )
    assert [part.file for part in manifest.parts] == [
        f"shard_000.p00{number}.h5" for number in range(3)
    ]
    assert [(part.videos, part.rows) for part in manifest.parts] == [
        (2, 10 + 11),
        (2, 12 + 13),
        (2, 14 + 15),
    ]
    assert manifest.counts == {
        State.DONE: 6,
        State.UNAVAILABLE: 1,
        State.REJECTED: 0,
        State.PENDING: 0,
        State.QUARANTINED: 1,
    }
    assert all(same(rows_of(layout, manifest)[track.video_id], track) for track in TRACKS)
    assert read_manifest(layout, 0) == manifest
    assert read_manifest(layout, 1) is None


def test_a_video_larger_than_a_part_gets_one_of_its_own(layout: VariantLayout) -> None:
    assert [part.videos for part in commit_tracks(layout, TRACKS, part_bytes=1).parts] == [1] * 6


def test_the_same_commit_gives_the_same_bytes_anywhere_and_changes_nothing_twice(
    tmp_path: Path,
) -> None:
    folders = [variant_layout(tmp_path / name) for name in ("one", "another/place")]
    for layout in folders:
        commit_tracks(layout, TRACKS, part_bytes=SMALL, zz=failure_status("private"))
    contents = [
        {path.name: path.read_bytes() for path in layout.folder.iterdir()} for layout in folders
    ]
    assert contents[0] == contents[1]
    commit_tracks(folders[0], TRACKS, part_bytes=SMALL, zz=failure_status("private"))
    assert {path.name: path.read_bytes() for path in folders[0].folder.iterdir()} == contents[0]


def test_a_retried_video_moves_and_its_old_part_is_not_touched(layout: VariantLayout) -> None:
    first = commit_tracks(layout, TRACKS[:2], v9=failure_status("network"))
    before = (layout.folder / "shard_000.p000.h5").read_bytes()
    better = make_track("v1", 30, salt="again")
    second = commit_tracks(layout, [better, make_track("v9", 4)])
    assert [part.file for part in second.parts] == ["shard_000.p000.h5", "shard_000.p001.h5"]
    assert {video_id: entry.part[-5:-3] for video_id, entry in second.entries.items()} == {
        "v0": "00",
        "v1": "01",
        "v9": "01",
    }
    assert same(rows_of(layout, second)["v1"], better)
    assert (layout.folder / "shard_000.p000.h5").read_bytes() == before
    assert logical_digest([first]) != logical_digest([second])


def test_compact_drops_superseded_rows_and_keeps_the_logical_digest(
    layout: VariantLayout, tmp_path: Path
) -> None:
    for track in TRACKS:
        commit_tracks(layout, [track])
    before = commit_tracks(
        layout, [make_track("v1", 30, salt="again")], zz=failure_status("private")
    )
    after = compact(layout, 0, max_part_bytes=10**6)
    assert (len(before.parts), len(after.parts)) == (7, 1)
    assert parts_on_disk(layout) == [after.parts[0].file] == ["shard_000.p007.h5"]
    assert logical_digest([after]) == logical_digest([before])
    assert after.counts == before.counts
    assert compact(layout, 0, max_part_bytes=10**6) == after
    other = variant_layout(tmp_path / "at once")
    tracks = [track for track in TRACKS if track.video_id != "v1"] + [
        make_track("v1", 30, salt="again")
    ]
    at_once = commit_tracks(other, tracks, zz=failure_status("private"))
    assert at_once.parts[0].sha256 == after.parts[0].sha256


def _same_state(layout: VariantLayout, states: list[str]) -> None:
    manifest = read_manifest(layout, 0)
    digest = logical_digest([manifest]) if manifest else "nothing"
    assert digest in states
    if manifest:
        for video_id, track in rows_of(layout, manifest).items():
            assert track.digest() == manifest.entries[video_id].digest


@pytest.mark.parametrize(
    ("work", "steps"),
    [
        ("first", 6 + 2 * 13 + 6),  # an empty manifest first
        (
            "commit",
            2 * 13 + 6,
        ),  # two parts of seven steps and checksums of six, then the manifest, which takes six
        (
            "compact",
            2 * 13 + 6 + 2 * 3,
        ),  # the same, and three old parts with their checksums to remove
    ],
)
def test_a_kill_at_any_step_leaves_the_old_account_or_the_new_and_the_next_run_gets_there(
    tmp_path: Path, work: str, steps: int
) -> None:
    def act(layout: VariantLayout) -> ShardManifest:
        if work != "compact":
            return commit_tracks(layout, TRACKS[3:], part_bytes=SMALL)
        return compact(layout, 0, max_part_bytes=SMALL)

    start, whole = variant_layout(tmp_path / "start"), variant_layout(tmp_path / "whole")
    nothing = ["nothing", logical_digest([])]
    before = (
        nothing
        if work == "first"
        else [logical_digest([commit_tracks(start, TRACKS[:3], part_bytes=1)])]
    )
    shutil.copytree(start.folder, whole.folder, dirs_exist_ok=True)
    after = logical_digest([act(whole)])
    for place in range(steps + 1):
        layout = variant_layout(tmp_path / f"killed{place}")
        shutil.copytree(start.folder, layout.folder, dirs_exist_ok=True)
        assert killed_at(place, partial(act, layout)) == (place < steps)
        _same_state(layout, [*before, after])
        assert lost_shards(layout) == ()
        act(layout)
        _same_state(layout, [after])


def test_a_full_disk_in_the_middle_of_a_commit_is_told_and_leaves_the_old_account(
    layout: VariantLayout,
) -> None:
    before = commit_tracks(layout, TRACKS[:1])
    large = FeatureTrack("x", TRACKS[0].spans, {"x": np.zeros((10, 100_000), np.float32)})
    child = os.fork()
    if child == 0:
        # A file size limit takes the same path as a full disk, and needs no disk of its own.
        # libhdf5 dies of it.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        code = 99
        try:
            commit_tracks(layout, [large])
        except DiskFull as error:
            code = 0 if error.needed_bytes > large.nbytes else 98
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read_manifest(layout, 0) == before
    assert parts_on_disk(layout) == ["shard_000.p000.h5"]
    assert (
        len(list(layout.folder.iterdir())) == 4
    )  # settings, part, its checksums, manifest: no temporary
    assert commit_tracks(layout, [large]).entries["x"].rows == 10


def test_an_orphan_of_a_killed_commit_is_taken_if_equal_and_stepped_over_if_not(
    layout: VariantLayout,
) -> None:
    commit_tracks(layout, TRACKS[:1])
    orphan = layout.part(0, 1)
    orphan.write_bytes(b"something else")
    assert commit_tracks(layout, TRACKS[1:2]).parts[-1].file == "shard_000.p002.h5"
    assert orphan.read_bytes() == b"something else"


@pytest.mark.parametrize(
    ("entries", "tracks", "message"),
    [
        ({"v0": ManifestEntry(DONE)}, [], "done, but no track was given: v0"),
        ({}, TRACKS[:1], "v0 has a track, but its entry"),
        (
            {"v0": ManifestEntry(DONE), "v1": ManifestEntry(DONE)},
            [TRACKS[1], TRACKS[0]],
            "ascending order",
        ),
    ],
)
def test_entries_and_tracks_must_agree(
    layout: VariantLayout,
    entries: dict[str, ManifestEntry],
    tracks: list[FeatureTrack],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        commit(
            layout, "sample", 0, entries=entries, tracks=tracks, max_part_bytes=10**6, provenance={}
        )
    assert read_manifest(layout, 0) is None


def test_only_one_part_of_tracks_is_in_memory(layout: VariantLayout) -> None:
    alive: list[int] = []

    def lazily() -> Iterator[FeatureTrack]:
        for number, track in enumerate(TRACKS):
            alive.append(number - 2 * len(parts_on_disk(layout)))
            yield track

    entries = {track.video_id: ManifestEntry(DONE) for track in TRACKS}
    commit(
        layout, "sample", 0, entries=entries, tracks=lazily(), max_part_bytes=SMALL, provenance={}
    )
    assert alive == [
        0,
        1,
        2,
        1,
        2,
        1,
    ]  # unpublished tracks before each one is asked for: never more than a part's two


def test_a_retry_marks_the_chosen_reasons_and_no_others(layout: VariantLayout) -> None:
    commit_tracks(
        layout,
        TRACKS[:1],
        a=failure_status("network", "reset"),
        b=failure_status("private"),
        c=failure_status("rate_limited"),
    )
    assert request_retry(layout, 0, ["network", "rate_limited"]) == ("a", "c")
    manifest = read_manifest(layout, 0)
    assert manifest is not None
    assert str(manifest.entries["a"].status) == "pending:requested (pending:network (reset))"
    assert [manifest.entries[video_id].status.reason for video_id in "bc"] == [
        "private",
        "requested",
    ]
    assert request_retry(layout, 0, ["network", "requested"]) == ()
    assert request_retry(layout, 5, ["network"]) == ()


def test_a_manifest_of_another_place_is_refused(layout: VariantLayout, tmp_path: Path) -> None:
    manifest = commit_tracks(layout, TRACKS[:1])
    layout.manifest(1).write_bytes(layout.manifest(0).read_bytes())
    with pytest.raises(IntegrityError, match=r"shard 0 of.*expected shard 1 of.*copied here"):
        read_manifest(layout, 1)
    with pytest.raises(IntegrityError, match="belongs to the catalog 'sample', not to 'other'"):
        commit(layout, "other", 0, entries={}, tracks=[], max_part_bytes=1, provenance={})
    with pytest.raises(IntegrityError, match="nothing to compact"):
        compact(layout, 7, max_part_bytes=1)
    write_manifest(layout, replace(manifest, shard=2))
    assert read_manifest(layout, 2) == replace(manifest, shard=2)


def good_json() -> dict[str, JSON]:
    part = PartRecord("shard_000.p000.h5", "ab" * 32, 99, 1, 3)
    entry = ManifestEntry(DONE, part.file, 3, "cd" * 32, 2, {"frames": 48})
    return ShardManifest(
        "sample", 0, "c3d", "0123456789ab", (part,), {"v0": entry}, {"numpy": "2"}
    ).to_json()


def _change(path: str, value: JSON) -> Callable[[dict[str, JSON]], None]:
    def change(content: dict[str, JSON]) -> None:
        at = json.loads(readable_json(content))
        target, keys = at, path.split("/")
        for key in keys[:-1]:
            target = target[int(key) if key.isdigit() else key]
        target[keys[-1]] = value
        content.clear()
        content.update(at)

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "x", "is a 'x' of version 2; this release reads"),
        ("format_version", 3, "of version 3; this release reads"),
        ("format_version", 1, "a part has unknown fields: checksums_sha256"),
        ("parts/0/checksums_sha256", None, "field 'checksums_sha256' of a part is None"),
        ("shard", "0", "field 'shard' of the manifest is '0', not a int"),
        ("shard", True, "field 'shard'"),
        ("parts", {}, "field 'parts' of the manifest"),
        ("parts/0/size_bytes", 1.5, "field 'size_bytes' of a part is 1.5"),
        ("parts/0/more", 1, "a part has unknown fields: more"),
        (
            "time_origin",
            "noon",
            "times count from 'noon'; this release reads container_start, stream_clock",
        ),
        ("time_origin", None, "field 'time_origin' of the manifest is None"),
        ("more", 1, "the manifest has unknown fields: more"),
        ("entries/v0", [], "an entry is not a JSON object"),
        ("entries/v0/state", "fine", "a status is wrong: 'fine' is not a valid State"),
        ("entries/v0/reason", "private", "a done video has no reason"),
        ("entries/v0/part", "other.h5", "entries.v0: done with part 'other.h5'"),
        ("entries/v0/rows", 0, "entries.v0: done with part .* and 0 rows"),
        ("entries/v0/digest", None, "field 'digest' of an entry is None"),
        ("entries/..", {}, "field 'state' of an entry is None"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, path: str, value: JSON, message: str) -> None:
    content = good_json()
    assert ShardManifest.from_json(tmp_path, content).to_json() == content
    _change(path, value)(content)
    with pytest.raises(IntegrityError, match=message):
        ShardManifest.from_json(tmp_path, content)


def test_every_flipped_bit_of_a_sealed_record_is_noticed(tmp_path: Path) -> None:
    sealed = seal(good_json())
    assert unseal(tmp_path, sealed) == good_json()
    for bit in range(0, 8 * len(sealed), 3):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            unseal(tmp_path, bytes(flipped))
    for end in range(0, len(sealed), 7):
        with pytest.raises(IntegrityError):
            unseal(tmp_path, sealed[:end])


def test_a_sealed_record_has_a_line_for_each_item_and_the_sha256_of_its_lines() -> None:
    entries = b'"entries": {\n  "x": {"a": null, "b": [1, 2.5]},\n  "\\u00e9": {}\n }'
    lines = b' "a": 1,\n "e": {},\n ' + entries
    sha256 = hashlib.sha256(lines).hexdigest().encode()
    whole: dict[str, JSON] = {
        "entries": {"\u00e9": {}, "x": {"b": [1, 2.5], "a": None}},
        "e": {},
        "a": 1,
    }
    assert seal(whole) == b"{\n" + lines + b',\n "sha256": "' + sha256 + b'"\n}\n'
    with pytest.raises(ValueError, match="reserved for the seal"):
        seal({"sha256": "mine"})
    with pytest.raises(ValueError, match="JSON"):
        seal({"a": float("nan")})


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"\n ", b"\n\t"), (b'{\n "cat', b'{\n "catalog": "other",\n "cat'), (b"}\n", b"}")],
)
def test_a_spelling_that_means_the_same_is_still_not_what_was_written(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    sealed = seal(good_json())
    respelled = new.join(sealed.rsplit(old, 1)) if old == b"}\n" else sealed.replace(old, new, 1)
    assert json.loads(respelled) == json.loads(sealed)
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        unseal(tmp_path, respelled)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"nan", b'{"a": NaN}', b"[" * 100_000, b'{"a": 1, "a": 2}', b"\xff\xfe"]
)
def test_what_is_no_sealed_record_is_an_integrity_error(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"JSON|own sha256"):
        unseal(tmp_path, raw)
