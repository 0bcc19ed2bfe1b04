from __future__ import annotations

from pathlib import Path

import pytest

from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.catalog.catalog import shard_of
from storage.catalog.forgotten import (
    Forgotten,
    forgotten_source_files,
    id_sha256,
    json_without,
    read_forgotten,
    write_forgotten,
)
from storage.files.checksummed_json import seal

NOW, LATER = "2026-12-01T13:30:57Z", "2026-12-02T00:00:00Z"
LONG, SHORT = "-QzmFfX1c4m", "v1"


@pytest.fixture
def forgotten() -> Forgotten:
    return Forgotten().begin([LONG, SHORT], NOW)


def test_what_is_written_is_read_and_holds_no_id(tmp_path: Path, forgotten: Forgotten) -> None:
    layout = Layout(tmp_path, "tiny")
    assert len(read_forgotten(layout)) == 0
    write_forgotten(layout, forgotten)
    assert read_forgotten(layout) == forgotten
    assert LONG.encode() not in layout.forgotten_file.read_bytes()
    assert forgotten.matches(LONG)
    assert not forgotten.matches(LONG.lower())


def test_a_take_down_has_two_states_and_keeps_its_first_time(forgotten: Forgotten) -> None:
    done = forgotten.finish()
    assert (len(forgotten.unfinished), len(done.unfinished)) == (2, 0)
    again = done.begin([SHORT], LATER)
    assert list(again.unfinished.videos) == [id_sha256(SHORT)]
    assert again.videos[id_sha256(SHORT)].forgotten_at == NOW
    assert list(again.of([LONG, "other"]).videos) == [id_sha256(LONG)]


def test_the_shard_follows_from_the_hash(forgotten: Forgotten) -> None:
    for count in (1, 3, 400):
        assert forgotten.shards(count) == {shard_of(LONG, count), shard_of(SHORT, count)}


@pytest.mark.parametrize(
    ("content", "is_named"),
    [
        (b'{"a": "-QzmFfX1c4m"}', True),
        (b"v_-QzmFfX1c4m.a106aa.json", True),
        (b'"first\\n-QzmFfX1c4m"', True),
        (b"abc-QzmFfX1c4mdef", True),
        (b"-QzmFfX1c4", False),
        (b"-QzmFfX1c4M", False),
        (b"a v1 b", True),
        (b"v_v1.01abcd.mp4", True),
        (b'"\\nv1"', True),
        (b"v10", False),
        (b"xv1", False),
        (b"", False),
    ],
)
def test_names_are_found_in_texts(forgotten: Forgotten, content: bytes, is_named: bool) -> None:
    assert bool(forgotten.named_in(content)) == is_named


def test_whole_words_are_asked_for_in_published_files(forgotten: Forgotten) -> None:
    assert forgotten.named_in(b"-QzmFfX1c4m,1", whole_words=True)
    assert not forgotten.named_in(b"abc-QzmFfX1c4m,1", whole_words=True)


def test_in_bytes_only_long_ids_are_looked_for(forgotten: Forgotten) -> None:
    content = b"\0\xffv1\0abcdefghijk-QzmFfX1c4mabcdefghijk\0"
    assert forgotten.named_in_bytes(content) == {id_sha256(LONG)}
    assert forgotten.of([SHORT]).named_in_bytes(content) == frozenset()


def test_texts_that_name_it_are_dropped_from_json(forgotten: Forgotten) -> None:
    value: JSON = {"n": 2, LONG: 1, "cases": [f"1 {LONG}", "2 other", 3], "text": f"of {LONG}"}
    expected = {"n": 2, "cases": ["2 other", 3], "text": ""}
    assert json_without(forgotten, value) == expected
    assert forgotten.without_naming([f"1 {LONG}", "2 other"]) == ["2 other"]


def test_a_table_named_like_a_video_is_not_its_media(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    layout.sources.mkdir(parents=True)
    for name in ("testing.csv", "testing.mp4", "testing.figure.npy", "testing2.mp4"):
        (layout.sources / name).touch()
    found = forgotten_source_files(layout, Forgotten().begin(["testing"], NOW))
    assert [path.name for path in found] == ["testing.figure.npy", "testing.mp4"]


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"\xff",
        seal({"format": "other"}),
        seal({"format": "video-highlights forgotten videos", "format_version": 2, "videos": {}}),
        seal({"format": "video-highlights forgotten videos", "format_version": 1, "videos": []}),
        seal(
            {
                "format": "video-highlights forgotten videos",
                "format_version": 1,
                "videos": {"abc": {}},
            }
        ),
        seal(
            {
                "format": "video-highlights forgotten videos",
                "format_version": 1,
                "videos": {"0" * 64: {"characters": 0, "forgotten_at": NOW, "state": "done"}},
            }
        ),
        seal(
            {
                "format": "video-highlights forgotten videos",
                "format_version": 1,
                "videos": {"0" * 64: {"characters": "a", "forgotten_at": NOW, "state": "done"}},
            }
        ),
    ],
)
def test_any_other_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    layout = Layout(tmp_path, "tiny")
    layout.folder.mkdir()
    layout.forgotten_file.write_bytes(content)
    with pytest.raises(IntegrityError, match="forgotten"):
        read_forgotten(layout)
