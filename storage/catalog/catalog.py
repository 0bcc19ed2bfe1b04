"""The catalog of a dataset: videos, users, links, annotations, groups, metadata and shards.

It is kept as CSV tables and, written after them, `catalog.json` with their sha256. The same
catalog gives the same bytes, in any order of its rows. A catalog checks itself when it is
made from rows; one read from disk was checked before it was written, so only its sha256 are
compared.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.base.records import JSON, PLACE, Annotation, Group, Link, Metadata, User, Video
from storage.catalog.annotated_segments import SegmentTable, segment_table
from storage.catalog.csv_tables import (
    CsvTable,
    encode_csv,
    read_annotation,
    read_video,
    text_column,
)
from storage.catalog.forgotten import Forgotten, json_without, read_forgotten, rows_without
from storage.catalog.splits import CatalogRows, ids_by_split
from storage.files import atomic_write
from storage.files.checksummed_json import read_sealed, seal

FORMAT = "video-highlights catalog"
FORMAT_VERSION = 3
METADATA_VERSION = 4
"""The version of a catalog with metadata. Others stay readable by earlier releases."""
READABLE_VERSIONS = (1, 2, 3, 4)
_VIDEO_COLUMNS = {1: 2, 2: 4}
"""Number of columns of the videos by version: frame counts came with 2, alternative ids with 3."""
_FIRST_WITH = {"groups": 3, "metadata": METADATA_VERSION}
"""Table → the first version that has it."""
CATALOG_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A catalog's name becomes a folder's name."""
PERSON_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,128}")
"""A user or annotator: any text that UTF-8 can carry in one line. It never becomes a file name."""
TIME_UNITS = ("seconds", "frames")
VIDEOS_PER_SHARD = 300
MAX_SHARDS = 400
"""The cost of scheduling grows faster than the number of tasks."""

T = TypeVar("T")


def shard_of(video_id: str, shard_count: int) -> int:
    """The shard of a video, in `[0, shard_count)`: the same on all machines and in all releases."""
    if shard_count < 1:
        raise ValueError(f"shard_count must be at least 1, got {shard_count}")
    # Not Python's `hash`, which differs from process to process.
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") % shard_count


def default_shard_count(n_videos: int) -> int:
    """About 300 videos a shard, from 1 to 400 shards."""
    # The count is fixed when a catalog is made, since it decides where every file lies.
    return min(max(math.ceil(n_videos / VIDEOS_PER_SHARD), 1), MAX_SHARDS)


