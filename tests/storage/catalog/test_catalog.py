"""A catalog keeps its bytes whatever the order of its rows, its ids whatever they hold, and its
shards for good.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Group, Link, Metadata, User, Video
from storage.catalog.catalog import (
    Catalog,
    default_shard_count,
    read_catalog,
    shard_of,
    write_catalog,
)
from storage.files.checksummed_json import seal, unseal

TABLES = ("videos", "users", "links", "annotations", "groups")


def example(**changes: Any) -> Catalog:
    catalog = Catalog(
        name="tiny",
        videos=(Video("b"), Video("-a", 314.0, 9000, 9002, ("-a", "its copy")), Video("B", 0.1)),
        users=(User("0042", "train"), User("42", "test")),
        links=(
            Link("42", "b", "target"),
            Link("42", "-a", "history"),
            Link("0042", "B", "history"),
        ),
        annotations=(
            Annotation("b", "42", 204.39, 204.39 + 7.08),
            Annotation("-a", "42", 0.0, 1e-5, 0.1 + 0.2),
            Annotation("B", 'somebody, "else"', 1.0, 9.0),
        ),
        shard_count=3,
        time_unit="seconds",
        groups=(
            Group("domain", "dog", "b"),
            Group("domain", "dog", "-a"),
            Group("vlist_sel", "test", "b"),
        ),
        origin={"sources": {"train": {"rows": 3}}, "oddities": {}},
    )
    return dataclasses.replace(catalog, **changes)


def files(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(layout.folder.iterdir())}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    assert read_catalog(layout.folder) == example()
    assert set(files(layout)) == {"catalog.json", *(f"{table}.csv" for table in TABLES)}


def test_tables_are_plain_sorted_csv(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    assert layout.table("videos").read_bytes() == (
        b"video_id,claimed_duration_seconds,frames_least,frames_most,asked_as\n"
        b"-a,314.0,9000,9002,-a|its copy\nB,0.1,,,\nb,,,,\n"
    )
    assert layout.table("groups").read_text().splitlines() == [
        "grouping,name,video_id",
        "domain,dog,-a",
        "domain,dog,b",
        "vlist_sel,test,b",
    ]
    assert layout.table("users").read_bytes() == b"user_id,split\n0042,train\n42,test\n"
    assert layout.table("annotations").read_text().splitlines() == [
        "video_id,annotator,start,end,value",
        "-a,42,0.0,1e-05,0.30000000000000004",
        'B,"somebody, ""else""",1.0,9.0,1.0',
        "b,42,204.39,211.47,1.0",
    ]


def test_order_of_rows_does_not_reach_the_disk(tmp_path: Path) -> None:
    dice = random.Random(20)
    one, other = Layout(tmp_path / "one", "tiny"), Layout(tmp_path / "other", "tiny")
    write_catalog(one, example())
    shuffled = {
        table: tuple(dice.sample(rows, len(rows)))
        for table in TABLES
        for rows in [getattr(example(), table)]
    }
    write_catalog(other, example(**shuffled))
    assert files(one) == files(other)


persons = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20
)
video_ids = st.text("ABCabc019_-", min_size=1, max_size=11)
times = st.floats(-1e9, 1e9, allow_nan=False)


@settings(deadline=None, max_examples=60)
@given(st.sets(video_ids, min_size=1), st.sets(persons, min_size=1), times, times)
def test_ids_and_times_survive_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory,
    videos: set[str],
    people: set[str],
    one: float,
    other: float,
) -> None:
    start, end = min(one, other), max(one, other) + 1e-3
    catalog = Catalog(
        name="any",
        videos=tuple(Video(video_id) for video_id in videos),
        users=tuple(User(person, person) for person in people),
        links=tuple(Link(person, video_id, "history") for person in people for video_id in videos),
        annotations=tuple(
            Annotation(video_id, person, start, end) for person in people for video_id in videos
        ),
        shard_count=1,
        time_unit="frames",
    )
    layout = Layout(tmp_path_factory.mktemp("catalog"), "any")
    write_catalog(layout, catalog)
    assert read_catalog(layout.folder) == catalog


