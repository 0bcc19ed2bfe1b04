"""The record of exports: which folders hold a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.base.errors import IntegrityError, LeaseHeld
from storage.base.paths import Layout
from storage.export.record import exports_holding, read_records, record_begin, record_finish
from tests.support.feature_samples import race

IDS = ("-dash", "a", "b")


@pytest.fixture(autouse=True)
def _store(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()


def begin(root: Path, name: str, ids: tuple[str, ...] = IDS) -> str:
    layout = Layout(root, "sample")
    return record_begin(layout, root / name, "npz", ["c3d-0123456789ab"], ids).key


def test_an_export_is_listed_from_its_beginning(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "sample")
    assert read_records(layout) == ()
    assert exports_holding(layout, "a") == ()
    begin(tmp_path, "one")
    begin(tmp_path, "two", ("a",))
    assert [Path(one.path).name for one in exports_holding(layout, "b")] == ["one"]
    assert {Path(one.path).name for one in exports_holding(layout, "a")} == {"one", "two"}
    assert exports_holding(layout, "c") == ()
    assert exports_holding(layout, "b")[0].finished == ""


def test_a_finished_export_has_its_time(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "sample")
    record = record_begin(layout, tmp_path / "out", "zarr", ["c3d-0123456789ab"], IDS)
    assert record_finish(layout, record) == read_records(layout)[0]
    assert read_records(layout)[0].finished >= record.begun
    assert read_records(layout)[0].ids == 3


def test_a_second_export_to_the_same_folder_takes_the_place_of_the_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "sample")
    first = begin(tmp_path, "out")
    second = begin(tmp_path, "out", ("a",))
    assert [one.key for one in read_records(layout)] == [second]
    assert not layout.export_ids(first).exists()


@pytest.mark.parametrize("damaged", ["record", "ids", "no ids"])
def test_damage_is_noticed(tmp_path: Path, damaged: str) -> None:
    layout = Layout(tmp_path, "sample")
    key = begin(tmp_path, "out")
    path = layout.exports_file if damaged == "record" else layout.export_ids(key)
    if damaged == "no ids":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"a", b"c", 1))
    with pytest.raises(IntegrityError, match=path.name):
        exports_holding(layout, "a")


def test_two_processes_lose_no_record(tmp_path: Path) -> None:
    def export(number: int) -> int:
        for attempt in range(40):
            try:
                begin(tmp_path, f"out{number}")
            except LeaseHeld:
                if attempt == 39:
                    raise
            else:
                return 0
        return 1

    assert race(2, export) == [0, 0]
    assert len(read_records(Layout(tmp_path, "sample"))) == 2
