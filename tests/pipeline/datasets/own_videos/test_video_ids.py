"""Ids of places: safe, readable, one for each place, and the same in every later catalog."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.own_videos.places import Place, file_place
from pipeline.datasets.own_videos.video_ids import VideoIds, readable_part
from storage.base.records import VIDEO_ID


def test_a_safe_name_is_its_own_id_and_another_gets_a_readable_one() -> None:
    ids = VideoIds({})
    assert ids.id_of(file_place(Path("/v/clip-7.mp4"))) == "clip-7"
    odd = ids.id_of(file_place(Path("/v/Mein Süßes Video!.mp4")))
    assert odd.startswith("Mein-Sues-Video-")
    assert VIDEO_ID.fullmatch(odd)


def test_files_of_one_stem_get_different_ids() -> None:
    ids = VideoIds({})
    paths = ["/v/a.mp4", "/v/a.mkv", "/v/sub/a.mp4", "/v/sub/a.mkv"]
    found = [ids.id_of(file_place(Path(path))) for path in paths]
    assert len(set(found)) == 4
    assert found == [ids.id_of(file_place(Path(path))) for path in paths]


def test_a_place_keeps_its_id_when_others_come_first(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    old_file, new_file = tmp_path / "sub" / "a.mp4", tmp_path / "a.mp4"
    old = VideoIds({}).id_of(file_place(old_file))
    later = VideoIds({str(old_file): old})
    # Also true if the old file is gone: another file of its name is another video.
    assert later.id_of(file_place(new_file)) != old
    assert later.id_of(file_place(old_file)) == old


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_ids_are_safe_and_distinct_whatever_the_names(names: list[str]) -> None:
    places = [Place("file", f"/v/{number}/{name}.mp4", name) for number, name in enumerate(names)]
    ids = VideoIds({})
    found = [ids.id_of(place) for place in places]
    assert len(set(found)) == len(places)
    assert all(VIDEO_ID.fullmatch(one) for one in found)
    assert found == [ids.id_of(place) for place in places]


def test_the_readable_part_of_hostile_names() -> None:
    assert readable_part("<script>alert(1)</script>") == "script-alert-1-script"
    assert readable_part("日本語") == "video"
    assert len(readable_part("x" * 500)) == 40
    assert readable_part("\u202e\0\n") == "video"