# Right column: the first 16 hex digits of `printf %s ID | sha256sum`, modulo the shard count.
@pytest.mark.parametrize(
    ("video_id", "of_400", "of_7"), [("dhuI9TO1rY8", 99, 3), ("-2np_8EjXIy", 216, 5), ("a", 250, 4)]
)
def test_shards_never_move(video_id: str, of_400: int, of_7: int) -> None:
    assert (shard_of(video_id, 400), shard_of(video_id, 7), shard_of(video_id, 1)) == (
        of_400,
        of_7,
        0,
    )


def test_shards_are_a_partition() -> None:
    catalog = example(
        videos=tuple(Video(f"v{number}") for number in range(900)),
        links=(),
        annotations=(),
        groups=(),
    )
    shards = [catalog.shard_ids(shard) for shard in range(3)]
    assert sorted(video_id for shard in shards for video_id in shard) == [
        video.video_id for video in catalog.videos
    ]
    assert all(250 < len(shard) < 350 for shard in shards)
    with pytest.raises(LookupFailed, match="tiny has shards 0 to 2, not 3"):
        catalog.shard_ids(3)


# 119,938 videos of PHD2 / 300 = 399.8
@pytest.mark.parametrize(
    ("n_videos", "shards"),
    [(0, 1), (1, 1), (300, 1), (301, 2), (10_222, 35), (119_938, 400), (10**6, 400)],
)
def test_default_shard_count(n_videos: int, shards: int) -> None:
    assert default_shard_count(n_videos) == shards


