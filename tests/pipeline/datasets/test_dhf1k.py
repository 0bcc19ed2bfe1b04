"""DHF1K: a thousand videos in three parts, and as many frames as there are maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.parsing.archive import list_file_names
from pipeline.datasets.readers.dhf1k import FILES, read_dhf1k
from storage.base.errors import SettingsError
from storage.base.records import Video
from tests.support.published_annotations import counts


def test_parts_and_frames_from_a_folder_of_maps(tmp_path: Path) -> None:
    for path in (
        "annotation/0001/maps/0001.png",
        "annotation/0001/maps/0002.png",
        "annotation/0700/maps/0002.png",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "annotation/0001/fixation").mkdir()
    (tmp_path / "annotation/0001/fixation/0001.png").touch()
    survey = read_dhf1k({"annotations": list_file_names(tmp_path, FILES)}, name="dhf1k")
    catalog = survey.catalog
    sizes = {name: len(ids) for name, ids in catalog.groupings["dhf1k"].items()}
    assert sizes == {"train": 600, "validation": 100, "test": 300}
    assert (min(catalog.group("dhf1k", "test")), max(catalog.group("dhf1k", "train"))) == (
        "0701",
        "0600",
    )
    assert catalog.videos[0] == Video("0001", None, 2, 2, ("001",))
    assert catalog.videos[-1] == Video("1000", None, None, None, ())
    found = counts(survey)
    assert (found["no_maps"], found["maps_not_numbered_from_1"], found["without_annotation"]) == (
        698,
        1,
        1000,
    )


def test_paths_of_something_else_are_refused() -> None:
    got = r"no path in the listing of DHF1K looks like .*; got 1 other lines, such as '0001/fixation/0001\.png'"
    with pytest.raises(SettingsError, match=got):
        read_dhf1k({"annotations": b"0001/fixation/0001.png\n"}, name="dhf1k")
