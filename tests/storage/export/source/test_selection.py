"""Choices that are refused before anything is written: files of ids, and rows of another clock."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storage.base.errors import SettingsError
from storage.export.run import ExportRequest, export_store
from storage.export.source.chosen_ids import read_ids
from storage.export.source.selection import SelectionRequest
from tests.conftest import REPOSITORY

STORE_V1 = REPOSITORY / "tests" / "storage" / "data" / "store_v1" / "phd2"
"""Of format version 1: its times count on each stream's own clock."""


@pytest.mark.parametrize("content", [b"a\n\n -b \r\n", b"\xef\xbb\xbfa\n-b"])
def test_ids_are_read_one_on_each_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    assert read_ids(tmp_path / "ids.txt") == ("a", "-b")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00", None])
def test_a_file_without_ids_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(SettingsError, match=r"--ids .*ids\.txt"):
        read_ids(tmp_path / "ids.txt")


@pytest.mark.filterwarnings("ignore::storage.features.store.UnsealedParts")
def test_clips_need_times_that_count_from_the_start(tmp_path: Path) -> None:
    store = tmp_path / "phd2"
    shutil.copytree(STORE_V1, store)
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="python -m pipeline rebase"):
        export_store(ExportRequest(store, out, "npy", SelectionRequest(clip_seconds=2.0)))
    assert not out.exists()
    export_store(ExportRequest(store, out, "npy"))
    provenance = json.loads((out / "provenance.json").read_text())
    for variant in provenance["variants"].values():
        (origin,) = variant["time_origin"]
        assert origin.startswith("stream_clock: ")