def test_the_shard_count_is_fixed_for_good(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    before = files(layout)
    with pytest.raises(
        SettingsError, match=r"has 3 shards and cannot be given 4.*Keep 3, or build under another"
    ):
        write_catalog(layout, example(shard_count=4))
    assert files(layout) == before


def test_more_videos_may_come_later(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    larger = example(videos=(*example().videos, Video("late")))
    write_catalog(layout, larger)
    assert read_catalog(layout.folder) == larger


@pytest.mark.parametrize("table", TABLES)
def test_an_altered_table_is_found(tmp_path: Path, table: str) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    content = bytearray(layout.table(table).read_bytes())
    content[-2] ^= 1
    layout.table(table).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{table}.csv: sha256 is .* the catalog states"):
        read_catalog(layout.folder)


def test_every_altered_byte_of_the_header_is_found(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    content = layout.catalog_file.read_bytes()
    for position in range(0, len(content) - 1, 7):
        altered = bytearray(content)
        altered[position] ^= 1
        layout.catalog_file.write_bytes(altered)
        with pytest.raises(IntegrityError, match=r"catalog\.json"):
            read_catalog(layout.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "is not a video-highlights catalog"),
        ({"format_version": 5}, r"has format version 5; this release reads \(1, 2, 3, 4\)"),
        (
            {"format_version": 1},
            "columns are .*frames_most, asked_as; expected video_id, claimed_duration_seconds",
        ),
        ({"shard_count": "3"}, "shard_count must be of type int, got '3'"),
        ({"shard_count": True}, "shard_count must be of type int, got True"),
        (
            {"shard_count": 0},
            "is not a catalog written by this project: shard_count must be at least 1",
        ),
        ({"tables": {}}, "videos must be of type dict, got None"),
    ],
)
def test_a_header_of_another_making_is_refused(
    tmp_path: Path, changes: dict[str, JSON], message: str
) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    header = unseal(layout.catalog_file, layout.catalog_file.read_bytes())
    layout.catalog_file.write_bytes(seal(header | changes))
    with pytest.raises(IntegrityError, match=message):
        read_catalog(layout.folder)


OLD = {
    1: (b"video_id,claimed_duration_seconds\n-a,314.0\nB,0.1\nb,\n", Video("-a", 314.0)),
    2: (
        b"video_id,claimed_duration_seconds,frames_least,frames_most\n-a,314.0,9000,9002\nB,0.1,,\nb,,,\n",
        Video("-a", 314.0, 9000, 9002),
    ),
}


@pytest.mark.parametrize("version", OLD)
def test_a_catalog_of_an_older_version_is_read(tmp_path: Path, version: int) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    old, dashed = OLD[version]
    layout.table("videos").write_bytes(old)
    layout.table("groups").unlink()
    header = unseal(layout.catalog_file, layout.catalog_file.read_bytes())
    tables = header["tables"]
    assert isinstance(tables, dict)
    del tables["groups"]
    tables["videos"] = {"rows": 3, "sha256": hashlib.sha256(old).hexdigest()}
    layout.catalog_file.write_bytes(seal(header | {"format_version": version}))
    assert read_catalog(layout.folder) == example(
        videos=(Video("b"), dashed, Video("B", 0.1)), groups=()
    )


def test_groups_answer_by_name() -> None:
    catalog = example()
    assert catalog.group("domain", "dog") == {"-a", "b"}
    assert catalog.groupings == {"domain": {"dog": {"-a", "b"}}, "vlist_sel": {"test": {"b"}}}
    assert catalog.alternative_ids == {"-a": ("-a", "its copy")}
    with pytest.raises(LookupFailed, match="tiny has no grouping 'umt'; it has domain, vlist_sel"):
        catalog.group("umt", "train")
    with pytest.raises(LookupFailed, match="vlist_sel of tiny has no group 'train'; it has test"):
        catalog.group("vlist_sel", "train")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            (Group("domain", "dog", "c"),),
            "1 group ids have .* but are not in the table of videos, the first 'c'|1 video ids",
        ),
        ((Group("domain", "dog", "b"),) * 2, "names each group of a video once"),
    ],
)
def test_groups_are_of_videos_and_once(groups: tuple[Group, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example(groups=groups)


def test_missing_files_are_told_apart(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    with pytest.raises(LookupFailed, match=r"no catalog\.json in .*Build the catalog"):
        read_catalog(layout.folder)
    write_catalog(layout, example())
    layout.table("links").unlink()
    with pytest.raises(IntegrityError, match=r"links\.csv: missing"):
        read_catalog(layout.folder)


def test_a_catalog_belongs_in_its_own_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'tiny' does not belong in the folder of 'other'"):
        write_catalog(Layout(tmp_path, "other"), example())


NAN = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../up"}, "a catalog is named like"),
        ({"shard_count": 0}, "shard_count must be at least 1, got 0"),
        ({"time_unit": "minutes"}, "time_unit is 'seconds' or 'frames', got 'minutes'"),
        ({"videos": (*example().videos, Video("b", 3.0))}, "names each video once, got 'b' twice"),
        (
            {"users": (*example().users, User("42", "train"))},
            "names each user once, got '42' twice",
        ),
        ({"links": (*example().links, example().links[0])}, "names each link once"),
        (
            {"links": (Link("42", "zz", "target"),)},
            "1 video ids have links but are not in the table of videos, the first 'zz'",
        ),
        (
            {"links": (Link("7", "b", "target"),)},
            "1 user ids have links but are not in the table of users, the first '7'",
        ),
        (
            {"annotations": (Annotation("zz", "42", 0, 1),)},
            "1 video ids have annotations but are not in",
        ),
        ({"annotations": (Annotation("b", "42", 1, 1),)}, "finite with start < end"),
        ({"annotations": (Annotation("b", "42", 0, NAN),)}, "finite with start < end"),
        ({"annotations": (Annotation("b", "a\nb", 0, 1),)}, r"on one line, got 'a\\nb'"),
        (
            {"videos": (*example().videos, Video("c", -1.0))},
            "a claimed duration is above 0 and finite",
        ),
    ],
)
def test_a_catalog_checks_itself(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example(**changes)


HOSTILE = '<script>alert("x")</script>,=1+1\r\n"quoted"\u2028' + "ä" * 300


def test_metadata_of_videos_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = (Metadata("b", "title", HOSTILE), Metadata("b", "place", "/videos/b c.mp4"))
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example(metadata=rows))
    back = read_catalog(layout.folder)
    assert back == example(metadata=rows)
    assert back.metadata_by_video == {"b": {"title": HOSTILE, "place": "/videos/b c.mp4"}}
    assert back.shareable_metadata == {"b": {"title": HOSTILE}}  # no path of this machine
    assert b'"format_version": 4' in layout.catalog_file.read_bytes()


def test_a_catalog_without_metadata_keeps_its_bytes(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_catalog(layout, example())
    assert b'"format_version": 3' in layout.catalog_file.read_bytes()
    assert not layout.table("metadata").exists()
    assert read_catalog(layout.folder).metadata == ()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([Metadata("nobody", "title", "x")], "1 video ids have metadata rows but are not"),
        ([Metadata("b", "title", "x"), Metadata("b", "title", "y")], "names each metadata once"),
    ],
    ids=["unknown video", "twice"],
)
def test_metadata_belongs_to_a_video_once(rows: list[Metadata], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        example(metadata=rows)