@dataclass(frozen=True)
class Catalog:
    """One dataset as annotated. Rows may come in any order and are kept sorted."""

    name: str
    videos: Sequence[Video]
    users: Sequence[User]
    links: Sequence[Link]
    annotations: Sequence[Annotation]
    shard_count: int
    time_unit: str
    """Unit of the annotations' start and end: `seconds`, or `frames` of an original file."""
    origin: Mapping[str, JSON] = field(default_factory=dict)
    """Digests and row counts of the sources, the reader and its version, anomalies."""
    groups: Sequence[Group] = ()
    """Which videos form a domain, or a split, where splits are of videos and not of users."""
    metadata: Sequence[Metadata] = ()
    """Titles, places and other columns of a user's own list of videos."""

    def __post_init__(self) -> None:
        if not CATALOG_NAME.fullmatch(self.name):
            raise ValueError(
                f"a catalog is named like 'phd2', in 1 to 64 of a-z 0-9 _ -, got {self.name!r}"
            )
        if self.shard_count < 1:
            raise ValueError(f"shard_count must be at least 1, got {self.shard_count}")
        if self.time_unit not in TIME_UNITS:
            raise ValueError(f"time_unit is 'seconds' or 'frames', got {self.time_unit!r}")
        is_from_disk = all(isinstance(getattr(self, table), CsvTable) for table in _COLUMNS)
        if is_from_disk:
            return  # equal sha256: the rows are those that were checked when they were written
        for table, columns in _COLUMNS.items():
            rows = _sorted(getattr(self, table), _SORT_BY.get(table, columns))
            # The dataclass is frozen; sorting here makes equal catalogs equal bytes.
            object.__setattr__(self, table, rows)
        _check_names(self)
        _check_references(self)
        _check_times(self)

    @cached_property
    def _ids_by_shard(self) -> Mapping[int, tuple[str, ...]]:
        shards: dict[int, list[str]] = {}
        for video_id in text_column(self.videos, "video_id"):
            shards.setdefault(shard_of(video_id, self.shard_count), []).append(video_id)
        return {shard: tuple(ids) for shard, ids in shards.items()}

    @cached_property
    def segments(self) -> SegmentTable:
        """The distinct annotated segments of every video, in `time_unit`."""
        return segment_table(self.time_unit, self.videos, self.annotations)

    @cached_property
    def groupings(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        """Grouping → group → its video ids, in order of names. `groupings["domain"]["dog"]`."""
        groupings: dict[str, dict[str, set[str]]] = {}
        for row in self.groups:
            groups = groupings.setdefault(row.grouping, {})
            groups.setdefault(row.name, set()).add(row.video_id)
        return {
            grouping: {name: frozenset(ids) for name, ids in groups.items()}
            for grouping, groups in groupings.items()
        }

    def group(self, grouping: str, name: str) -> frozenset[str]:
        """The video ids of one group. Raises LookupFailed, which lists the groups."""
        groups = self.groupings.get(grouping)
        if groups is None:
            known = ", ".join(self.groupings) or "none"
            raise LookupFailed(f"{self.name} has no grouping {grouping!r}; it has {known}")
        if name not in groups:
            raise LookupFailed(
                f"{grouping} of {self.name} has no group {name!r}; it has {', '.join(groups)}"
            )
        return groups[name]

    def ids_by_split(self, grouping: str = "") -> Mapping[str, tuple[str, ...]]:
        """Split → the ids of its videos, ascending.

        A catalog with users has the splits of its users: a split has every video that is linked to
        one of them, as target or as history. A catalog without users has the splits of its
        published grouping (`vlist_sel`, `umt`); the grouping `domain` is none. A catalog with
        neither has one split, `all`.

        `grouping` chooses otherwise: `users`, a published grouping, `domain` (each domain as a
        split), `all`, or `folds-N-i` (`test` is fold i of N by hash, `train` the others).

        A video of two splits, such as one in the histories of a train and of a test user, is in
        both: `set(ids["train"]) & set(ids["test"])` are those. A video of no split is in none.

        Raises LookupFailed, which lists the names, for an unknown grouping, and where several are
        published and none is named.
        """
        rows = CatalogRows(self.name, self.video_ids, self.users, self.links, self.groupings)
        return ids_by_split(rows, grouping)

    @cached_property
    def video_ids(self) -> frozenset[str]:
        """The ids of all videos."""
        return frozenset(text_column(self.videos, "video_id"))

    @cached_property
    def metadata_by_video(self) -> Mapping[str, Mapping[str, str]]:
        """Video id → its metadata, for the videos that have any."""
        videos: dict[str, dict[str, str]] = {}
        for row in self.metadata:
            videos.setdefault(row.video_id, {})[row.key] = row.value
        return videos

    @cached_property
    def shareable_metadata(self) -> Mapping[str, Mapping[str, str]]:
        """The same without paths of this machine, for files that are given to others."""
        return {
            video_id: {key: value for key, value in known.items() if key != PLACE or "://" in value}
            for video_id, known in self.metadata_by_video.items()
        }

    @cached_property
    def alternative_ids(self) -> Mapping[str, tuple[str, ...]]:
        """Video id → its alternative ids, for the videos that have any."""
        return {
            video.video_id: video.alternative_ids for video in self.videos if video.alternative_ids
        }

    def forgotten_ids(self, forgotten: Forgotten) -> tuple[str, ...]:
        """Its videos that were taken down, ascending."""
        if not len(forgotten):
            return ()
        return tuple(filter(forgotten.matches, text_column(self.videos, "video_id")))

    def without(self, forgotten: Forgotten) -> Catalog:
        """The catalog without these videos; itself if it names none of them."""
        if not len(forgotten):
            return self
        origin = {name: json_without(forgotten, value) for name, value in self.origin.items()}
        if not self.forgotten_ids(forgotten) and origin == self.origin:
            return self
        tables = {table: getattr(self, table) for table in _COLUMNS}
        kept: dict[str, Any] = {**rows_without(forgotten, tables), "origin": origin}
        return replace(self, **kept)

    def shard_ids(self, shard: int) -> tuple[str, ...]:
        """Sorted ids of one shard. Raises LookupFailed for a shard that does not exist."""
        if not 0 <= shard < self.shard_count:
            raise LookupFailed(f"{self.name} has shards 0 to {self.shard_count - 1}, not {shard}")
        return self._ids_by_shard.get(shard, ())


_ROW_TYPES: dict[str, type[Any]] = {
    "videos": Video,
    "users": User,
    "links": Link,
    "annotations": Annotation,
    "groups": Group,
    "metadata": Metadata,
}
"""In the order in which the tables are written."""
TABLES = tuple(_ROW_TYPES)
_COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(column.name for column in fields(row_type))
    for table, row_type in _ROW_TYPES.items()
}
_SORT_BY = {"videos": ("video_id",)}
"""Columns to sort a table by, if not all. A claimed duration may be None, which has no order."""


