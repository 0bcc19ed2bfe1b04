"""The videos of a catalog that were taken down: `ROOT/<catalog>/forgotten.json`.

The file keeps the sha256 of each id, not the id. That suffices to leave the video out of every
catalog that is built later, and to find what is left of it. Whoever has a list of ids can still
find out which of them were taken down.

A take-down is written here before anything is removed, and marked as done after everything is.
Finding and removing is the concern of `storage.forget`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed, seal

FORMAT = "video-highlights forgotten videos"
FORMAT_VERSION = 1
REMOVING, DONE = "removing", "done"
SHORT_ID_CHARACTERS = 8
"""An id of fewer characters is looked for as a whole word only: elsewhere it occurs by chance."""
TABLE_SUFFIXES = frozenset({".csv", ".json", ".mat", ".tsv", ".txt", ".zip"})
"""Files in a catalog's sources that are annotations, and not about a single video."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(rb"[A-Za-z0-9_-]+")
_PREFIXES = (b"v_", b"n", b"t", b"r")
"""What a file name, or an escaped line end of JSON, puts directly before an id."""


def id_sha256(video_id: str) -> str:
    """The sha256 of an id, in hex."""
    return hashlib.sha256(video_id.encode()).hexdigest()


@dataclass(frozen=True)
class ForgottenVideo:
    """One video that was taken down."""

    characters: int
    """Length of its id, 1 to 64: needed to find it inside longer texts."""
    forgotten_at: str
    """When the take-down began, in UTC: `2026-12-01T13:30:57Z`."""
    state: str = REMOVING
    """`removing` until everything is removed, then `done`."""

    def __post_init__(self) -> None:
        if not 1 <= self.characters <= 64 or self.state not in (REMOVING, DONE):
            raise ValueError(f"a forgotten video has 1 to 64 characters and a state, got {self}")


@dataclass(frozen=True)
class Forgotten:
    """The videos of one catalog that were taken down."""

    videos: Mapping[str, ForgottenVideo] = field(default_factory=dict)
    """sha256 of the id → the video."""

    def __len__(self) -> int:
        return len(self.videos)

    def matches(self, video_id: str) -> bool:
        """Whether this video was taken down."""
        return bool(self.videos) and id_sha256(video_id) in self.videos

    @property
    def unfinished(self) -> Forgotten:
        """Those of which something may be left, because the take-down was interrupted."""
        left = {sha: video for sha, video in self.videos.items() if video.state == REMOVING}
        return Forgotten(left)

    def of(self, video_ids: Iterable[str]) -> Forgotten:
        """Those of these ids that were taken down."""
        wanted = {id_sha256(video_id) for video_id in video_ids}
        return Forgotten({sha: video for sha, video in self.videos.items() if sha in wanted})

    def begin(self, video_ids: Iterable[str], now: str) -> Forgotten:
        """The same with these ids, of which everything is still to be removed."""
        begun: dict[str, ForgottenVideo] = {}
        for video_id in video_ids:
            sha256 = id_sha256(video_id)
            known = self.videos.get(sha256)
            # The time of the first take-down stays.
            at = known.forgotten_at if known else now
            begun[sha256] = ForgottenVideo(len(video_id), at, REMOVING)
        return Forgotten({**self.videos, **begun})

    def finish(self) -> Forgotten:
        """The same with everything removed."""
        return Forgotten({sha: replace(video, state=DONE) for sha, video in self.videos.items()})

    def shards(self, shard_count: int) -> set[int]:
        """The shards that these videos belong to; see `storage.catalog.catalog.shard_of`."""
        return {int(sha256[:16], 16) % shard_count for sha256 in self.videos}

    def named_in(self, content: bytes, *, whole_words: bool = False) -> frozenset[str]:
        """The sha256 of each of these ids that occurs in `content`.

        An id is found inside longer words too, unless it is short or `whole_words` is set.
        """
        if not self.videos:
            return frozenset()
        lengths = {video.characters for video in self.videos.values()}
        shortest = min(lengths)
        found: set[str] = set()
        for word in {match for match in _WORD.findall(content) if len(match) >= shortest}:
            found.update(sha for sha in _hashes(word, lengths, whole_words) if sha in self.videos)
        return frozenset(found)

    def named_in_bytes(self, content: bytes) -> frozenset[str]:
        """The same for bytes that are no text: short ids are not looked for."""
        long = {
            sha: video
            for sha, video in self.videos.items()
            if video.characters >= SHORT_ID_CHARACTERS
        }
        if not long:
            return frozenset()
        lengths = {video.characters for video in long.values()}
        # Random bytes have millions of short words, and hardly any of that length.
        words = re.findall(rb"[A-Za-z0-9_-]{%d,}" % min(lengths), content)
        return frozenset(
            sha for word in set(words) for sha in _hashes(word, lengths, False) if sha in long
        )

    def without_naming(self, texts: Iterable[str]) -> list[str]:
        """The texts that name none of these ids."""
        return [text for text in texts if not self.named_in(text.encode())]


