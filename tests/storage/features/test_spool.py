"""What waits in a spool is whole or not there, and the last word about a video counts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.records import Array, FeatureTrack, Ragged
from storage.base.video_status import DONE, failure_status
from storage.features import spool
from storage.features.manifest import ManifestEntry
from storage.features.spool import SpooledVideos
from storage.files import append_log
from tests.support.feature_samples import killed_at, make_track, same

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

TRACK = make_track("-v", 5)
GONE = ManifestEntry(failure_status("private", "the raw message"), attempts=2)
KEPT = ManifestEntry(DONE, rows=5, digest=TRACK.digest(), facts={"frames": 80})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool" / "003"
    spool.put(folder, "-v", KEPT, TRACK)
    spool.put(folder, "gone", GONE)
    return folder


def file_of(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_put_is_found_again_until_it_is_cleared(folder: Path) -> None:
    found = SpooledVideos(folder)
    assert found.entries == {"-v": KEPT, "gone": GONE}
    assert same(found.track("-v"), TRACK)
    for video_id in ("gone", "stranger"):
        with pytest.raises(LookupFailed, match=f"keeps no rows of {video_id}"):
            found.track(video_id)
    spool.clear(folder)
    spool.clear(folder)
    assert SpooledVideos(folder).entries == {}


@pytest.mark.parametrize("origin", ["stream_clock", None])
def test_what_counts_from_another_origin_is_done_again(folder: Path, origin: str | None) -> None:
    """A release whose times were the streams' own left its videos without an origin: they are not
    taken over.
    """
    (record,) = (one for one in append_log.read_records(file_of(folder)) if b'"gone"' in one.head)
    head = json.loads(record.head)
    assert head.pop("time_origin") == "container_start"
    spool.clear(folder)
    append_log.append(
        folder / "finished.journal",
        json.dumps(head | ({"time_origin": origin} if origin else {})).encode(),
    )
    assert SpooledVideos(folder).entries == {}


def test_rows_of_every_kind_come_back(tmp_path: Path) -> None:
    spans = np.array([[0.0, 1.0], [1.0, 2.5]])
    arrays: dict[str, Array | Ragged] = {
        "half": np.arange(12, dtype=np.float16).reshape(2, 6)[:, ::2],
        "boxes": Ragged(np.ones((3, 5), np.float32), np.array([0, 3])),
        "none": Ragged(np.zeros((0, 4), np.float32), np.array([0, 0])),
        "jpeg": Ragged(np.arange(7, dtype=np.uint8), np.array([3, 4])),
        "flags": np.array([[-1], [2]], np.int64),
    }
    track = FeatureTrack("v", spans, arrays)
    spool.put(tmp_path, "v", ManifestEntry(DONE), track)
    found = SpooledVideos(tmp_path).track("v")
    assert found.digest() == track.digest()
    assert all(
        np.asarray(getattr(array, "values", array)).flags.writeable
        for array in found.arrays.values()
    )


def test_a_second_verdict_replaces_the_first(folder: Path) -> None:
    better = make_track("gone", 2)
    spool.put(folder, "gone", ManifestEntry(DONE), better)
    spool.put(folder, "-v", GONE)
    found = SpooledVideos(folder)
    assert found.entries == {"-v": GONE, "gone": ManifestEntry(DONE)}
    assert same(found.track("gone"), better)


@pytest.mark.parametrize(
    ("entry", "track"), [(KEPT, None), (GONE, TRACK), (KEPT, make_track("other", 2))]
)
def test_a_done_video_brings_its_own_track_and_others_bring_none(
    folder: Path, entry: ManifestEntry, track: FeatureTrack | None
) -> None:
    with pytest.raises(ValueError, match="a done video needs its own track"):
        spool.put(folder, "-v", entry, track)


def test_what_no_part_can_hold_is_refused_at_once(folder: Path) -> None:
    complex_rows = FeatureTrack(
        "v", np.array([[0.0, 1.0]]), {"rows": np.ones((1, 2), np.complex64)}
    )
    with pytest.raises(ValueError, match="parts hold integers and floats"):
        spool.put(folder, "v", ManifestEntry(DONE), complex_rows)


@pytest.mark.parametrize("damage", ["flip", "cut", "zero"])
def test_what_is_damaged_is_passed_over_and_the_rest_stays(folder: Path, damage: str) -> None:
    before = len(file_of(folder).read_bytes())
    spool.put(folder, "other", ManifestEntry(DONE), make_track("other", 3))
    content = bytearray(file_of(folder).read_bytes())
    if damage == "flip":
        content[(before + len(content)) // 2] ^= 4
    elif damage == "cut":
        del content[-1:]
    else:
        content[before:] = bytes(len(content) - before)
    file_of(folder).write_bytes(content)
    assert SpooledVideos(folder).entries == {"-v": KEPT, "gone": GONE}
    spool.put(folder, "other", GONE)
    assert SpooledVideos(folder).entries == {"-v": KEPT, "gone": GONE, "other": GONE}


@pytest.mark.parametrize(
    "head", [b"no JSON", b"{}", b'{"video_id": "v", "entry": {"state": "done"}, "arrays": []}']
)
def test_a_record_of_another_release_is_passed_over(folder: Path, head: bytes) -> None:
    append_log.append(file_of(folder), head)
    assert SpooledVideos(folder).entries == {"-v": KEPT, "gone": GONE}


def test_a_kill_at_any_step_costs_at_most_the_video_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_log, "SYNC_EVERY_SECONDS", -1.0)
    steps = 3  # open, write, fsync
    for place in range(steps + 1):
        folder = tmp_path / str(place)
        spool.put(folder, "before", GONE)
        assert killed_at(place, partial(spool.put, folder, "-v", KEPT, TRACK)) == (place < steps)
        assert SpooledVideos(folder).entries in ({"before": GONE}, {"before": GONE, "-v": KEPT})
        spool.put(folder, "after", GONE)
        assert {"before", "after"} <= SpooledVideos(folder).entries.keys()


def test_rows_that_changed_after_they_were_counted_are_told(folder: Path) -> None:
    found = SpooledVideos(folder)
    content = bytearray(file_of(folder).read_bytes())
    content[len(content) // 2] ^= 1
    file_of(folder).write_bytes(content)
    with pytest.raises(IntegrityError, match="is not what was written"):
        found.track("-v")


def test_dropped_videos_leave_no_byte_in_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "000"
    gone, stays = make_track("gone", 8), make_track("stays", 5)
    spool.put(folder, "gone", ManifestEntry(DONE), gone)
    spool.put(folder, "stays", ManifestEntry(DONE), stays)
    spool.put(folder, "failed", ManifestEntry(failure_status("private")))
    journal = folder / "finished.journal"
    whole = journal.read_bytes()
    assert not spool.needs_rewrite(folder, "other".__eq__)
    assert spool.needs_rewrite(folder, "gone".__eq__)
    spool.drop(folder, "gone".__eq__)
    kept = journal.read_bytes()
    assert kept in whole
    assert gone.spans.tobytes() not in kept
    assert b"gone" not in kept
    assert list(SpooledVideos(folder).entries) == ["failed", "stays"]
    assert same(SpooledVideos(folder).track("stays"), stays)
    journal.write_bytes(kept + whole[:100])  # a record of any video, cut short
    assert spool.needs_rewrite(folder, "gone".__eq__)
    spool.drop(folder, "gone".__eq__)
    assert journal.read_bytes() == kept
    spool.drop(folder, lambda video_id: True)
    assert not folder.exists()
    assert not spool.needs_rewrite(folder, "gone".__eq__)
