"""Rows of a user's table, from CSV, TSV, JSON lines or Parquet, with the meaning of each column."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.datasets.own_videos.settings import COLUMNS
from storage.base.errors import SettingsError
from storage.base.extras import install_advice

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = ",;\t|"
MAX_CELL_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    number: int
    """Of its line in the file, from 1; of a row of Parquet, from 1."""
    cells: Mapping[str, str]
    """Name of the column → its text; cells without a value are left out."""


def read_rows(content: bytes, suffix: str, what: str) -> list[Row]:
    """The rows of a table. Raises SettingsError if it is none of that suffix."""
    if suffix == ".parquet":
        return list(_parquet_rows(content, what))
    text = _decoded(content, what)
    if suffix in (".jsonl", ".ndjson"):
        return list(_json_rows(text, what))
    return list(_csv_rows(text, "\t" if suffix == ".tsv" else "", what))


def _decoded(content: bytes, what: str) -> str:
    for encoding in ("utf-8-sig", "utf-16"):
        is_utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        if (encoding == "utf-16") != is_utf_16:
            continue
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise SettingsError(
                (f"{what} is not UTF-8 text in line {line}; save it as UTF-8",)
            ) from error
    raise SettingsError((f"{what} is not text",))


def _csv_rows(text: str, delimiter: str, what: str) -> Iterator[Row]:
    header_line = text.split("\n", 1)[0]
    delimiter = delimiter or max(_DELIMITERS, key=header_line.count)
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = [name.strip() for name in next(lines, [])]
        yield from _named_cells(lines, header, what)
    except csv.Error as error:
        raise SettingsError((f"{what}, line {lines.line_num}: {error}",)) from error


def _named_cells(lines: Any, header: Sequence[str], what: str) -> Iterator[Row]:
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise SettingsError((f"{what} has several columns named {', '.join(repeated)}",))
    for line in lines:
        if len(line) > len(header):
            raise SettingsError(
                (f"{what}, line {lines.line_num}: {len(line)} cells for {len(header)} columns",)
            )
        cells = {
            name: cell.strip() for name, cell in zip(header, line, strict=False) if cell.strip()
        }
        if cells:
            yield Row(lines.line_num, cells)


def _json_rows(text: str, what: str) -> Iterator[Row]:
    # Not `splitlines`: a text in JSON may hold other line breaks as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SettingsError((f"{what}, line {number}: not JSON: {error}",)) from error
        if not isinstance(row, dict):
            raise SettingsError((f"{what}, line {number}: expected an object like {{...}}",))
        yield Row(number, _texts(row))


def _parquet_rows(content: bytes, what: str) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise SettingsError(
            (f"{what} needs pyarrow, which is not installed: {install_advice('export')}",)
        ) from error
    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SettingsError((f"{what} is not readable Parquet: {error}",)) from error
    for number, row in enumerate(rows, start=1):
        yield Row(number, _texts(row))


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    """The values of a row that are there, as text."""
    texts = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        is_simple = isinstance(value, str | int | float) and not isinstance(value, bool)
        texts[str(name)] = str(value).strip() if is_simple else json.dumps(value, default=str)
    return texts


def find_columns(rows: Sequence[Row], stated: Mapping[str, str], what: str) -> Mapping[str, str]:
    """Meaning → name of the column, as stated or by its usual name.

    Raises SettingsError for a stated column that no row has, and without a column of videos.
    """
    if not rows:
        raise SettingsError((f"{what} has no rows below its first line",))
    present = list(dict.fromkeys(name for row in rows for name in row.cells))
    found = {meaning: name for meaning, name in stated.items() if name in present}
    found |= _usual_columns(present, found)
    faults = [
        f"{what} has no column {name!r} for {meaning}; {_nearest(name, present)}"
        for meaning, name in stated.items()
        if name not in present
    ]
    if not faults:
        faults += _missing_columns(found, present, what)
    if faults:
        raise SettingsError(tuple(faults))
    return found


def _usual_columns(present: Sequence[str], found: Mapping[str, str]) -> dict[str, str]:
    """Meaning → name, for the meanings that are not found yet and have a column of a usual name."""
    by_usual_name = {name.lower().replace(" ", "_"): name for name in reversed(present)}
    usual: dict[str, str] = {}
    for meaning, names in COLUMNS.items():
        if meaning in found:
            continue
        taken = {*found.values(), *usual.values()}
        for name in names:
            column = by_usual_name.get(name)
            if column is not None and column not in taken:
                usual[meaning] = column
                break
    return usual


def _missing_columns(found: Mapping[str, str], present: Sequence[str], what: str) -> Iterator[str]:
    if "video" not in found:
        yield (
            f"{what} has no column of videos: name one video, or set [list] columns = "
            f"video: NAME; it has {', '.join(present) or 'no columns'}"
        )
    if ("start" in found) != ("end" in found):
        present_one, missing = ("start", "end") if "start" in found else ("end", "start")
        yield (
            f"{what} has a column for {present_one} ({found[present_one]}) and none for {missing}; "
            f"set [list] columns = {missing}: NAME"
        )


def _nearest(name: str, present: list[str]) -> str:
    near = difflib.get_close_matches(name, present, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(present) or 'none'}"
