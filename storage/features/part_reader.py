"""Reads parts, and trusts no file: every table is checked before a number of it is used.

`PartTable` knows the format and takes its bytes from any source. `PartReader` is a part on disk,
which travels between processes as its path. Whether a part belongs to the store is checked in
`store.py`, which compares it with the manifest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import IntegrityError, LookupFailed, UntrustedFile
from storage.base.paths import VariantLayout, shard_and_number
from storage.base.records import (
    CONTAINER_START,
    JSON,
    STREAM_CLOCK,
    TIME_ORIGINS,
    VIDEO_ID,
    Array,
    FeatureTrack,
    Ragged,
)
from storage.files.block_checksums import CheckedReads, Read, read_checksums
from storage.files.checksummed_json import unseal

if TYPE_CHECKING:
    from storage.files.hdf5 import Extent, FileLayout

FORMAT = "video-highlights part"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""A part of version 1 does not state its time origin: it is the stream's own clock."""
ARRAY_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_HEADER_TYPES = {"catalog": str, "shard": int, "variant": str, "fingerprint": str}
_TABLES = frozenset({"ids", "offsets", "digests", "records", "spans"})
_MAX_OPEN_FILES = 64


@dataclass(frozen=True)
class PartHeader:
    """The shard and variant that a part belongs to."""

    catalog: str
    shard: int
    variant: str
    fingerprint: str
    time_origin: str = CONTAINER_START
    """Origin of its seconds: one of `TIME_ORIGINS`."""

    def __str__(self) -> str:
        variant = f"{self.variant}-{self.fingerprint}"
        name = f"shard {self.shard} of {variant} of the catalog {self.catalog!r}"
        if self.time_origin == CONTAINER_START:
            return name
        return f"{name}, with times that count from {self.time_origin}"


@dataclass(frozen=True)
class ArrayFormat:
    """Type and shape of every row of an array."""

    dtype: np.dtype[np.generic]
    item_shape: tuple[int, ...]
    """Shape of one row, or of one item of a row if ragged."""
    ragged: bool


