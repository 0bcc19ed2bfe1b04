"""A video that was taken down stays away, whatever is built afterwards, by the real command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storage.__main__ import main
from storage.catalog.catalog import read_catalog
from storage.features.store import FeatureStore
from tests.support.sample_builds import Built, build_in_fork

GONE = "-QzmFfX1c4m"
"""A video of the sample, of a user with several others."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Built:
    built = build_in_fork(tmp_path_factory.mktemp("sample"))
    assert built.exit_code == 0, built.output
    return built


@pytest.fixture
def store(first: Built, tmp_path: Path) -> Path:
    shutil.copytree(first.folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data" / "sample"


def rows(store: Path) -> dict[str, str]:
    reader = FeatureStore(store)["frames"]
    return {video_id: reader[video_id].track().digest() for video_id in reader}


def check_is_away(store: Path, before: dict[str, str]) -> None:
    account = (store / "report" / "account.json").read_text()
    assert {one["ids"] for one in json.loads(account)["variants"].values()} == {11}
    assert GONE not in account
    assert GONE not in {video.video_id for video in read_catalog(store).videos}
    assert rows(store) == {one: digest for one, digest in before.items() if one != GONE}
    assert list(store.rglob(f"*{GONE}*")) == []
    assert main(["audit", "--deep", str(store)]) == 0


def test_the_next_build_does_not_bring_it_back(store: Path, tmp_path: Path) -> None:
    before = rows(store)
    assert GONE in before
    assert main(["forget", str(store), GONE]) == 0
    for options in ((), ("--retry", "all")):
        again = build_in_fork(tmp_path, *options)
        assert again.exit_code == 0, again.output
        check_is_away(store, before)


def test_neither_does_a_catalog_that_is_built_anew(store: Path, tmp_path: Path) -> None:
    before = rows(store)
    assert main(["forget", str(store), GONE]) == 0
    (store / "catalog.json").unlink()
    again = build_in_fork(tmp_path)
    assert again.exit_code == 0, again.output
    assert "sample: left out: 1 videos that were taken down" in again.output
    check_is_away(store, before)
    assert GONE in (store / "sources" / "testing.csv").read_text(), "kept as published"
