"""What a user names, as entries: the files of a folder, the lines of a list, or a table's rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.own_videos.places import (
    Place,
    UnusableEntry,
    file_place,
    is_youtube_playlist,
    parse_entry,
)
from pipeline.datasets.own_videos.rows import TABLE_SUFFIXES, Row, find_columns, read_rows
from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.datasets.parsing.annotation_files import read_source
from pipeline.media.media_file import SUFFIXES
from storage.base.errors import SettingsError

_END = b"\0"
"""After each name in a listing of a folder: a file's name may hold a line break."""
MAX_LINE_CHARACTERS = 10_000
_NOT_LISTED = (".part", ".ytdl", ".temp", ".tmp", ".crdownload", ".download", ".partial")
Playlist = Callable[[str], list[tuple[str, str]]]
"""Address of a playlist → address and title of each of its videos."""


@dataclass(frozen=True)
class Entry:
    """One video as the user named it, with its row if there is a table."""

    where: str
    """The line or the file, for messages."""
    place: Place
    cells: Mapping[str, str] = field(default_factory=dict)
    """Meaning of a column → its text. Columns without a meaning keep their name."""


@dataclass(frozen=True)
class Entries:
    """All entries, what was left out, and which columns the table had."""

    entries: tuple[Entry, ...]
    left_out: Mapping[str, tuple[str, ...]]
    """Reason → cases."""
    meanings: frozenset[str] = frozenset()


def list_content(path: str) -> bytes:
    """What is kept of the path, and compared by the next run: a listing of a folder, else bytes.

    Raises SettingsError.
    """
    if "://" in path:
        return f"{path}\n".encode()
    place = Path(path).expanduser()
    if place.is_dir():
        return b"".join(os.fsencode(name) + _END for name in _files_below(place))
    if place.suffix.lower() in SUFFIXES:
        if not place.is_file():
            raise SettingsError((f"there is no file {path}; correct the path",))
        return os.fsencode(place.name) + _END
    return read_source(str(place))


def _files_below(folder: Path) -> list[str]:
    """The videos below a folder by their names, sorted. Raises SettingsError if there is none."""
    names, others = [], 0
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        videos = [name for name in files if _is_video(name)]
        names += [str(Path(root, name).relative_to(folder)) for name in videos]
        others += len(files) - len(videos)
    if not names:
        suffixes = " ".join(SUFFIXES[:6])
        raise SettingsError(
            (
                f"the folder {folder} has no videos; it has {others:,} other files. Videos end in "
                f"{suffixes} and so on",
            )
        )
    return sorted(names)


def _is_video(name: str) -> bool:
    lower = name.lower()
    return not name.startswith(".") and lower.endswith(SUFFIXES) and not lower.endswith(_NOT_LISTED)


def read_entries(content: bytes, settings: OwnVideosSettings, playlist: Playlist) -> Entries:
    """The entries of what `list_content` gave. Raises SettingsError for a file of no such form."""
    path = Path(settings.path).expanduser()
    is_address = "://" in settings.path
    is_video = path.suffix.lower() in SUFFIXES
    if not is_address and (path.is_dir() or is_video):
        return _listed_files(path if path.is_dir() else path.parent, content)
    parser = _EntryParser(path.parent, settings, playlist)
    if not is_address and path.suffix.lower() in TABLE_SUFFIXES:
        rows = read_rows(content, path.suffix.lower(), settings.path)
        return parser.read_table(rows)
    return parser.read_lines(_text_lines(content, settings.path))


def _listed_files(folder: Path, content: bytes) -> Entries:
    names = [os.fsdecode(name) for name in content.split(_END) if name]
    usable = [name for name in names if _is_utf8(name)]
    entries = tuple(Entry(name, file_place(folder / name)) for name in usable)
    others = tuple(repr(name) for name in names if not _is_utf8(name))
    return Entries(entries, {"name_is_not_utf8": others} if others else {})


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_lines(content: bytes, what: str) -> list[str]:
    try:
        return content.decode("utf-8-sig").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise SettingsError(
            (
                f"{what} is not UTF-8 text; a list has one address, id or path on each line, a "
                f"table ends in {' '.join(TABLE_SUFFIXES)}",
            )
        ) from error


class _EntryParser:
    def __init__(self, folder: Path, settings: OwnVideosSettings, playlist: Playlist) -> None:
        self._folder = folder
        self._settings = settings
        self._playlist = playlist
        self._left_out: dict[str, list[str]] = {}

    def read_lines(self, lines: list[str]) -> Entries:
        """One entry on each line; empty lines and those that begin with # are not entries."""
        entries: list[Entry] = []
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if text and not text.startswith("#"):
                entries += self._entries(f"line {number}", text[:MAX_LINE_CHARACTERS], {})
        return self._result(entries, frozenset())

    def read_table(self, rows: list[Row]) -> Entries:
        """One entry on each row."""
        columns = find_columns(rows, self._settings.column_names(), self._settings.path)
        meaning_of = {name: meaning for meaning, name in columns.items()}
        entries: list[Entry] = []
        for row in rows:
            cells = {meaning_of.get(name, name): text for name, text in row.cells.items()}
            video = cells.pop("video", "")
            where = f"line {row.number}"
            if video:
                entries += self._entries(where, video, cells)
            else:
                self._leave_out("without_video", where)
        return self._result(entries, frozenset(columns))

    def _entries(self, where: str, text: str, cells: Mapping[str, str]) -> Iterator[Entry]:
        try:
            place = parse_entry(text, self._folder, allow_private=self._settings.allow_private)
        except UnusableEntry as error:
            self._leave_out("unusable", f"{where}: {text[:200]!r}: {error}")
            return
        is_playlist = self._settings.playlists and place.kind == "address" and not place.wanted_id
        if not is_playlist and is_youtube_playlist(place):
            self._leave_out("playlist", f"{where}: {text[:200]!r}; see [list] playlists")
            return
        if not is_playlist:
            yield Entry(where, place, cells)
            return
        for address, title in self._playlist(place.text):
            for entry in self._entries_of_playlist(where, address):
                yield Entry(where, entry, {**cells, **({"title": title} if title else {})})

    def _entries_of_playlist(self, where: str, address: str) -> Iterator[Place]:
        try:
            yield parse_entry(address, self._folder, allow_private=self._settings.allow_private)
        except UnusableEntry as error:
            self._leave_out("unusable", f"{where}: {address[:200]!r}: {error}")

    def _leave_out(self, reason: str, case: str) -> None:
        self._left_out.setdefault(reason, []).append(case)

    def _result(self, entries: list[Entry], meanings: frozenset[str]) -> Entries:
        left_out = {reason: tuple(cases) for reason, cases in self._left_out.items()}
        return Entries(tuple(entries), left_out, meanings)