def _hashes(word: bytes, lengths: Iterable[int], whole_words: bool) -> Iterator[str]:
    """The sha256 of each text in `word` that may be an id of one of these lengths."""
    for characters in lengths:
        if whole_words:
            candidates = {word}
        elif characters < SHORT_ID_CHARACTERS:
            candidates = {word, *(word.removeprefix(prefix) for prefix in _PREFIXES)}
        else:
            last = len(word) - characters
            candidates = {word[start : start + characters] for start in range(last + 1)}
        for candidate in candidates:
            if len(candidate) == characters:
                yield hashlib.sha256(candidate).hexdigest()


def read_forgotten(layout: Layout) -> Forgotten:
    """The videos of a catalog that were taken down; none if there is no such file.

    Raises IntegrityError if the file was altered: without it a build would bring them back.
    """
    path = layout.forgotten_file
    try:
        content = read_sealed(path)
        if (content.get("format"), content.get("format_version")) != (FORMAT, FORMAT_VERSION):
            raise IntegrityError(path, f"is not a {FORMAT!r} of version {FORMAT_VERSION}")
        return Forgotten(dict(_videos(content.get("videos"))))
    except FileNotFoundError:
        return Forgotten()
    except (ValueError, TypeError) as error:
        raise IntegrityError(path, f"names no forgotten videos: {error}") from error
    except IntegrityError as error:
        raise IntegrityError(
            path,
            f"{error.problem}. It keeps videos that were taken down from coming back: take it from "
            "a copy; or delete it, and take them down again with `python -m storage forget`.",
        ) from error


def _videos(content: JSON) -> Iterator[tuple[str, ForgottenVideo]]:
    if not isinstance(content, dict):
        raise ValueError("`videos` is not an object")
    for sha256, video in content.items():
        if not _SHA256.fullmatch(sha256) or not isinstance(video, dict):
            raise ValueError(f"{sha256!r} is not the sha256 of an id")
        values: dict[str, Any] = dict(video)
        yield sha256, ForgottenVideo(**values)


def write_forgotten(layout: Layout, forgotten: Forgotten) -> None:
    """Replace the file in one atomic step."""
    content: dict[str, JSON] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "videos": {sha256: dict(vars(video)) for sha256, video in forgotten.videos.items()},
    }
    publish(layout.forgotten_file, seal(content), replace=True)


def forgotten_source_files(layout: Layout, forgotten: Forgotten) -> list[Path]:
    """Media, masks and links of these videos in the catalog's sources: `sources/<id>.mp4`."""
    folders = [folder for folder in (layout.sources, layout.links) if folder.is_dir()]
    return [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        # A video may be called `testing`, and `testing.csv` is then not its file.
        if path.suffix not in TABLE_SUFFIXES and forgotten.matches(path.name.partition(".")[0])
    ]


def rows_without(
    forgotten: Forgotten, tables: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[Any, ...]]:
    """The rows of a catalog's tables that remain without the forgotten videos.

    A user goes with the last target, and with the last link. The marks that such a user gave other
    videos stay: they are labels of those videos, and an annotator need not be a user.
    """
    gone = {row.video_id for row in tables["videos"] if forgotten.matches(row.video_id)}
    kept = {
        table: tuple(row for row in rows if getattr(row, "video_id", None) not in gone)
        for table, rows in tables.items()
    }
    gone_users = _users_without(tables["links"], kept["links"])
    for table in ("links", "users"):
        kept[table] = tuple(row for row in kept[table] if row.user_id not in gone_users)
    return kept


def _users_without(before: Sequence[Any], after: Sequence[Any]) -> set[str]:
    """The users who have lost their last target, or their last link."""
    lost_links = {link.user_id for link in before} - {link.user_id for link in after}
    return lost_links | (_users_with_target(before) - _users_with_target(after))


def _users_with_target(links: Iterable[Any]) -> set[str]:
    return {link.user_id for link in links if link.role == "target"}


def json_without(forgotten: Forgotten, value: JSON) -> JSON:
    """A JSON value without the texts that name a forgotten video."""
    if isinstance(value, dict):
        return {
            name: json_without(forgotten, item)
            for name, item in value.items()
            if not forgotten.named_in(name.encode())
        }
    if isinstance(value, list):
        return [json_without(forgotten, item) for item in value if not _is_named(forgotten, item)]
    return "" if _is_named(forgotten, value) else value


def _is_named(forgotten: Forgotten, value: JSON) -> bool:
    return isinstance(value, str) and bool(forgotten.named_in(value.encode()))
