"""A folder of videos: which files may be a video's, best first, and whether they are new.

A folder is listed once, and again when it has changed. Sizes and times of change are read only for
files in question, so that 120,000 files cost one listing. No file is opened.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.media.media_file import SUFFIXES, FolderFile
from storage.base.errors import SystemicFault

NOT_IN_FOLDER = "the folder has no "
"""What the detail of `not_found` begins with, where a folder was searched."""
FEWEST_IN_BRACKETS = 6
"""A name of fewer characters in brackets may be anything: `Title [720].mp4`, `[0012]`."""
_SETTLED_NS = 2_000_000_000
"""A folder that changed less than this before it was listed may have changed again within one tick
of its clock.
"""
_UNFINISHED = re.compile(
    r"\.(part|ytdl|temp|tmp|crdownload|download|aria2|filepart|partial)$", re.IGNORECASE
)
_ONE_STREAM = re.compile(r"\.f[0-9]+(-[0-9a-z]+)?$", re.IGNORECASE)
"""Before the suffix of a file that yt-dlp has not merged yet: `abc.f137.mp4`."""
_BRACKET = re.compile(r"\[([^\[\]]+)\]$")
_ORDER = {suffix: place for place, suffix in enumerate(SUFFIXES)}


@dataclass(frozen=True)
class Candidate:
    """A file that may be the video's."""

    path: Path
    seen: FolderFile


class VideoFolder:
    """The names in one folder, as they were when it was listed."""

    def __init__(self, folder: Path) -> None:
        """List the folder. Raises SystemicFault if that fails."""
        self._folder = folder
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_bracket: dict[str, list[str]] = defaultdict(list)
        self._others: dict[str, list[str]] = defaultdict(list)
        """By stem or bracket: files that are not videos by their name."""
        try:
            # Before the listing: a change during it must make the listing outdated.
            self.changed_ns = folder.stat().st_mtime_ns
            self.listed_ns = time.time_ns()
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._add(entry.name)
        except OSError as error:
            raise SystemicFault(
                f"the folder of videos {folder} cannot be listed: {error.strerror}"
            ) from error

    def _add(self, name: str) -> None:
        if name.startswith("."):
            # A copy in progress, or what file browsers of other systems leave beside the files.
            return
        stem = _stem_of_video(name)
        if stem is not None:
            by_stem, by_bracket = self._by_stem, self._by_bracket
        else:
            stem = _bare_stem(name)
            by_stem, by_bracket = self._others, self._others
        by_stem[stem].append(name)
        if bracket := _BRACKET.search(stem):
            by_bracket[bracket[1]].append(name)

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        """The files that may be the video with these names, best first.

        A file of exactly such a name comes before `Title [name]`, as yt-dlp names files; then the
        order of `names` counts, then that of `SUFFIXES`, then the alphabet. In brackets short names
        are not looked for.
        """
        long_names = [name for name in names if len(name) >= FEWEST_IN_BRACKETS]
        files = self._sorted_files(names, self._by_stem)
        files += self._sorted_files(long_names, self._by_bracket)
        found: list[Candidate] = []
        for file in dict.fromkeys(files):
            candidate = self._candidate(file)
            if candidate is not None:
                found.append(candidate)
        return found

    def _sorted_files(self, names: Sequence[str], files_by: Mapping[str, list[str]]) -> list[str]:
        found: list[str] = []
        for name in names:
            found += sorted(files_by.get(name, ()), key=_preference)
        return found

    def _candidate(self, name: str) -> Candidate | None:
        path = self._folder / name
        try:
            status = path.stat()
        except OSError:
            return None  # removed since the listing, or a broken link
        if not stat.S_ISREG(status.st_mode):
            return None
        return Candidate(path, FolderFile(printable(name), status.st_size, status.st_mtime_ns))

    def describe_missing(self, names: Sequence[str]) -> str:
        """Why the video is not found: the names that were looked for, and what is there instead."""
        wanted = " or ".join(names[:-1])
        message = f"{NOT_IN_FOLDER}{wanted} with a suffix of videos"
        if len(names[0]) >= FEWEST_IN_BRACKETS:
            message += f", nor '... [{names[0]}]' with one"
        others: set[str] = set()
        for name in names:
            others.update(self._others.get(name, ()))
        if not others:
            return message
        is_unfinished = any(map(_is_unfinished, others))
        what = "an unfinished download" if is_unfinished else "not a video by its name"
        return f"{message}; it has {printable(min(others))}, {what}"


def _preference(file: str) -> tuple[int, str]:
    suffix = f".{file.rpartition('.')[2].lower()}"
    return _ORDER[suffix], file


def _stem_of_video(name: str) -> str | None:
    """The name without its suffix; None for a file that is not a finished video by its name."""
    stem, _, suffix = name.rpartition(".")
    is_video = f".{suffix.lower()}" in _ORDER
    if not is_video:
        return None
    if _ONE_STREAM.search(stem) or _UNFINISHED.search(stem):
        return None
    return stem


def _is_unfinished(name: str) -> bool:
    return bool(_UNFINISHED.search(name) or _ONE_STREAM.search(Path(name).stem))


def _bare_stem(name: str) -> str:
    """`abc` of abc.txt, abc.mp4.part, abc.f137.mp4 and abc.temp.mp4."""
    bare = _UNFINISHED.sub("", name)
    # A name may have no suffix.
    bare = bare.rpartition(".")[0] or bare
    return _ONE_STREAM.sub("", _UNFINISHED.sub("", bare))


def printable(name: str) -> str:
    """A file's name as text that UTF-8 can carry."""
    return name.encode("utf-8", "backslashreplace").decode()


def file_names(video_id: str, alternative_ids: tuple[str, ...]) -> tuple[str, ...]:
    """What a video's file may be called, without its suffix."""
    # Copies of ActivityNet name a file v_<id>, so that no name begins with a dash.
    return (video_id, *alternative_ids, f"v_{video_id}")


def find_files(folders: Iterable[Path], video_id: str) -> list[Path]:
    """The files that may be a video's in those of the folders that exist, best first."""
    names = file_names(video_id, ())
    paths: list[Path] = []
    for folder in folders:
        if folder.is_dir():
            paths += [file.path for file in video_folder(folder).candidates(names)]
    return paths


def is_new(files: Iterable[Candidate], seen: Sequence[FolderFile]) -> bool:
    """Whether one of the files was not seen, judged by size and time of change.

    A renamed file is not new.
    """
    known = {(file.size_bytes, file.mtime_ns) for file in seen}
    return any((file.seen.size_bytes, file.seen.mtime_ns) not in known for file in files)


_CACHE: dict[Path, VideoFolder] = {}
_CACHE_LOCK = threading.Lock()


def video_folder(folder: Path) -> VideoFolder:
    """The folder as it is now. An earlier listing of this process serves if nothing changed."""
    with _CACHE_LOCK:
        listed = _CACHE.get(folder)
        if listed is None or not _is_current(listed, folder):
            listed = _CACHE[folder] = VideoFolder(folder)
        return listed


def _is_current(listed: VideoFolder, folder: Path) -> bool:
    try:
        is_unchanged = folder.stat().st_mtime_ns == listed.changed_ns
    except OSError:
        return False
    # A change within one tick of the clock would leave the folder's time as it was.
    return is_unchanged and listed.changed_ns < listed.listed_ns - _SETTLED_NS
