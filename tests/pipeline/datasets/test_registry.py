"""The table of datasets: every row reads what it names, refuses what it does not, and unknown names
list the known.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.registry import DATASETS, dataset_spec
from storage.base.errors import LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog, write_catalog
from tests.support.published_annotations import PLACES, sources

TABLES = [name for name, spec in DATASETS.items() if "train" in spec.files]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_users_is_read(name: str) -> None:
    row = b"youtubeId,start,duration,user_id,video_duration,is_last\nv,1,2,u,9,True\n"
    spec = dataset_spec(name)
    read = spec.read(dict.fromkeys(list(spec.files)[:1], row), name="mine", shard_count=5)
    assert (read.catalog.name, read.catalog.shard_count, len(read.catalog.annotations)) == (
        "mine",
        5,
        1,
    )


@pytest.mark.parametrize("name", PLACES)
def test_what_is_published_survives_the_disk(shared_data: Path, tmp_path: Path, name: str) -> None:
    read = dataset_spec(name).read(sources(name, shared_data), name="mine", shard_count=5)
    assert (read.catalog.name, read.catalog.shard_count) == ("mine", 5)
    write_catalog(Layout(tmp_path, "mine"), read.catalog)
    assert read_catalog(tmp_path / "mine") == read.catalog


@pytest.mark.parametrize("name", DATASETS)
def test_a_page_of_a_site_is_refused(name: str) -> None:
    spec = dataset_spec(name)
    with pytest.raises(SettingsError):
        spec.read(dict.fromkeys(spec.files, b"<!doctype html>\n"), name="mine")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        LookupFailed,
        match="unknown dataset 'pdh2'; choose one of activitynet, category-sample, cosum, ",
    ):
        dataset_spec("pdh2")
