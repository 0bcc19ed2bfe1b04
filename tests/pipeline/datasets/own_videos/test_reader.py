"""Catalogs of one's own: from a folder, a list, a table; grown later; every row accounted for."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.own_videos.entries import list_content
from pipeline.datasets.own_videos.labels import hashed_splits
from pipeline.datasets.own_videos.reader import ROLE, read_own_videos
from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog

HOSTILE = '=cmd|"/C calc"!A0,<img src=x onerror=alert(1)>' + "x" * 300


def read(path: Path | str, earlier: Catalog | None = None, **options: Any) -> ParsedDataset:
    settings = OwnVideosSettings(str(path), **options)
    return read_own_videos(
        {ROLE: list_content(str(path))},
        name="mine",
        settings=settings,
        earlier=lambda: earlier,
        playlist=lambda address: [(f"{address}/1.mp4", "one"), (f"{address}/2.mp4", "")],
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def ids(catalog: Catalog) -> list[str]:
    return [video.video_id for video in catalog.videos]


def test_a_folder_with_folders_in_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    names = ["a.mp4", "B.MKV", "sub/a.mp4", "notes.txt", "c.mp4.part", ".d.mp4", ".hidden/e.mp4"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "two\nlines.mp4").touch()
    catalog = read(tmp_path).catalog
    places = {known["place"] for known in catalog.metadata_by_video.values()}
    wanted = ["a.mp4", "B.MKV", "sub/a.mp4", "two\nlines.mp4"]
    assert places == {str(tmp_path / name) for name in wanted}
    assert {"a", "B"} < set(ids(catalog))
    assert catalog.users == ()
    assert catalog.origin["reader"] == "own videos"


def test_a_name_that_is_not_utf_8_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).touch()
    parsed = read(tmp_path)
    assert ids(parsed.catalog) == ["a"]
    assert parsed.oddities["dropped:name_is_not_utf8"] == [repr("\udcff.mp4")]


def test_a_folder_without_videos_says_so(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "x")
    with pytest.raises(SettingsError, match="has no videos; it has 1 other files"):
        read(tmp_path)


def test_one_file_and_one_address(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert ids(read(tmp_path / "a.mp4").catalog) == ["a"]
    assert ids(read("https://youtu.be/16WT8mzB-bM").catalog) == ["16WT8mzB-bM"]


def test_a_list_of_several_sites(tmp_path: Path) -> None:
    lines = [
        "\ufeff# comment",
        "https://youtu.be/16WT8mzB-bM",
        "https://www.youtube.com/watch?v=16WT8mzB-bM&t=4",
        "https://vimeo.com/12345",
        "clip.mp4",
        "EnxN9sPbsJm",
        "",
        "file:///etc/passwd",
        "https://www.youtube.com/playlist?list=PL1",
    ]
    parsed = read(write(tmp_path / "list.txt", "\r\n".join(lines)))
    catalog = parsed.catalog
    places = {video: known.get("place") for video, known in catalog.metadata_by_video.items()}
    (vimeo,) = [video for video, place in places.items() if place == "https://vimeo.com/12345"]
    assert vimeo.startswith("12345-")
    assert set(ids(catalog)) == {"16WT8mzB-bM", "clip", "EnxN9sPbsJm", vimeo}
    counts = {name: len(cases) for name, cases in parsed.oddities.items() if cases}
    assert counts == {"dropped:unusable": 1, "dropped:playlist": 1, "listed_twice": 1}
    used = len(lines) - 2 - sum(counts.values())
    assert used == len(catalog.videos)


def test_a_playlist_stands_for_its_videos_where_a_setting_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "https://site.org/list\nhttps://youtu.be/16WT8mzB-bM\n")
    catalog = read(path, playlists=True).catalog
    titles = [known.get("title") for known in catalog.metadata_by_video.values()]
    assert len(catalog.videos) == 3
    assert titles.count("one") == 1


def test_users_of_a_table(tmp_path: Path) -> None:
    table = [
        "url;begin;stop;user_id;title;channel",
        f'https://youtu.be/16WT8mzB-bM;0:01;0:05;anna;"{HOSTILE.replace(chr(34), chr(34) * 2)}";x',
        "https://youtu.be/26WT8mzB-bM;10;12,5;anna;;",
        "https://youtu.be/16WT8mzB-bM;3;9;bob;;",
        "https://youtu.be/36WT8mzB-bM;1;2;bob;;",
        "https://youtu.be/16WT8mzB-bM;3;9;bob;;",
        "https://youtu.be/46WT8mzB-bM;9;3;bob;;",
        "https://youtu.be/46WT8mzB-bM;soon;3;bob;;",
        "https://youtu.be/46WT8mzB-bM;1;3;;;",
        ";1;3;bob;;",
    ]
    parsed = read(write(tmp_path / "likes.csv", "\n".join(table)))
    catalog = parsed.catalog
    assert catalog.origin["reader"] == "own users"
    roles = {(link.user_id, link.video_id): link.role for link in catalog.links}
    assert roles == {
        ("anna", "16WT8mzB-bM"): "history",
        ("anna", "26WT8mzB-bM"): "target",
        ("bob", "36WT8mzB-bM"): "history",
        ("bob", "16WT8mzB-bM"): "target",  # mentioned last
    }
    assert {user.split for user in catalog.users} == {"train", "test"}
    spans = Counter((row.annotator, row.start, row.end) for row in catalog.annotations)
    assert spans == Counter([("anna", 1, 5), ("anna", 10, 12.5), ("bob", 3, 9), ("bob", 1, 2)])
    assert catalog.metadata_by_video["16WT8mzB-bM"]["title"] == HOSTILE
    assert catalog.metadata_by_video["16WT8mzB-bM"]["channel"] == "x"
    counts = {name: len(cases) for name, cases in parsed.oddities.items() if cases}
    assert counts == {
        "dropped:end_before_start": 1,
        "dropped:unreadable_time": 1,
        "dropped:without_user": 1,
        "dropped:without_video": 1,
        "duplicate_annotation": 1,
    }


def test_annotators_with_scores_and_splits(tmp_path: Path) -> None:
    rows = [
        {"vid": "a", "start": 0, "end": 2, "rater": "r1", "rating": 3, "split": "train"},
        {"vid": "a", "start": 2, "end": 4, "rater": "r1", "rating": 1.5},
        {"vid": "b", "start": 0, "end": 2, "rater": "r1", "rating": 2, "split": "test"},
        {"vid": "b", "start": 2, "end": 4, "rater": "r1", "rating": "high", "split": "test"},
        {"vid": "c", "start": 2, "end": 4, "rater": "r1", "rating": 1, "split": "someday"},
    ]
    parsed = read(write(tmp_path / "s.jsonl", "\n".join(json.dumps(row) for row in rows)))
    catalog = parsed.catalog
    assert catalog.origin["reader"] == "own scores"
    assert [(row.video_id, row.value) for row in catalog.annotations] == [
        ("a", 3.0),
        ("a", 1.5),
        ("b", 2.0),
        ("c", 1.0),
    ]
    assert {group.video_id: group.name for group in catalog.groups} | {"c": ""} == {
        "a": "train",
        "b": "test",
        "c": "",
    }
    assert len(parsed.oddities["dropped:unreadable_score"]) == 1
    assert parsed.oddities["unknown_split"][0].startswith("line 5: 'someday'")


def test_marked_intervals_with_named_labels(tmp_path: Path) -> None:
    text = "video\tstart\tend\tlabel\na\t1\t2\tgoal\na\t4\t5\tsave it\nb\t0\t1\tgoal\n"
    catalog = read(write(tmp_path / "m.tsv", text)).catalog
    assert catalog.origin["reader"] == "own intervals"
    assert {row.annotator for row in catalog.annotations} == {"goal", "save it"}
    labels = {(group.name, group.video_id) for group in catalog.groups if group.grouping == "label"}
    assert labels == {("goal", "a"), ("goal", "b"), ("save-it", "a")}


def test_parquet_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra [export], is missing")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": ["a", "b"], "start": [0.5, 1.0], "end": [1.5, None]})
    parquet.write_table(table, tmp_path / "t.parquet")
    parsed = read(tmp_path / "t.parquet")
    assert [(row.video_id, row.start, row.end) for row in parsed.catalog.annotations] == [
        ("a", 0.5, 1.5)
    ]
    assert ids(parsed.catalog) == ["a", "b"]
    assert len(parsed.oddities["dropped:unreadable_time"]) == 1


def test_a_table_without_intervals_carries_its_columns(tmp_path: Path) -> None:
    text = "file,title,place,duration,split,license\nx.mp4,A,ignored,1:30,test,CC BY\ny.mp4,,,,,\n"
    catalog = read(write(tmp_path / "v.csv", text)).catalog
    assert catalog.metadata_by_video["x"] == {
        "license": "CC BY",
        "place": str(tmp_path / "x.mp4"),
        "title": "A",
    }
    assert [video.claimed_duration_seconds for video in catalog.videos] == [90.0, None]
    assert catalog.groupings == {"split": {"test": frozenset({"x"})}}


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("a,b\n1,2\n", {}, "no column of videos: name one video, or set .list. columns = video"),
        ("video,start\na,1\n", {}, r"a column for start \(start\) and none for end"),
        ("video,start,end\n", {}, "has no rows below its first line"),
        (
            "video,beginning,end\na,1,2\n",
            {"columns": ("start: begining",)},
            "did you mean 'beginning'",
        ),
        ("video,video\na,b\n", {}, "several columns named video"),
        ("video,start,end\na,1,2,3\n", {}, "line 2: 4 cells for 3 columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_what_to_set(
    tmp_path: Path, text: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        read(write(tmp_path / "t.csv", text), **options)


@pytest.mark.parametrize(
    ("content", "suffix", "told"),
    [
        (b"\xff\xfa\x00", ".csv", "is not UTF-8 text in line 1"),
        (b"{}\nnot json\n", ".jsonl", "line 2: not JSON"),
        (b"[1]\n", ".jsonl", "expected an object"),
        (b"\x00\xff\x00", ".txt", "is not UTF-8 text; a list has one address"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, content: bytes, suffix: str, told: str
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=told):
        read(path)


def test_a_catalog_grows_and_keeps_ids_shards_and_what_is_not_listed_any_more(
    tmp_path: Path,
) -> None:
    (tmp_path / "b.mp4").touch()
    (tmp_path / "b.mkv").touch()
    first = read(tmp_path).catalog
    (tmp_path / "b.mkv").unlink()
    (tmp_path / "a.mp4").touch()
    second = read(tmp_path, first)
    assert set(ids(first)) < set(ids(second.catalog))
    assert len(second.catalog.videos) == 3
    assert second.oddities["not_listed_any_more"] == ["b"]  # the first of b.mkv, b.mp4
    places = {known["place"]: video for video, known in first.metadata_by_video.items()}
    later = {known["place"]: video for video, known in second.catalog.metadata_by_video.items()}
    assert all(later[place] == video for place, video in places.items())
    assert second.catalog.shard_count == first.shard_count


def test_a_folder_that_was_moved_keeps_its_ids(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "sub").mkdir(parents=True)
    for name in ("a.mp4", "sub/a.mp4", "b c.mp4"):
        (old / name).touch()
    first = read(old).catalog
    new = old.rename(tmp_path / "new")
    second = read(new, first).catalog
    assert ids(second) == ids(first)
    places = {known["place"] for known in second.metadata_by_video.values()}
    assert places == {str(new / name) for name in ("a.mp4", "sub/a.mp4", "b c.mp4")}


def test_a_copy_of_a_folder_holds_other_videos(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.mp4").touch()
    first = read(tmp_path / "x").catalog
    assert len(read(tmp_path / "y", first).catalog.videos) == 2


def test_default_splits_stay_when_names_join() -> None:
    names = [f"user{number}" for number in range(500)]
    few, many = hashed_splits(names[:400]), hashed_splits(names)
    assert all(many[name] == split for name, split in few.items())
    assert 0.14 < list(many.values()).count("test") / 500 < 0.26
    assert set(hashed_splits(["a", "b"]).values()) == {"train", "test"}
    assert hashed_splits(["a"]) == {"a": "test"}


def test_settings_name_their_faults() -> None:
    settings = OwnVideosSettings("x", columns=("start: begin", "ende: stop", "video"))
    assert len(list(settings.faults())) == 2
    assert OwnVideosSettings("x", columns=("start: begin",)).column_names() == {"start": "begin"}
