from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from storage import spool
from storage.account import Entry
from storage.errors import IntegrityError, LookupFailed
from storage.records import FeatureTrack
from storage.verdicts import DONE, failed
from tests.storage.samples import killed_at, make_track, same

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

TRACK = make_track("-v", 5)
GONE = Entry(failed("private", "the raw message"), attempts=2)
KEPT = Entry(DONE, rows=5, digest=TRACK.digest(), facts={"frames": 80})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "spool" / "003"
    spool.put(folder, "-v", KEPT, TRACK)
    spool.put(folder, "gone", GONE)
    return folder


def test_what_is_put_is_found_again_until_it_is_cleared(folder: Path) -> None:
    assert spool.finished(folder) == {"-v": KEPT, "gone": GONE}
    assert same(spool.load(folder, "-v"), TRACK)
    with pytest.raises(LookupFailed, match="keeps no rows of gone"):
        spool.load(folder, "gone")
    spool.clear(folder)
    spool.clear(folder)
    assert spool.finished(folder) == {}


def test_a_second_verdict_replaces_the_first(folder: Path) -> None:
    better = make_track("gone", 2)
    spool.put(folder, "gone", Entry(DONE), better)
    spool.put(folder, "-v", GONE)
    assert spool.finished(folder) == {"-v": GONE, "gone": Entry(DONE)}
    assert same(spool.load(folder, "gone"), better)


@pytest.mark.parametrize(("entry", "track"), [(KEPT, None), (GONE, TRACK), (KEPT, make_track("other", 2))])
def test_a_done_video_brings_its_own_track_and_others_bring_none(
    folder: Path, entry: Entry, track: FeatureTrack | None
) -> None:
    with pytest.raises(ValueError, match="a done video brings its own track, others none"):
        spool.put(folder, "-v", entry, track)


@pytest.mark.parametrize("suffix", [".h5", ".json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "swap"])
def test_what_is_damaged_is_removed_and_the_rest_stays(folder: Path, suffix: str, damage: str) -> None:
    spool.put(folder, "other", Entry(DONE), make_track("other", 3))
    path, other = (next(folder.glob(f"v_{name}.*{suffix}")) for name in ("-v", "other"))
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "swap":
        path.write_bytes(other.read_bytes())
    else:
        path.unlink()
    assert spool.finished(folder).keys() == {"gone", "other"}
    assert not list(folder.glob("v_-v.*"))


def test_a_kill_at_any_step_costs_at_most_the_video_in_hand(tmp_path: Path) -> None:
    steps = 2 * 6  # rows, then record: open, write, verify, fsync, replace, fsync the folder
    for place in range(steps + 1):
        folder = tmp_path / str(place)
        spool.put(folder, "before", GONE)
        assert killed_at(place, partial(spool.put, folder, "-v", KEPT, TRACK)) == (place < steps)
        found = spool.finished(folder)
        assert found in ({"before": GONE}, {"before": GONE, "-v": KEPT})
        assert len(list(folder.iterdir())) == (3 if "-v" in found else 1)


def test_rows_that_changed_after_they_were_counted_are_told(folder: Path) -> None:
    path = next(folder.glob("*.h5"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="its header says"):
        spool.load(folder, "-v")
