"""Reads feature files of others: `.npy`, `.npz` and HDF5. Only numbers are read.

    .npy          rows; the video is named by the file
    .npz          the array asked for, or `features`, or the only one; `spans` beside it
    .h5, .hdf5    the same names at the top: one file is one video. Otherwise each dataset at the
                  top is a video, and each group is one that holds such names.

Headers are compared with the bytes that are there before any array is read. No pickled object, no
link, no other file and no plugin filter is followed.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import h5py  # after storage.files.hdf5, which the package imports first and which forbids plugins
import numpy as np

from storage.base.records import Array
from storage.files.external_arrays import MAX_BYTES, MAX_NAMES

FEATURES, SPANS = "features", "spans"
HDF5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES)
_NUMBER_KINDS = "fiu"


def printable(text: str) -> str:
    """A text from outside that any terminal and any encoding can show: the rest is escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class RefusedFile(ValueError):
    """A file, or one video in it, cannot be taken; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason))


@dataclass(frozen=True)
class Source:
    """Where the rows of one video lie."""

    path: Path
    name: str
    """What the publisher calls the video."""
    member: str = ""
    """Name at the top of an HDF5 file of many videos; empty if the file is one video."""

    def __str__(self) -> str:
        place = f"{self.path.name}:{self.member}" if self.member else self.path.name
        return printable(place)


@dataclass(frozen=True)
class SourceForm:
    """Type and shape of the rows of a video, as its header states them."""

    dtype: np.dtype[Any]
    """In the byte order of the store."""
    shape: tuple[int, ...]
    has_spans: bool

    @property
    def row(self) -> tuple[str, tuple[int, ...], bool]:
        """What all videos of a variant have in common."""
        return self.dtype.str, self.shape[1:], self.has_spans

    def __str__(self) -> str:
        spans = " with spans" if self.has_spans else ""
        return f"{self.dtype.name} rows of shape {self.shape[1:]}{spans}"


def list_sources(folder: Path, array: str) -> tuple[list[Source], dict[str, str]]:
    """The videos in the files of a folder, by file name, and why other files are not read.

    Folders inside it and hidden files are not looked at.
    """
    sources: list[Source] = []
    refused: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            refused[printable(path.name)] = f"is not one of {', '.join(SUFFIXES)}"
        elif path.suffix.lower() not in HDF5_SUFFIXES:
            sources.append(Source(path, path.stem))
        else:
            try:
                sources += _hdf5_sources(path, array)
            except RefusedFile as error:
                refused[printable(path.name)] = str(error)
    return sources, refused


def _hdf5_sources(path: Path, array: str) -> list[Source]:
    with _translated(), h5py.File(path, "r", locking=False) as file:
        names = list(file)
        if len(names) > MAX_NAMES:
            raise RefusedFile(f"holds {len(names):,} names; the limit is {MAX_NAMES:,}")
        if {array, FEATURES} & set(names):
            return [Source(path, path.stem)]
        return [Source(path, name, name) for name in names]


def form_of(source: Source, array: str) -> SourceForm:
    """The form of a video's rows, from headers only. Raises RefusedFile."""
    with _translated(), _opened(source, array) as arrays:
        return arrays.form()


def read_source(source: Source, array: str) -> tuple[Array, Array | None]:
    """The rows `(rows, ...)` of a video, and its spans if it has any. Raises RefusedFile."""
    with _translated(), _opened(source, array) as arrays:
        form = arrays.form()
        values = np.ascontiguousarray(arrays.read(arrays.features), form.dtype)
        spans = arrays.read(SPANS) if form.has_spans else None
    return values, spans


