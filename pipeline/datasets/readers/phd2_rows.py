"""Parses the rows of PHD2's tables into GIFs, and lists every unusable row with its reason.

Columns: youtubeId, start and duration in seconds, user_id, video_duration in whole seconds (-1 if
unknown), and is_last, which marks the target video. IDs are text. Each row is parsed on its own.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from storage.base.errors import SettingsError
from storage.base.records import VIDEO_ID, Annotation
from storage.catalog.catalog import PERSON_ID

COLUMNS = ("youtubeId", "start", "duration", "user_id", "video_duration", "is_last")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Narrower than `float()`, which also takes `nan`, `1_000` and digits of other scripts."""
ROLES = {"true": True, "false": False}
TWO_SPLITS = "user_in_two_splits"
DROPPED = {
    "unreadable_row": "a row has as many cells as the header, and quotes that are closed",
    "bad_video_id": "youtubeId is 1 to 64 of A-Z a-z 0-9 _ -",
    "bad_user_id": "user_id is 1 to 128 characters that can be printed",
    "bad_role": "is_last is True or False",
    "bad_times": "start and duration are numbers of seconds, start at least 0",
    "empty_interval": "duration is above 0",
    TWO_SPLITS: "a user of both tables stays in the test table",
}
"""Reason why a row is left out → the rule that it breaks."""
CASE_CHARACTERS = 300
"""A dropped row is listed up to this length, since it can be arbitrary text."""


@dataclass(frozen=True)
class Gif:
    """One usable row: `[start, end)` seconds that one user cut from a video."""

    split: str
    row: str
    """The line as published."""
    video_id: str
    user_id: str
    start: float
    end: float
    claimed_duration: float | None
    """Seconds; None if the row states -1, or no usable duration."""
    says_unknown: bool
    """Whether the row states -1."""
    is_target: bool

    @property
    def annotation(self) -> Annotation:
        """The row as the catalog's annotation."""
        return Annotation(self.video_id, self.user_id, self.start, self.end)


@dataclass(frozen=True)
class SplitTable:
    """One split's file."""

    split: str
    rows: tuple[str, ...]
    """Lines that are not empty, without the header."""
    gifs: tuple[Gif, ...]
    """Sorted by row, so that nothing depends on the published order."""
    dropped: Mapping[str, tuple[str, ...]]
    """Reason → rows."""
    values: Mapping[str, str]
    """Reason → the value that broke the rule in the first such row."""

    def without_users(self, users: Set[str]) -> SplitTable:
        """The table with the rows of these users, who belong to another split, dropped."""
        kept: list[Gif] = []
        left_out: list[str] = []
        for gif in self.gifs:
            if gif.user_id in users:
                left_out.append(gif.row)
            else:
                kept.append(gif)
        values = dict(self.values)
        if left_out:
            values[TWO_SPLITS] = left_out[0]
        dropped = {**self.dropped, TWO_SPLITS: tuple(left_out)}
        return replace(self, gifs=tuple(kept), dropped=dropped, values=values)

    @property
    def digest(self) -> str:
        """sha256 of the sorted rows; independent of their order and of line endings."""
        return hashlib.sha256("\n".join(sorted(self.rows)).encode()).hexdigest()


class _InvalidRow(ValueError):
    """A row that is left out."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason, value)
        self.reason, self.value = reason, value


def read_table(split: str, source: Path | bytes) -> SplitTable:
    """Parse one file. Each line is a row, also if it opens a quote.

    Raises `SettingsError` if the file is not a PHD2 table.
    """
    header, *rows = _lines(split, source)
    columns = _column_names(split, header)
    positions = tuple(columns.index(name) for name in COLUMNS)
    gifs: list[Gif] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    values: dict[str, str] = {}
    for row in rows:
        try:
            gifs.append(_gif(split, row, _cells(row, positions, len(columns))))
        except _InvalidRow as fault:
            dropped[fault.reason].append(row[:CASE_CHARACTERS])
            values.setdefault(fault.reason, fault.value)
    return SplitTable(
        split,
        tuple(rows),
        tuple(sorted(gifs, key=attrgetter("row"))),
        {reason: tuple(cases) for reason, cases in dropped.items()},
        values,
    )


def _column_names(split: str, header: str) -> list[str]:
    """The columns of the header. Raises `SettingsError` unless each of `COLUMNS` is there once."""
    columns = [name.strip('"') for name in header.split(",")]
    missing: list[str] = []
    repeated: list[str] = []
    for name in COLUMNS:
        if name not in columns:
            missing.append(name)
        elif columns.count(name) > 1:
            repeated.append(name)
    if missing:
        problem = f"lacks the columns {', '.join(missing)}"
    elif repeated:
        problem = f"has several columns {', '.join(repeated)}"
    else:
        return columns
    raise SettingsError((f"the {split} table of PHD2 {problem}; it starts with {header[:100]!r}",))


def _lines(split: str, source: Path | bytes) -> list[str]:
    text = _read_text(split, source)
    # Not splitlines(): it also cuts at characters that may stand inside a user's id.
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line]
    if not lines:
        raise SettingsError((f"the {split} table of PHD2 is empty",))
    return lines


def _read_text(split: str, source: Path | bytes) -> str:
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        # Spreadsheets put a byte order mark in front.
        return content.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError((f"the {split} table of PHD2 cannot be read: {error}",)) from error
    except UnicodeDecodeError as error:
        raise SettingsError((f"the {split} table of PHD2 is not UTF-8 text: {error}",)) from error


def _split_cells(line: str) -> list[str]:
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise _InvalidRow("unreadable_row", line) from error


def _cells(row: str, positions: tuple[int, ...], n_columns: int) -> list[str]:
    cells = _split_cells(row)
    if len(cells) != n_columns:
        raise _InvalidRow("unreadable_row", row)
    return [cells[position] for position in positions]


def _gif(split: str, row: str, cells: list[str]) -> Gif:
    video_id, start_text, length_text, user_id, claimed_text, role = cells
    _require(VIDEO_ID.fullmatch(video_id) is not None, "bad_video_id", video_id)
    _require(PERSON_ID.fullmatch(user_id) is not None, "bad_user_id", user_id)
    _require(role.strip().lower() in ROLES, "bad_role", role)
    start, length, claimed = _seconds(start_text), _seconds(length_text), _seconds(claimed_text)
    end = start + length
    # A sum of two numbers is not finite if one of them is not, or if it overflows.
    _require(math.isfinite(end) and start >= 0, "bad_times", f"{start_text},{length_text}")
    _require(start < end, "empty_interval", f"{start_text},{length_text}")
    return Gif(
        split=split,
        row=row,
        video_id=video_id,
        user_id=user_id,
        start=start,
        end=end,
        # -1 stands for an unknown duration; 0 and infinity cannot be one either.
        claimed_duration=claimed if 0 < claimed < math.inf else None,
        says_unknown=claimed == -1,
        is_target=ROLES[role.strip().lower()],
    )


def _require(holds: bool, reason: str, value: str) -> None:
    if not holds:
        raise _InvalidRow(reason, value)


def _seconds(text: str) -> float:
    return float(text) if NUMBER.fullmatch(text.strip()) else math.nan
