"""A table that is read makes its rows when they are asked for, and none that was not written."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest

from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.base.records import Link, User, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.catalog.csv_tables import CsvTable, text_column
from storage.files.checksummed_json import seal, unseal

VIDEOS = (Video("a", 3.5), Video("b"), Video("c", None, 1, 2, ("c d", "e")))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path, "tiny")
    links = (Link("u", "a", "history"), Link("u", "b", "target"))
    write_catalog(made, Catalog("tiny", VIDEOS, (User("u", "train"),), links, (), 2, "seconds"))
    return made


def table(layout: Layout) -> CsvTable[Video]:
    videos = read_catalog(layout.folder).videos
    assert isinstance(videos, CsvTable)
    return videos


def test_ids_and_shards_cost_no_rows(layout: Layout) -> None:
    catalog = read_catalog(layout.folder)
    shards = [video_id for shard in range(2) for video_id in catalog.shard_ids(shard)]
    assert sorted(shards) == text_column(catalog.videos, "video_id") == ["a", "b", "c"]
    assert (len(catalog.videos), text_column(catalog.links, "user_id")) == (3, ["u", "u"])
    assert "rows" not in vars(catalog.videos)
    assert catalog.videos == VIDEOS
    assert "rows" in vars(catalog.videos)


def test_a_table_is_a_sequence_like_any_other(layout: Layout) -> None:
    videos = table(layout)
    assert videos == VIDEOS
    assert videos != VIDEOS[:2]
    assert (videos[0], videos[-1], videos[1:]) == (VIDEOS[0], VIDEOS[2], VIDEOS[1:])
    assert text_column(VIDEOS, "video_id") == videos.texts("video_id")
    assert pickle.loads(pickle.dumps(videos)) == VIDEOS  # noqa: S301  # our own, just made


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,3.5,,\n", "a row has 4 cells for 5 columns"),
        ("a,3.5,,,\nb,,,,\n", "holds 2 rows, the catalog states 3"),
        ('a,3.5,,,\nb,,,,\n"c\n', "is not a table written by this project: unexpected end of data"),
        (
            "a,3.5,,,\nb,,,,\nc,often,,,\n",
            "is not a table written by this project: could not convert string to float",
        ),
        ("a,3.5,,,\nb,,,,\n../c,,,,\n", "is not a table written by this project: a video id is"),
    ],
)
def test_rows_that_no_catalog_writes_are_refused_when_they_are_asked_for(
    layout: Layout, rows: str, message: str
) -> None:
    """By somebody who also states their sha256."""
    content = layout.table("videos").read_bytes().partition(b"\n")[0] + b"\n" + rows.encode()
    layout.table("videos").write_bytes(content)
    header = unseal(layout.catalog_file, layout.catalog_file.read_bytes())
    tables = header["tables"]
    assert isinstance(tables, dict)
    tables["videos"] = {"rows": 3, "sha256": hashlib.sha256(content).hexdigest()}
    layout.catalog_file.write_bytes(seal(header))
    with pytest.raises(IntegrityError, match=message):
        list(table(layout))
    if (
        not message.startswith("is not a table written by this project: c")
        and "video id" not in message
    ):
        with pytest.raises(IntegrityError, match=message):
            table(layout).texts("video_id")


@pytest.mark.parametrize("user", ["plain", 'with "quotes"', "with, comma", "\u00fcml\u00e4ut"])
def test_a_column_is_what_the_rows_say(tmp_path: Path, user: str) -> None:
    layout = Layout(tmp_path, "tiny")
    links = tuple(Link(user, video.video_id, "history") for video in VIDEOS)
    write_catalog(layout, Catalog("tiny", VIDEOS, (User(user, "train"),), links, (), 2, "seconds"))
    read = read_catalog(layout.folder)
    assert text_column(read.links, "user_id") == [user] * 3
    assert text_column(read.links, "video_id") == ["a", "b", "c"]
    assert text_column(read.links, "role") == ["history"] * 3
