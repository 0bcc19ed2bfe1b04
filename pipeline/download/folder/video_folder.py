"""A folder of videos: which files may be one video's, best first, and whether an earlier run saw
the same files.

A folder is listed once and again when it has changed; sizes and times of change are asked only of
files in question, so that 120,000 files cost one listing. Opens no file.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
        """List it. Raises SystemicFault if that cannot be done."""
        self._folder = folder
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_bracket: dict[str, list[str]] = defaultdict(list)
        self._others: dict[str, list[str]] = defaultdict(list)
        try:
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
            return  # hidden: what a copy in progress, or another system's file browser, leaves beside the files
        stem, _, suffix = name.rpartition(".")
        if (
            f".{suffix.lower()}" in _ORDER
            and not _ONE_STREAM.search(stem)
            and not _UNFINISHED.search(stem)
        ):
            by_stem, by_bracket = self._by_stem, self._by_bracket
        else:
            stem, by_stem, by_bracket = _bare(name), self._others, self._others
        by_stem[stem].append(name)
        if bracket := _BRACKET.search(stem):
            by_bracket[bracket[1]].append(name)

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        """The files that may be the video with these names, best first.

        A file of exactly such a name comes before `Title [name]`, as yt-dlp names files; then the
        order of `names` counts, then that of `SUFFIXES`, then the alphabet. In brackets short names
        are not looked for.
        """
        found: list[tuple[tuple[int, int, int, str], str]] = []
        for kind, known in enumerate((self._by_stem, self._by_bracket)):
            for place, name in enumerate(names):
                if kind and len(name) < FEWEST_IN_BRACKETS:
                    continue
                for file in known.get(name, ()):
                    suffix = f".{file.rpartition('.')[2].lower()}"
                    found.append(((kind, place, _ORDER[suffix], file), file))
        unique = dict.fromkeys(file for _, file in sorted(found))
        return [one for one in map(self._candidate, unique) if one is not None]

    def _candidate(self, name: str) -> Candidate | None:
        path = self._folder / name
        try:
            status = path.stat()
        except OSError:
            return None  # gone since, or a link that leads nowhere
        if not stat.S_ISREG(status.st_mode):
            return None
        return Candidate(path, FolderFile(printable(name), status.st_size, status.st_mtime_ns))

    def lacks(self, names: Sequence[str]) -> str:
        """Why the video is not found, in words: the names that were looked for, and what is there
        instead.
        """
        wanted = " or ".join(names[:-1])
        others = sorted({file for name in names for file in self._others.get(name, ())})
        told = f"{NOT_IN_FOLDER}{wanted} with a suffix of videos"
        if len(names[0]) >= FEWEST_IN_BRACKETS:
            told += f", nor '... [{names[0]}]' with one"
        if not others:
            return told
        unfinished = any(
            _UNFINISHED.search(file) or _ONE_STREAM.search(Path(file).stem) for file in others
        )
        what = "an unfinished download" if unfinished else "not a video by its name"
        return f"{told}; it has {printable(others[0])}, {what}"


def _bare(name: str) -> str:
    """`abc` of abc.txt, abc.mp4.part, abc.f137.mp4 and abc.temp.mp4."""
    bare = _UNFINISHED.sub("", name)
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
    """The files that may be a video's, best first, in those of the folders that are there."""
    names = file_names(video_id, ())
    return [
        one.path
        for folder in folders
        if folder.is_dir()
        for one in video_folder(folder).candidates(names)
    ]


def is_new(found: Iterable[Candidate], seen: Sequence[FolderFile]) -> bool:
    """Whether some file is none of those that were seen: another size or time of change. A renamed
    file is not new.
    """
    known = {(one.size_bytes, one.mtime_ns) for one in seen}
    return any((one.seen.size_bytes, one.seen.mtime_ns) not in known for one in found)


_LISTED: dict[Path, VideoFolder] = {}
_LISTING = threading.Lock()


def video_folder(folder: Path) -> VideoFolder:
    """The folder as it is now; an earlier listing of this process, if it has not changed since."""
    with _LISTING:
        known = _LISTED.get(folder)
        if known is None or not _is_current(known, folder):
            known = _LISTED[folder] = VideoFolder(folder)
        return known


def _is_current(known: VideoFolder, folder: Path) -> bool:
    try:
        unchanged = folder.stat().st_mtime_ns == known.changed_ns
    except OSError:
        return False
    return unchanged and known.changed_ns < known.listed_ns - _SETTLED_NS