class _Arrays:
    """The arrays of one video in an open file."""

    features = FEATURES
    """Name of the array with the rows."""

    def has(self, name: str) -> bool:
        raise NotImplementedError

    def header(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        raise NotImplementedError

    def read(self, name: str) -> Array:
        raise NotImplementedError

    def form(self) -> SourceForm:
        """The form of the rows, if a store can hold them. Raises RefusedFile."""
        dtype, shape = self.header(self.features)
        has_spans = self.has(SPANS)
        if dtype.hasobject or dtype.kind not in _NUMBER_KINDS:
            raise RefusedFile(f"holds {dtype}; expected integers or floats")
        if len(shape) < 2 or 0 in shape:
            raise RefusedFile(f"has the shape {shape}; expected (rows, dim), neither of them 0")
        if math.prod(shape) * dtype.itemsize > MAX_BYTES:
            raise RefusedFile(f"is {dtype}{shape}; the limit is {MAX_BYTES:,} bytes")
        if has_spans and self.header(SPANS) != (np.dtype(np.float64), (shape[0], 2)):
            raise RefusedFile(
                f"its spans are {self.header(SPANS)}; expected float64 {(shape[0], 2)}"
            )
        return SourceForm(dtype.newbyteorder("<"), shape, has_spans)


class _NpyFile(_Arrays):
    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        return name == FEATURES

    def header(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        with self._path.open("rb") as file:
            return _npy_header(file, self._path.stat().st_size)

    def read(self, name: str) -> Array:
        array: Array = np.load(self._path, allow_pickle=False)
        return array


class _NpzFile(_Arrays):
    def __init__(self, zipped: ZipFile, array: str) -> None:
        self._zipped = zipped
        names = [info.filename for info in zipped.infolist()]
        # np.load gives one answer for `a` and `a.npy`, so members are opened by their full names.
        self._names = [name.removesuffix(".npy") for name in names if name.endswith(".npy")]
        if len(set(names)) != len(names):
            raise RefusedFile("names an array twice")
        self.features = _choice(self._names, array)

    def has(self, name: str) -> bool:
        return name in self._names

    def header(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        with self._zipped.open(f"{name}.npy") as member:
            return _npy_header(member, self._zipped.getinfo(f"{name}.npy").file_size)

    def read(self, name: str) -> Array:
        with self._zipped.open(f"{name}.npy") as member:
            array: Array = np.load(io.BytesIO(member.read()), allow_pickle=False)
        return array


class _Hdf5Arrays(_Arrays):
    def __init__(self, file: Any, source: Source, array: str) -> None:
        self._group = file
        self._is_alone = False
        if not source.member:
            self.features = _choice(list(file), array)
            return
        item = _own_item(file, source.member)
        if isinstance(item, h5py.Group):
            self._group = item
            self.features = _choice(list(item), array)
        else:
            self.features = source.member
            self._is_alone = True  # `spans` beside it would be another video

    def has(self, name: str) -> bool:
        return not self._is_alone and name in self._group

    def header(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        dataset = _own_item(self._group, name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
            raise RefusedFile(f"{name} is not an array")
        if dataset.external or dataset.is_virtual:
            raise RefusedFile(f"{name} lies in another file")
        return dataset.dtype, dataset.shape

    def read(self, name: str) -> Array:
        array: Array = _own_item(self._group, name)[()]
        return array


def _own_item(group: Any, name: str) -> Any:
    """A member that lies in the file itself: a link could lead to any file of this machine."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise RefusedFile(f"{name} is a link")
    return group[name]


def _choice(names: list[str], array: str) -> str:
    """The array with the rows: the one asked for, or `features`, or the only one."""
    for name in (array, FEATURES):
        if name in names:
            return name
    others = [name for name in names if name != SPANS]
    if len(others) != 1:
        shown = ", ".join(sorted(others)[:5]) or "none"
        raise RefusedFile(f"has no array {array!r} or {FEATURES!r}, but {len(others)}: {shown}")
    return others[0]


def _npy_header(stream: IO[bytes], size_bytes: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """dtype and shape; compared with the bytes that follow, so that no shape is only claimed."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise RefusedFile(f"is a .npy of version {version}; expected 1.0 or 2.0")
    shape, _, dtype = readers[version](stream)
    stated = math.prod(shape) * dtype.itemsize
    there = size_bytes - stream.tell()
    if stated != there and not dtype.hasobject:
        raise RefusedFile(
            f"its header states {dtype}{shape}, {stated:,} bytes, but {there:,} bytes follow"
        )
    return dtype, shape


@contextmanager
def _opened(source: Source, array: str) -> Iterator[_Arrays]:
    suffix = source.path.suffix.lower()
    if suffix == ".npy":
        yield _NpyFile(source.path)
    elif suffix == ".npz":
        with ZipFile(source.path) as zipped:
            yield _NpzFile(zipped, array)
    else:
        with h5py.File(source.path, "r", locking=False) as file:
            yield _Hdf5Arrays(file, source, array)


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of a damaged file as RefusedFile, so that one file never stops the others."""
    try:
        yield
    except RefusedFile:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, BadZipFile, zlib.error) as error:
        raise RefusedFile(f"cannot be read: {error}") from error
    except (NotImplementedError, MemoryError) as error:
        raise RefusedFile(f"cannot be read: {error!r}") from error
