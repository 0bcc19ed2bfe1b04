"""Cells of `ids.csv`: a spreadsheet computes none of them, and ids stay exact."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from storage.export.forms.numpy_files import refuse_spans
from storage.export.ids_table import ids_csv, inert, metadata_lines
from storage.export.source.selection import SelectionRequest, select
from tests.support.export_stores import IDS, TITLES, write_hard_store


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a plain title", "a plain title"),
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r\n=1", "'=1"),
        ("  =1", "'=1"),
        ("＝1", "'＝1"),
        ("'quoted'", "''quoted'"),
        ("a;=cmd|' /C calc'!A0", "a,=cmd|' /C calc'!A0"),
        ("two\nlines\u2028three", "two lines three"),
        ("", ""),
    ],
)
def test_a_text_from_outside_is_inert(text: str, cell: str) -> None:
    assert inert(text) == cell


def test_every_id_has_a_line_for_each_variant_and_ids_are_exact(tmp_path: Path) -> None:
    selection = select(write_hard_store(tmp_path), SelectionRequest(), refuse_spans)
    lines = b"".join(ids_csv(selection, {})).decode().splitlines()
    rows = list(csv.DictReader(lines))
    assert [row["video_id"] for row in rows] == [*IDS, *IDS]
    states = {(row["video_id"], row["state"], row["reason"]) for row in rows[: len(IDS)]}
    assert ("gone", "unavailable", "private") in states
    assert ("-dashFirst", "done", "") in states
    for row in rows:
        assert not row["title"].startswith(("=", "+", "-", "@"))
        assert len(row["title"]) <= 301


def test_the_exact_titles_are_in_the_metadata_file(tmp_path: Path) -> None:
    import json

    selection = select(write_hard_store(tmp_path), SelectionRequest(), refuse_spans)
    lines = list(metadata_lines(selection.catalog, selection.ids))
    found = {one["video_id"]: one["metadata"]["title"] for one in map(json.loads, lines)}
    assert found == TITLES
    assert all(line.isascii() and line.count(b"\n") == 1 for line in lines)
