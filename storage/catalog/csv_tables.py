"""A catalog's tables as CSV: rows to bytes, and bytes to rows, which are made when one is first
asked for.

PHD2 has half a million rows, and most of what a run asks of them are ids: a column of texts costs a
tenth of the rows. Refuses to know what a table is about, and whether its bytes are the right ones.
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


class Table(Sequence[T]):
    """The rows of a table that was written before. Equal to any sequence of equal rows.

    Everything that asks for rows or cells raises IntegrityError if the bytes are no such table.
    """

    def __init__(
        self,
        path: Path,
        content: bytes,
        columns: tuple[str, ...],
        stated: object,
        make: Callable[[list[str]], T],
    ) -> None:
        """`path` is what errors call it; `stated` is how many rows there should be. Raises
        IntegrityError.
        """
        self._path, self._content, self._columns, self._stated, self._make = (
            path,
            content,
            columns,
            stated,
            make,
        )
        if (found := content[: content.find(b"\n")].decode(errors="replace")) != ",".join(columns):
            raise IntegrityError(
                path, f"columns are {found.replace(',', ', ')}; expected {', '.join(columns)}"
            )

    def texts(self, column: str) -> list[str]:
        """One column as it is spelled, in the order of the rows."""
        place = self._columns.index(column)
        if b'"' in self._content:
            return [line[place] for line in self._lines]
        commas = len(self._columns) - 1
        lines = self._content.decode().split("\n")[
            1:-1
        ]  # without quotes a line is a row, and a comma ends a cell
        if len(lines) != self._stated or any(line.count(",") != commas for line in lines):
            return [line[place] for line in self._lines]  # which says what is wrong
        return [line.split(",", place + 1)[place] for line in lines]

    @cached_property
    def rows(self) -> tuple[T, ...]:
        """All of them."""
        try:
            return tuple(map(self._make, self._lines))
        except ValueError as error:
            raise IntegrityError(self._path, f"this is no table we wrote: {error}") from error

    @cached_property
    def _lines(self) -> list[list[str]]:
        try:
            lines = list(csv.reader(io.StringIO(self._content.decode(), newline=""), strict=True))[
                1:
            ]
        except (ValueError, csv.Error) as error:
            raise IntegrityError(self._path, f"this is no table we wrote: {error}") from error
        if odd := [line for line in lines if len(line) != len(self._columns)]:
            raise IntegrityError(
                self._path,
                f"a row has {len(odd[0])} cells for {len(self._columns)} columns: {odd[0]}",
            )
        if len(lines) != self._stated:
            raise IntegrityError(
                self._path, f"holds {len(lines)} rows, the catalog states {self._stated}"
            )
        return lines

    def __len__(self) -> int:
        return len(self._lines)

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
        return tuple, (self.rows,)

    def __repr__(self) -> str:
        return f"Table({self._path.name}, {self._stated} rows)"


def texts(rows: Sequence[Any], column: str) -> list[str]:
    """One column of texts, without making rows of a table that has none yet."""
    return rows.texts(column) if isinstance(rows, Table) else [getattr(row, column) for row in rows]


def encode(columns: tuple[str, ...], rows: Iterable[object]) -> bytes:
    """A table's bytes; equal rows in the same order, equal bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = attrgetter(*columns)
    writer.writerows(
        [_cell(*cell) for cell in zip(columns, cells(row), strict=True)] for row in rows
    )
    return text.getvalue().encode()


def _cell(column: str, value: str | float | tuple[str, ...] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return NAMES_SEPARATOR.join(value)
    if column in _WHOLE_NUMBERS:
        return str(value)
    # repr is the shortest text that reads back equal; adding 0.0 turns -0.0, which sorts as its
    # equal, into 0.0.
    return value if isinstance(value, str) else repr(float(value) + 0.0)


def read_video(row: list[str]) -> Video:
    """The video that a row of any version describes."""
    video_id, claimed, least, most, names = [*row, "", "", ""][:5]
    return Video(
        video_id,
        float(claimed) if claimed else None,
        int(least) if least else None,
        int(most) if most else None,
        tuple(names.split(NAMES_SEPARATOR)) if names else (),
    )


def read_annotation(row: list[str]) -> Annotation:
    """The annotation that a row describes."""
    video_id, annotator, start, end, value = row
    return Annotation(video_id, annotator, float(start), float(end), float(value))