def _sorted(rows: Iterable[T], columns: tuple[str, ...]) -> tuple[T, ...]:
    return tuple(sorted(rows, key=attrgetter(*columns)))


def _check_names(catalog: Catalog) -> None:
    _check_unique("video", text_column(catalog.videos, "video_id"))
    _check_unique("user", text_column(catalog.users, "user_id"))
    _check_unique("link", catalog.links)
    _check_unique("group of a video", catalog.groups)
    _check_unique("metadata", ((row.video_id, row.key) for row in catalog.metadata))
    users = set(text_column(catalog.users, "user_id"))
    annotators = set(text_column(catalog.annotations, "annotator"))
    for person in sorted(users | annotators):
        if not PERSON_ID.fullmatch(person):
            raise ValueError(
                f"a user or annotator is 1 to 128 characters on one line, got {person!r}"
            )


def _check_references(catalog: Catalog) -> None:
    videos = set(text_column(catalog.videos, "video_id"))
    users = set(text_column(catalog.users, "user_id"))
    _check_known("link", "user", text_column(catalog.links, "user_id"), users)
    _check_known("link", "video", text_column(catalog.links, "video_id"), videos)
    _check_known("annotation", "video", text_column(catalog.annotations, "video_id"), videos)
    _check_known("group", "video", text_column(catalog.groups, "video_id"), videos)
    _check_known("metadata row", "video", text_column(catalog.metadata, "video_id"), videos)


def _check_unique(noun: str, items: Iterable[T]) -> None:
    seen: set[T] = set()
    for item in items:
        if item in seen:
            raise ValueError(f"a catalog names each {noun} once, got {item!r} twice")
        seen.add(item)


def _check_known(row: str, noun: str, ids: Iterable[str], known: set[str]) -> None:
    unknown = sorted(set(ids) - known)
    if unknown:
        raise ValueError(
            f"{len(unknown)} {noun} ids have {row}s but are not in the table of {noun}s, the first "
            f"{unknown[0]!r}"
        )


def _check_times(catalog: Catalog) -> None:
    for row in catalog.annotations:
        is_interval = -math.inf < row.start < row.end < math.inf
        if not is_interval or not math.isfinite(row.value):
            raise ValueError(f"an annotation is finite with start < end, got {row}")
    for video in catalog.videos:
        claimed = video.claimed_duration_seconds
        if claimed is None:
            continue
        if not 0 < claimed < math.inf:
            raise ValueError(
                "a claimed duration is above 0 and finite, or None where it is not known, got "
                f"{video}"
            )


