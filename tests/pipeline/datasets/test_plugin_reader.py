"""What a reader of another distribution does wrong is said of its file, its line or its data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.datasets.parsing.parsed_dataset import UNKNOWN_SPLIT, ParsedDataset
from pipeline.datasets.registry import DATASETS, dataset_spec
from storage.base.errors import DatasetError, LookupFailed, SettingsError
from storage.base.records import User, Video
from storage.catalog.catalog import Catalog
from tests.support.plugins import install

CODE = """
from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.registry import DatasetSpec, SourceFile
from storage.base.errors import SettingsError
from storage.base.records import Video
from storage.catalog.catalog import Catalog


def read(sources, *, name, shard_count=None):
    BODY


FILES = {"marks": SourceFile("marks", "marks.csv")}
SPEC = DatasetSpec(description="", citation="", url="", files=FILES, read=read)
"""
CATALOG = 'Catalog(name, [Video("one")], [], [], [], 1, "seconds")'
NUMBER = [0]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    DATASETS.pop("vh_mine", None)
    DATASETS.plugins.pop("vh_mine", None)


def read(site: Path, body: str) -> ParsedDataset:
    NUMBER[0] += 1  # a module of another name for each test
    module = f"vh_reader_{NUMBER[0]}"
    points = f"vh_mine = {module}:SPEC"
    code = CODE.replace("BODY", body)
    install(site, "my-data", "1", "video_highlights.datasets", points, **{module: code})
    return dataset_spec("vh_mine").read({"marks": b""}, name="vh_mine")


def test_a_reader_that_does_what_it_must_is_left_alone(site: Path) -> None:
    parsed = read(site, f"return ParsedDataset({CATALOG}, {{}})")
    assert [video.video_id for video in parsed.catalog.videos] == ["one"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('float("soon")', r"vh_reader_\d+.py, line 10, in read: ValueError: could not convert"),
        ('Video("no id")', r"vh_reader_\d+.py, line 10, in read: ValueError: a video id is"),
        ("sources['labels']", "line 10, in read: KeyError: 'labels'"),
        ("None.x", "line 10, in read: AttributeError"),
        ("raise SettingsError(('line 7 is empty',))", "line 7 is empty"),
        ("return None", "returned a NoneType; it must return a ParsedDataset"),
        (
            f"return ParsedDataset({CATALOG.replace('name', repr('other'))}, {{}})",
            "named its catalog 'other'; it must be 'vh_mine'",
        ),
        (
            'return ParsedDataset(Catalog(name, [], [], [], [], 1, "seconds"), {})',
            "vh_mine lists no video: look at its files",
        ),
    ],
)
def test_mistakes_are_faults_of_the_dataset(site: Path, body: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as raised:
        read(site, body)
    assert str(raised.value).startswith("this dataset cannot be read; correct its files")
    assert isinstance(raised.value, SettingsError)  # exit code 2


def test_users_of_an_unknown_split_are_listed() -> None:
    users = [User("anna", "trian"), User("ben", "train"), User("carl", "test")]
    catalog = Catalog("mine", [Video("one")], users, [], [], 1, "seconds")
    parsed = ParsedDataset(catalog, {"odd": ["x"]})
    assert parsed.oddities == {"odd": ["x"], UNKNOWN_SPLIT: ["anna trian"]}
    right = Catalog("mine", [Video("one")], users[1:], [], [], 1, "seconds")
    assert ParsedDataset(right, {}).oddities == {}


def test_a_near_name_is_offered() -> None:
    with pytest.raises(LookupFailed, match=r"unknown dataset 'tvsun'; .*; did you mean tvsum\?"):
        dataset_spec("tvsun")
