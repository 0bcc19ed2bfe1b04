"""Writes a catalog's tables as CSV, and reads them back lazily.

PHD2 has half a million rows, and a run mostly needs their ids: a column of texts costs a tenth of
the time that all rows take. Checksums of the tables are compared in `catalog.py`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, overload

from storage.base.errors import IntegrityError
from storage.base.records import Annotation, Video

T = TypeVar("T")
NAMES_SEPARATOR = "|"
"""Between the names of one cell."""
_WHOLE_NUMBERS = frozenset({"frames_least", "frames_most"})
_COLUMN_ON_DISK = {"alternative_ids": "asked_as"}
"""Field of a row → its column, where they differ: tables keep the columns they always had."""


class CsvTable(Sequence[T]):
    """The rows of a table that was written before. Equal to any sequence of equal rows.

    Everything that reads rows or cells raises IntegrityError if the bytes are not such a table.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        columns: tuple[str, ...],
        stated_rows: object,
        make_row: Callable[[list[str]], T],
    ) -> None:
        """`path` is for error messages; `stated_rows` is the number of rows that there should be.

        Raises:
            IntegrityError: the first line does not name these columns.
        """
        self._path = path
        self._content = content
        self._columns = columns
        self._stated_rows = stated_rows
        self._make_row = make_row
        first_line = content[: content.find(b"\n")].decode(errors="replace")
        expected = _columns_on_disk(columns)
        if first_line != ",".join(expected):
            raise IntegrityError(
                path,
                f"columns are {first_line.replace(',', ', ')}; expected {', '.join(expected)}",
            )

    def texts(self, column: str) -> list[str]:
        """One column as it is spelled, in the order of the rows."""
        place = self._columns.index(column)
        lines = self._unquoted_lines()
        if lines is None:
            return [cells[place] for cells in self._parsed_lines]
        return [line.split(",", place + 1)[place] for line in lines]

    def _unquoted_lines(self) -> list[str] | None:
        """The table's lines if a plain split at commas makes cells of them, else None.

        Without quotes a line is a row and a comma ends a cell. A table with a wrong number of rows
        or cells also gets None: parsing it says what is wrong.
        """
        if b'"' in self._content:
            return None
        lines = self._content.decode().split("\n")[1:-1]
        if len(lines) != self._stated_rows:
            return None
        commas = len(self._columns) - 1
        for line in lines:
            if line.count(",") != commas:
                return None
        return lines

    @cached_property
    def rows(self) -> tuple[T, ...]:
        """All rows."""
        try:
            # Checked by the row classes themselves, which raise ValueError.
            return tuple(map(self._make_row, self._parsed_lines))
        except ValueError as error:
            raise self._not_ours(error) from error

    @cached_property
    def _parsed_lines(self) -> list[list[str]]:
        try:
            text = io.StringIO(self._content.decode(), newline="")
            _, *lines = csv.reader(text, strict=True)
        except (ValueError, csv.Error) as error:
            raise self._not_ours(error) from error
        for line in lines:
            if len(line) != len(self._columns):
                raise IntegrityError(
                    self._path,
                    f"a row has {len(line)} cells for {len(self._columns)} columns: {line}",
                )
        if len(lines) != self._stated_rows:
            raise IntegrityError(
                self._path, f"holds {len(lines)} rows, the catalog states {self._stated_rows}"
            )
        return lines

    def _not_ours(self, error: Exception) -> IntegrityError:
        return IntegrityError(self._path, f"is not a table written by this project: {error}")

    def __len__(self) -> int:
        return len(self._parsed_lines)

    def __iter__(self) -> Iterator[T]:
        return iter(self.rows)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[T, ...]: ...
    def __getitem__(self, number: int | slice) -> T | tuple[T, ...]:
        return self.rows[number]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.rows == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's: it may be compared with one

    def __reduce__(self) -> tuple[type[tuple[Any, ...]], tuple[tuple[T, ...]]]:
        # Other processes get the rows: they may not see the file.
        return tuple, (self.rows,)

    def __repr__(self) -> str:
        return f"CsvTable({self._path.name}, {self._stated_rows} rows)"


def text_column(rows: Sequence[Any], column: str) -> list[str]:
    """One column of texts, without making rows of a table that has none yet."""
    if isinstance(rows, CsvTable):
        return rows.texts(column)
    return [getattr(row, column) for row in rows]


def encode_csv(columns: tuple[str, ...], rows: Iterable[object]) -> bytes:
    """A table's bytes; equal rows in the same order, equal bytes."""
    text = io.StringIO(newline="")
    # The default ends lines with CR LF, and `git` or an editor may change that.
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns_on_disk(columns))
    cells = attrgetter(*columns)
    writer.writerows(
        [_cell(*cell) for cell in zip(columns, cells(row), strict=True)] for row in rows
    )
    return text.getvalue().encode()


def _columns_on_disk(columns: tuple[str, ...]) -> list[str]:
    return [_COLUMN_ON_DISK.get(column, column) for column in columns]


def _cell(column: str, value: str | float | tuple[str, ...] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return NAMES_SEPARATOR.join(value)
    if column in _WHOLE_NUMBERS:
        return str(value)
    if isinstance(value, str):
        return value
    # repr is the shortest text that reads back equal. -0.0 and 0.0 sort as equals, so their order,
    # and with it the bytes, would depend on the input: adding 0.0 makes both 0.0.
    return repr(float(value) + 0.0)


def read_video(row: list[str]) -> Video:
    """The video that a row of any version describes."""
    # Tables of version 1 have two columns, of version 2 four.
    video_id, duration, frames_least, frames_most, names = [*row, "", "", ""][:5]
    return Video(
        video_id,
        claimed_duration_seconds=float(duration) if duration else None,
        frames_least=_optional_int(frames_least),
        frames_most=_optional_int(frames_most),
        alternative_ids=tuple(names.split(NAMES_SEPARATOR)) if names else (),
    )


def _optional_int(cell: str) -> int | None:
    return int(cell) if cell else None


def read_annotation(row: list[str]) -> Annotation:
    """The annotation that a row describes."""
    video_id, annotator, start, end, value = row
    return Annotation(video_id, annotator, float(start), float(end), float(value))