class PartTable:
    """A part's tables, checked, and its rows on demand."""

    def __init__(self, path: Path, layout: FileLayout, fetch: Read) -> None:
        """`path` is for error messages; `fetch` fills a buffer from an offset on.

        Raises:
            UntrustedFile: the file has other tables than a part, or other types or shapes.
            IntegrityError: ids or offsets are not in order.
        """
        self._path = path
        self._extents = layout.extents
        self._fetch = fetch
        self.header = _parse_header(path, layout.attributes)
        self._check_table_names()
        self.ids = self._read_ids()
        self._offsets = self._read_offsets()
        self._index = {video_id: index for index, video_id in enumerate(self.ids)}
        self._check_form("spans", "<f8", (self.row_count, 2))
        self._check_form("digests", "|S64", (len(self.ids),))
        self.formats = self._read_formats()

    @property
    def row_count(self) -> int:
        """Number of rows of all videos together."""
        return int(self._offsets[-1])

    def records(self) -> dict[str, JSON]:
        """The JSON object that was written beside the rows. Raises IntegrityError if it changed."""
        extent = self._extents["records"]
        self._check_form("records", "|u1", extent.shape[:1])
        return unseal(self._path, self._read("records", 0, extent.shape[0]).tobytes())

    def rows_of(self, video_id: str) -> tuple[int, int]:
        """`[start, end)`: the part's rows that belong to the video. Raises LookupFailed."""
        index = self._index_of(video_id)
        return int(self._offsets[index]), int(self._offsets[index + 1])

    def stored_digest(self, video_id: str) -> str:
        """The video's digest as it was written. Raises LookupFailed."""
        index = self._index_of(video_id)
        return bytes(self._read("digests", index, index + 1)[0]).decode("ascii", "replace")

    def spans(self, start: int, end: int) -> NDArray[np.float64]:
        """`(end - start, 2)`: the spans of these rows of the part, in seconds."""
        return self._read("spans", start, end)

    def rows(self, name: str, start: int, end: int) -> Array | Ragged:
        """These rows of one array; reads nothing else. Raises LookupFailed for an unknown name."""
        if name not in self.formats:
            raise LookupFailed(
                f"{self._path.name} has no array {name!r}; it has {', '.join(self.formats)}"
            )
        if not self.formats[name].ragged:
            return self._read(f"arrays/{name}", start, end)
        offsets = self._read(f"arrays/{name}/offsets", start, end + 1)
        count = self._extents[f"arrays/{name}/values"].shape[0]
        # Unchecked offsets would read the rows of another video, or behind the file.
        if offsets[0] < 0 or offsets[-1] > count or (np.diff(offsets) < 0).any():
            raise IntegrityError(
                self._path, f"the offsets of {name} leave its {count:,} items at row {start}"
            )
        return Ragged(
            self._read(f"arrays/{name}/values", int(offsets[0]), int(offsets[-1])), np.diff(offsets)
        )

    def track(self, video_id: str) -> FeatureTrack:
        """All rows of one video. Raises LookupFailed, or IntegrityError for an invalid track."""
        start, end = self.rows_of(video_id)
        arrays = {name: self.rows(name, start, end) for name in self.formats}
        try:
            return FeatureTrack(video_id, self.spans(start, end), arrays)
        except ValueError as error:
            raise IntegrityError(self._path, str(error)) from error

    def _index_of(self, video_id: str) -> int:
        if video_id not in self._index:
            raise LookupFailed(
                f"{self._path.name} has no video {video_id!r}; it has {len(self.ids)} others"
            )
        return self._index[video_id]

    def _check_table_names(self) -> None:
        names = {name for name in self._extents if not name.startswith("arrays/")}
        if names != _TABLES:
            raise UntrustedFile(
                self._path, f"holds {sorted(names)}, a part holds {sorted(_TABLES)} and arrays"
            )

    def _check_form(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        extent = self._extents[name]
        if extent.dtype.str != dtype or extent.shape != shape:
            raise UntrustedFile(
                self._path,
                f"{name} is {extent.dtype} {extent.shape}, not {np.dtype(dtype)} {shape}",
            )

    def _read_ids(self) -> tuple[str, ...]:
        extent = self._extents["ids"]
        is_text_per_video = extent.dtype.kind == "S" and len(extent.shape) == 1
        if not is_text_per_video or extent.shape[0] < 1:
            raise UntrustedFile(
                self._path, f"ids are {extent.dtype} {extent.shape}, not one text per video"
            )
        stored = self._read("ids", 0, extent.shape[0]).tolist()
        ids = tuple(item.decode("ascii", "replace") for item in stored)
        are_ascending = list(ids) == sorted(set(ids))
        # Also because ids become part of file names.
        are_valid = all(map(VIDEO_ID.fullmatch, ids))
        if not are_valid or not are_ascending:
            raise IntegrityError(self._path, "its ids are not valid, distinct and ascending")
        return ids

    def _read_offsets(self) -> NDArray[np.int64]:
        self._check_form("offsets", "<i8", (len(self.ids) + 1,))
        offsets = self._read("offsets", 0, len(self.ids) + 1)
        row_count = self._extents["spans"].shape[0]
        every_video_has_rows = (np.diff(offsets) >= 1).all()
        if offsets[0] != 0 or offsets[-1] != row_count or not every_video_has_rows:
            raise IntegrityError(self._path, "its offsets do not rise from 0 to the number of rows")
        return offsets

    def _read_formats(self) -> Mapping[str, ArrayFormat]:
        formats: dict[str, ArrayFormat] = {}
        for full_name, extent in self._extents.items():
            if not full_name.startswith("arrays/"):
                continue
            name, _, role = full_name.removeprefix("arrays/").partition("/")
            if role == "offsets":
                self._check_has_values(name)
                continue
            self._check_array(name, role, extent)
            formats[name] = ArrayFormat(extent.dtype, extent.shape[1:], ragged=role == "values")
        return formats

    def _check_has_values(self, name: str) -> None:
        if f"arrays/{name}/values" not in self._extents:
            raise UntrustedFile(self._path, f"arrays/{name} has offsets without values")

    def _check_array(self, name: str, role: str, extent: Extent) -> None:
        is_known_role = role in ("", "values")
        is_numeric = extent.dtype.kind in "iuf"
        if not ARRAY_NAME.fullmatch(name) or not is_known_role or not is_numeric:
            raise UntrustedFile(self._path, f"arrays/{name} is not an array of a part")
        if role == "values":
            if f"arrays/{name}/offsets" not in self._extents:
                raise UntrustedFile(self._path, f"arrays/{name} has values without offsets")
            self._check_form(f"arrays/{name}/offsets", "<i8", (self.row_count + 1,))
        elif extent.shape[0] != self.row_count:
            raise UntrustedFile(
                self._path,
                f"arrays/{name} has {extent.shape[0]} rows, the part has {self.row_count}",
            )

    def _read(self, name: str, start: int, end: int) -> Array:
        extent = self._extents[name]
        if not 0 <= start <= end <= extent.shape[0]:
            raise IndexError(f"{name} has {extent.shape[0]} rows, asked for [{start}, {end})")
        # Filled in place by `preadv`: no copy through bytes objects.
        array = np.empty((end - start, *extent.shape[1:]), extent.dtype)
        if array.nbytes:
            self._fetch(
                extent.offset_bytes + start * extent.row_bytes,
                array.reshape(-1).view(np.uint8).data,
            )
        return array


class PartReader:
    """A part on disk. Opened at first use; pickles as its path; one reader may serve many threads.

    With `checksums_sha256`, the sha256 of the checksum file beside it, each block is checked when
    this reader first touches it; an unpickled copy checks for itself. Without, nothing is checked.
    """

    def __init__(self, path: Path, checksums_sha256: str = "") -> None:
        self.path = path
        self.checksums_sha256 = checksums_sha256

    def __reduce__(self) -> tuple[type[PartReader], tuple[Path, str]]:
        return PartReader, (self.path, self.checksums_sha256)

    def __repr__(self) -> str:
        return f"PartReader({str(self.path)!r})"

    @cached_property
    def table(self) -> PartTable:
        """The checked tables.

        Raises:
            IntegrityError: the file is missing, or is not a whole part.
        """
        # Imported here: most runs open a store for its manifests only, which need no HDF5.
        from storage.files.hdf5 import read_layout, read_layout_checked

        try:
            # With checksums even the tables are read through them: libhdf5 never sees a damaged
            # byte.
            if self._checked is None:
                return PartTable(self.path, read_layout(self.path), self._fetch)
            size_bytes = self._identity[2]
            layout = read_layout_checked(self.path, size_bytes, self._checked.fill)
            return PartTable(self.path, layout, self._checked.fill)
        except OSError as error:
            raise IntegrityError(
                self.path, f"cannot be opened: {error.strerror or error}"
            ) from error

    @property
    def header(self) -> PartHeader:
        """The shard and variant that the part belongs to."""
        return self.table.header

    def ids(self) -> tuple[str, ...]:
        """The videos in the part, ascending."""
        return self.table.ids

    def track(self, video_id: str) -> FeatureTrack:
        """All rows of one video. Raises LookupFailed."""
        return self.table.track(video_id)

    def digest(self, video_id: str) -> str:
        """The video's digest, computed anew from its rows. Raises LookupFailed."""
        return self.table.track(video_id).digest()

    @cached_property
    def _checked(self) -> CheckedReads | None:
        if not self.checksums_sha256:
            return None
        path = self.path.with_suffix(".sums")
        try:
            checksums = read_checksums(path, self.checksums_sha256)
        except IntegrityError as error:
            raise IntegrityError(path, f"{error.problem}; {_advice(self.path)}") from error
        size_bytes = self._identity[2]
        if checksums.size_bytes != size_bytes:
            raise IntegrityError(
                self.path,
                f"has {size_bytes:,} bytes, its checksums are of {checksums.size_bytes:,}; "
                f"{_advice(self.path)}",
            )
        return CheckedReads(self.path, checksums, self._fetch_into, _advice(self.path))

    @cached_property
    def _identity(self) -> tuple[int, int, int, int]:
        return _identity_of(self.path.stat())

    def _fetch(self, offset: int, buffer: memoryview) -> None:
        self._fetch_into(offset, (buffer,))

    def _fetch_into(self, offset: int, buffers: Sequence[memoryview]) -> None:
        try:
            _opened(self.path, self._identity).fill(offset, buffers)
        except OSError as error:
            raise IntegrityError(self.path, f"cannot be read: {error.strerror or error}") from error


def part_files(layout: VariantLayout, shard: int) -> list[Path]:
    """The shard's parts on disk, by number."""
    numbered: dict[int, Path] = {}
    for path in layout.folder.iterdir():
        parsed = shard_and_number(path.name)
        if parsed is None:
            continue
        found_shard, number = parsed
        if found_shard == shard and number is not None:
            numbered[number] = path
    return [path for _, path in sorted(numbered.items())]


def _advice(path: Path) -> str:
    # A part lies at ROOT/<catalog>/features/<variant>/.
    return f"run `python -m storage audit --repair {path.absolute().parents[2]}`"


@contextmanager
def with_repair_advice() -> Iterator[None]:
    """Add the command that repairs a file to each IntegrityError raised inside.

    The file must lie in a variant's folder.
    """
    try:
        yield
    except IntegrityError as error:
        has_advice = "audit --repair" in error.problem or "writes it anew" in error.problem
        if has_advice:
            raise
        raise type(error)(error.path, f"{error.problem}; {_advice(error.path)}") from error


class _OpenFile:
    """A file descriptor that is closed when the last thread stops using it.

    An explicit close could close it while another thread reads, or make that one read another file
    which got the same number.
    """

    def __init__(self, path: Path, identity: tuple[int, int, int, int]) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.path = path
        # Offsets of the old file would read wrong rows of a new one.
        if _identity_of(os.fstat(self.descriptor)) != identity:
            raise IntegrityError(
                path, "was replaced while in use; parts never change, so open the store again"
            )

    def fill(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Fill the buffers one after the other from `offset` on. Raises IntegrityError, OSError."""
        unfilled = [buffer for buffer in buffers if buffer]
        while unfilled:
            count = os.preadv(self.descriptor, unfilled, offset)
            if count == 0:
                missing_bytes = sum(map(len, unfilled))
                raise IntegrityError(
                    self.path, f"ends at byte {offset:,}, {missing_bytes:,} bytes too early"
                )
            offset += count
            unfilled = _after(unfilled, count)

    def __del__(self) -> None:
        # `os.open` may have failed: then there is nothing to close.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _after(buffers: list[memoryview], count: int) -> list[memoryview]:
    """What is left of the buffers behind their first `count` bytes."""
    for number, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[number + 1 :]]
        count -= len(buffer)
    return []


@lru_cache(maxsize=_MAX_OPEN_FILES)
def _opened(path: Path, identity: tuple[int, int, int, int]) -> _OpenFile:
    # A descriptor inherited by a forked child is shared with its parent, which is fine: preadv
    # moves no file position.
    return _OpenFile(path, identity)


def _identity_of(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def bytes_fetcher(content: bytes) -> Read:
    """Reads from bytes, for a part that is not on disk yet."""

    def fetch(offset: int, buffer: memoryview) -> None:
        buffer[:] = memoryview(content)[offset : offset + len(buffer)]

    return fetch


def _parse_header(path: Path, attributes: Mapping[str, str | int]) -> PartHeader:
    fields = dict(attributes)
    found, version = fields.pop("format", None), fields.pop("format_version", None)
    if found != FORMAT or version not in READABLE_VERSIONS:
        raise UntrustedFile(
            path, f"is not a '{FORMAT}' of a version that this release reads: {READABLE_VERSIONS}"
        )
    # A part of version 1 must not state an origin: it would be one of its unknown attributes.
    time_origin = STREAM_CLOCK if version == 1 else fields.pop("time_origin", None)
    types = {name: type(value) for name, value in fields.items()}
    if types != _HEADER_TYPES:
        raise UntrustedFile(path, "its attributes are not those of a part")
    if time_origin not in TIME_ORIGINS:
        raise UntrustedFile(
            path, f"its times count from {time_origin!r}; this release reads {TIME_ORIGINS}"
        )
    # The types of all fields were compared above.
    return PartHeader(**fields, time_origin=str(time_origin))  # type: ignore[arg-type]
