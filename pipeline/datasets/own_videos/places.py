"""One entry of a list as a place: a file, an http(s) address, or an id to ask a site for.

An address is checked by its text here. Where its name leads is checked when it is asked
(`pipeline.download.http.public_addresses`).
"""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.media.media_file import SUFFIXES
from storage.base.records import SOURCE_NAME, VIDEO_ID

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
MAX_ADDRESS_CHARACTERS = 2000
_YOUTUBE_HOSTS = {
    "youtube.com",
    "www.youtube.com",
    "m.youtube.com",
    "music.youtube.com",
    "youtu.be",
    "www.youtube-nocookie.com",
}
_YOUTUBE_PATHS = ("shorts", "embed", "live", "v")
_BRACKET = re.compile(r"(?P<title>.*?)[ _]*\[(?P<id>[A-Za-z0-9_-]{11})\]")


class UnusableEntry(ValueError):
    """An entry of a list that does not name a video; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where one video comes from."""

    kind: Literal["file", "address", "id"]
    text: str
    """The absolute path, the address, or the id."""
    wanted_id: str = ""
    """The id that the place itself suggests; empty if it suggests none that is safe."""
    title: str = ""

    @property
    def name(self) -> str:
        """The last part of it, for an id that people recognise."""
        if self.kind == "file":
            return Path(self.text).stem
        if self.kind == "address":
            parts = urllib.parse.urlsplit(self.text)
            return Path(urllib.parse.unquote(parts.path)).stem or (parts.hostname or "")
        return self.text


def parse_entry(text: str, folder: Path, *, allow_private: bool = False) -> Place:
    """The place that an entry names; a relative path starts at `folder`.

    Raises UnusableEntry.
    """
    entry = text.strip()
    if "://" in entry or entry.lower().startswith(("file:", "data:", "javascript:")):
        return parse_address(entry, allow_private=allow_private)
    if _is_video_name(entry):
        return file_place(folder / Path(entry).expanduser())
    with_suffix = _file_of_stem(folder, entry)
    if with_suffix is not None:
        return file_place(with_suffix)
    if re.match(r"(www\.|m\.)?(youtube\.com|youtu\.be)/", entry):
        return parse_address(f"https://{entry}", allow_private=allow_private)
    if VIDEO_ID.fullmatch(entry):
        return Place("id", entry, wanted_id=entry)
    raise UnusableEntry("it is neither an http(s) address, nor a path of a video, nor an id")


def _is_video_name(entry: str) -> bool:
    return Path(entry).suffix.lower() in SUFFIXES


def _file_of_stem(folder: Path, entry: str) -> Path | None:
    """The file that is named like the entry with a suffix; None if there is none."""
    is_plain = bool(SOURCE_NAME.fullmatch(entry))
    if not is_plain:
        return None
    for suffix in SUFFIXES:
        if (folder / f"{entry}{suffix}").is_file():
            return folder / f"{entry}{suffix}"
    return None


def file_place(path: Path) -> Place:
    """A file of a video, whether it is there or not. A title stands before `[id]` in its name."""
    # `a/../b.mp4` and `b.mp4` are one file; links stay, since they may be a person's own names.
    absolute = Path(os.path.normpath(path.absolute()))
    if named := _BRACKET.fullmatch(absolute.stem):
        return Place("file", str(absolute), wanted_id=named["id"], title=named["title"])
    return Place("file", str(absolute), wanted_id=absolute.stem)


def parse_address(text: str, *, allow_private: bool = False) -> Place:
    """An http(s) address; several spellings of a YouTube video are one. Raises UnusableEntry."""
    parts = _split_address(text)
    host = parts.hostname or ""
    _check_parts(parts)
    if not allow_private and is_private_host(host):
        raise UnusableEntry(
            f"{host} is this machine or a private network; [list] allow_private = true asks it"
        )
    youtube_id = _youtube_id(parts) if host in _YOUTUBE_HOSTS else ""
    if youtube_id:
        return Place("address", f"https://www.youtube.com/watch?v={youtube_id}", youtube_id)
    # A fragment is for browsers: it names a place in a page, or a time.
    return Place("address", urllib.parse.urlunsplit((*parts[:4], "")))


def _split_address(text: str) -> urllib.parse.SplitResult:
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise UnusableEntry(f"an address has at most {MAX_ADDRESS_CHARACTERS} characters")
    if not text.isprintable() or " " in text:
        raise UnusableEntry("an address has no blanks and no control characters; write %20")
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.hostname, parts.port  # these raise too
    except ValueError as error:
        raise UnusableEntry(f"it is not an address: {error}") from error
    return parts


def _check_parts(parts: urllib.parse.SplitResult) -> None:
    if parts.scheme not in ("http", "https"):
        raise UnusableEntry(
            f"{parts.scheme}: addresses are not asked, only http and https; write a path for a file"
        )
    if not parts.hostname:
        raise UnusableEntry("the address names no host")
    if parts.username is not None or parts.password is not None:
        raise UnusableEntry("the address holds a user name or password, which would be recorded")


def is_youtube_playlist(place: Place) -> bool:
    """Whether it is an address of YouTube that names no single video."""
    host = urllib.parse.urlsplit(place.text).hostname or ""
    return place.kind == "address" and host in _YOUTUBE_HOSTS and not place.wanted_id


def is_private_host(host: str) -> bool:
    """Whether the name or address of a host can only mean a machine that is not public."""
    name = host.rstrip(".").lower()
    try:
        return not ipaddress.ip_address(name.strip("[]")).is_global
    except ValueError:
        pass
    is_local_name = name.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))
    # A number such as 127.1 or 0x7f000001 is an address to the resolver.
    is_number = bool(re.fullmatch(r"[0-9a-fx.]*[0-9][0-9a-fx.]*", name)) and not name[-1].isalpha()
    return is_local_name or "." not in name or is_number


def _youtube_id(parts: urllib.parse.SplitResult) -> str:
    if parts.hostname == "youtu.be":
        candidate = parts.path.strip("/").partition("/")[0]
    else:
        words = parts.path.strip("/").split("/")
        is_path_of_video = len(words) > 1 and words[0] in _YOUTUBE_PATHS
        query = urllib.parse.parse_qs(parts.query)
        candidate = words[1] if is_path_of_video else query.get("v", [""])[0]
    return candidate if YOUTUBE_ID.fullmatch(candidate) else ""