def write_catalog(layout: Layout, catalog: Catalog) -> None:
    """Publish the tables, then `catalog.json`.

    Raises:
        SettingsError: a catalog with another shard count is there already, or a video of this one
            was taken down; nothing is written.
        IntegrityError: the header that is there already is damaged.
    """
    if layout.catalog != catalog.name:
        raise ValueError(
            f"catalog {catalog.name!r} does not belong in the folder of {layout.catalog!r}"
        )
    _check_same_shard_count(layout, catalog)
    _check_none_is_forgotten(layout, catalog)
    tables: dict[str, JSON] = {}
    version = METADATA_VERSION if catalog.metadata else FORMAT_VERSION
    for table, columns in _COLUMNS.items():
        if table == "metadata" and version < METADATA_VERSION:
            continue
        content = encode_csv(columns, getattr(catalog, table))
        # A kill in between leaves tables that the old header does not fit. Reading them is an
        # IntegrityError until the catalog is built again.
        atomic_write.publish(layout.table(table), content, replace=True)
        tables[table] = {
            "rows": len(getattr(catalog, table)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    header: dict[str, JSON] = {
        "format": FORMAT,
        "format_version": version,
        "name": catalog.name,
        "origin": dict(catalog.origin),
        "shard_count": catalog.shard_count,
        "tables": tables,
        "time_unit": catalog.time_unit,
    }
    atomic_write.publish(layout.catalog_file, seal(header), replace=True)


def _check_same_shard_count(layout: Layout, catalog: Catalog) -> None:
    if not layout.catalog_file.exists():
        return
    existing = _field(_read_header(layout.catalog_file), "shard_count", int, layout.catalog_file)
    # Another count would look for every video in another folder.
    if existing != catalog.shard_count:
        raise SettingsError(
            (
                f"catalog {catalog.name!r} in {layout.folder} has {existing} shards and cannot be "
                f"given {catalog.shard_count}: every file in it is placed by that number. Keep "
                f"{existing}, or build under another data root.",
            )
        )


def _check_none_is_forgotten(layout: Layout, catalog: Catalog) -> None:
    if ids := catalog.forgotten_ids(read_forgotten(layout)):
        raise SettingsError(
            (
                f"{len(ids)} videos of this catalog were taken down, the first {ids[0]!r}: leave "
                f"them out. {layout.forgotten_file} keeps them from coming back",
            )
        )


def read_catalog(folder: Path, *, with_forgotten: bool = False) -> Catalog:
    """The catalog kept in `folder` (`ROOT/<catalog>`), with every table checked by its sha256.

    Rows are made when they are first asked for: a table may be large, and never used. Videos that
    were taken down are left out, unless `with_forgotten` is set, also where a copy of an older
    catalog brought their rows back.

    Raises:
        LookupFailed: there is no catalog.
        IntegrityError: a table or the header is not what was written.
    """
    layout = Layout(folder.parent, folder.name)
    path = layout.catalog_file
    header = _read_header(path)
    try:
        catalog = Catalog(
            name=_field(header, "name", str, path),
            videos=_table(layout, header, "videos", read_video),
            users=_table(layout, header, "users", lambda row: User(*row)),
            links=_table(layout, header, "links", lambda row: Link(*row)),
            annotations=_table(layout, header, "annotations", read_annotation),
            shard_count=_field(header, "shard_count", int, path),
            time_unit=_field(header, "time_unit", str, path),
            origin=_field(header, "origin", dict, path),
            groups=_table(layout, header, "groups", lambda row: Group(*row)),
            metadata=_table(layout, header, "metadata", lambda row: Metadata(*row)),
        )
    except ValueError as error:
        raise IntegrityError(path, f"is not a catalog written by this project: {error}") from error
    return catalog if with_forgotten else catalog.without(read_forgotten(layout))


def _read_header(path: Path) -> dict[str, JSON]:
    try:
        header = read_sealed(path)
    except FileNotFoundError as error:
        raise LookupFailed(
            f"no {path.name} in {path.parent}. Build the catalog, or correct the path."
        ) from error
    except IntegrityError as error:
        raise IntegrityError(
            path,
            f"{error.problem}. Take it from a copy; or delete it, and build the catalog again with "
            "as many shards as before.",
        ) from error
    if header.get("format") != FORMAT:
        raise IntegrityError(path, f"is not a {FORMAT}")
    version = header.get("format_version")
    if version not in READABLE_VERSIONS:
        raise IntegrityError(
            path, f"has format version {version!r}; this release reads {READABLE_VERSIONS}"
        )
    return header


def _version(header: Mapping[str, Any]) -> int:
    return int(header["format_version"])


def _field(header: Mapping[str, Any], name: str, kind: type[T], path: Path) -> T:
    value = header.get(name)
    # bool is a subclass of int, and no field is a bool.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise IntegrityError(path, f"{name} must be of type {kind.__name__}, got {value!r}")
    return value


def _table(
    layout: Layout, header: Mapping[str, Any], table: str, make_row: Callable[[list[str]], T]
) -> CsvTable[T]:
    path = layout.table(table)
    columns = _COLUMNS[table]
    if _version(header) < _FIRST_WITH.get(table, 1):
        return CsvTable(path, encode_csv(columns, ()), columns, 0, make_row)
    all_stated = _field(header, "tables", dict, layout.catalog_file)
    stated = _field(all_stated, table, dict, layout.catalog_file)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise IntegrityError(path, "missing. Build the catalog again from its sources.") from error
    actual_sha256 = hashlib.sha256(content).hexdigest()
    if actual_sha256 != stated.get("sha256"):
        raise IntegrityError(
            path,
            f"sha256 is {actual_sha256}, the catalog states {stated.get('sha256')}. Build it "
            "again.",
        )
    if table == "videos":
        columns = columns[: _VIDEO_COLUMNS.get(_version(header))]
    return CsvTable(path, content, columns, stated.get("rows"), make_row)
