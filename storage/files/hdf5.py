"""HDF5, as little of it as we need: plain arrays into one image, and a survey of a file that nobody
has to trust.

Writing builds the image in memory, because libhdf5 dies of SIGSEGV when it meets a full disk.
Reading asks libhdf5 only where each array lies; the numbers themselves are then read with `pread`,
so a reader holds no libhdf5 state, and survives fork, spawn and threads. Refuses to know what any
array means.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# No array of ours has a filter, so no file gets a reason to load a plugin library; this also holds
# for what h5py itself opens later in the process. It works only if set before HDF5 starts.
os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")

import h5py
import numpy as np
from numpy.typing import DTypeLike

from storage.base.errors import IntegrityError, UntrustedFile
from storage.base.records import Array

Attributes = Mapping[str, str | int]

_LIBVER = ("earliest", "v108")
"""The oldest format there is, so that any HDF5 of the last twenty years opens it."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ENVELOPE_BYTES = 48
_LARGEST_ATTRIBUTE_BYTES = 256
_MOST_ATTRIBUTES = 16
_MOST_NAMES_PER_GROUP = 64
_DEEPEST_GROUP = 2
_MOST_AXES = 8
_GATHERED_BYTES = 1 << 20
_LARGEST_FIXED_BYTES = 64
_IMAGES = itertools.count()
_PARSER_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What h5py raises on damaged metadata, depending on where the damage is."""


@dataclass(frozen=True)
class Extent:
    """Where an array lies in its file: `dtype` items of `shape`, one after the other, from
    `offset_bytes` on.
    """

    offset_bytes: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


@dataclass(frozen=True)
class FileLayout:
    """What a file holds: attributes of the root, and the extent of each array by its full name
    (`arrays/pool5`).
    """

    attributes: Mapping[str, str | int]
    extents: Mapping[str, Extent]


@dataclass(frozen=True)
class ArrayToWrite:
    """An array to be written piece by piece along its first axis; the pieces must fill `shape`."""

    dtype: DTypeLike
    shape: tuple[int, ...]
    pieces: Iterable[Array]


def file_image(attributes: Attributes, arrays: Mapping[str, ArrayToWrite]) -> bytes:
    """The bytes of an HDF5 file with these attributes and contiguous arrays; equal input, equal
    bytes, on one HDF5.
    """
    unique = f"image {next(_IMAGES)}"  # libhdf5 refuses a name that another thread has open, though no file bears it
    with h5py.File(
        unique, "w", driver="core", backing_store=False, block_size=1 << 20, libver=_LIBVER
    ) as file:
        for name, value in attributes.items():
            file.attrs[name] = (
                np.bytes_(value.encode("ascii")) if isinstance(value, str) else np.int64(value)
            )
        for name, draft in arrays.items():
            _fill(
                file.create_dataset(
                    name, draft.shape, draft.dtype, fill_time="never", track_times=False
                ),
                draft,
            )
        file.flush()
        return bytes(file.id.get_file_image())


def _fill(dataset: h5py.Dataset, draft: ArrayToWrite) -> None:
    start = 0
    for piece in _gathered(draft.pieces):
        dataset[start : start + len(piece)] = piece
        start += len(piece)
    if start != draft.shape[0]:
        raise ValueError(
            f"{dataset.name}: the pieces hold {start} rows, the shape says {draft.shape[0]}"
        )


def _gathered(pieces: Iterable[Array]) -> Iterator[Array]:
    """The same rows in larger pieces: h5py takes as long for a row as for a thousand."""
    waiting: list[Array] = []
    waiting_bytes = 0
    for piece in pieces:
        waiting.append(piece)
        waiting_bytes += piece.nbytes
        if waiting_bytes >= _GATHERED_BYTES:
            yield np.concatenate(waiting) if len(waiting) > 1 else piece
            waiting, waiting_bytes = [], 0
    if any(len(one) for one in waiting):
        yield np.concatenate(waiting)


def read_layout(path: Path) -> FileLayout:
    """What `path` holds, after refusing everything our format never asks for.

    Raises UntrustedFile for links to other names or files, external or virtual storage, chunks,
    filters, text or object types, odd shapes, and arrays that do not lie inside the file;
    IntegrityError for what is no HDF5 file at all.
    """
    with path.open("rb") as file:
        _check_envelope(path, file.read(_ENVELOPE_BYTES), path.stat().st_size)
    return _survey(path, path, path.stat().st_size)


def read_layout_checked(
    path: Path, size_bytes: int, read: Callable[[int, memoryview], None]
) -> FileLayout:
    """The same, from a reader that checks what it reads: libhdf5 sees no byte that was not found
    right.

    `read` fills a buffer from an offset on. Raises what it raises, and what `survey` does.
    """
    start = bytearray(min(_ENVELOPE_BYTES, size_bytes))
    read(0, memoryview(start))
    _check_envelope(path, bytes(start), size_bytes)
    source = _ReadThrough(size_bytes, read)
    try:
        return _survey(path, source, size_bytes)
    except IntegrityError as error:
        # libhdf5 turns an error of ours into one of its own.
        raise source.error or error from None


class _ReadThrough(io.RawIOBase):
    """A file that is read by a function."""

    def __init__(self, size_bytes: int, read: Callable[[int, memoryview], None]) -> None:
        self._size_bytes, self._read, self._place = size_bytes, read, 0
        self.error: IntegrityError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = (
            offset
            + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size_bytes}[whence]
        )
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._size_bytes - self._place)]
        try:
            if view:
                self._read(self._place, view)
        except IntegrityError as error:
            self.error = error
            raise
        self._place += len(view)
        return len(view)


def read_image_layout(path: Path, content: bytes) -> FileLayout:
    """The same for the bytes of a file that is not on disk yet; `path` is what errors call it."""
    _check_envelope(path, content[:_ENVELOPE_BYTES], len(content))
    return _survey(path, io.BytesIO(content), len(content))


def _check_envelope(path: Path, start: bytes, size_bytes: int) -> None:
    # Looked at before libhdf5 parses anything: a file that starts at its first byte, in the oldest
    # format, and ends where it says it ends.
    signature, version, base, end = start[:8], start[8:9], start[24:32], start[40:48]
    if signature != _SIGNATURE or version != b"\0" or any(base):
        raise IntegrityError(path, "is no HDF5 file of the kind we write")
    if int.from_bytes(end, "little") != size_bytes:
        raise IntegrityError(
            path, f"has {size_bytes:,} bytes, its header says {int.from_bytes(end, 'little'):,}"
        )


def _survey(path: Path, source: Path | io.BytesIO | _ReadThrough, size_bytes: int) -> FileLayout:
    try:
        with h5py.File(source, "r", locking=False) as file:
            return FileLayout(
                dict(_attributes(path, file)), dict(_extents(path, file, size_bytes, 0))
            )
    except _PARSER_ERRORS as error:
        raise IntegrityError(path, f"cannot be read as HDF5: {error}") from error


def _attributes(path: Path, root: h5py.Group) -> Iterator[tuple[str, str | int]]:
    if len(root.attrs) > _MOST_ATTRIBUTES:
        raise UntrustedFile(
            path, f"the root has {len(root.attrs)} attributes, we write at most {_MOST_ATTRIBUTES}"
        )
    for name in root.attrs:
        attribute = root.attrs.get_id(name)
        kind = attribute.get_type()
        is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        if attribute.shape != () or not (is_text or isinstance(kind, h5py.h5t.TypeIntegerID)):
            raise UntrustedFile(
                path, f"attribute {name!r} is neither one number nor one text of fixed length"
            )
        if kind.get_size() > _LARGEST_ATTRIBUTE_BYTES:
            raise UntrustedFile(path, f"attribute {name!r} takes {kind.get_size():,} bytes")
        value = root.attrs[name]
        yield name, value.decode("ascii") if is_text else int(value)


def _extents(
    path: Path, group: h5py.Group, size_bytes: int, depth: int
) -> Iterator[tuple[str, Extent]]:
    count = len(group)
    if depth > _DEEPEST_GROUP or count > _MOST_NAMES_PER_GROUP:
        raise UntrustedFile(
            path,
            f"group {group.name} holds {count:,} names at depth {depth}; ours are small and flat",
        )
    for name in group:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise UntrustedFile(
                path, f"{group.name} holds {name!r}, which is a link to somewhere else"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            _refuse_attributes(path, item)
            yield from _extents(path, item, size_bytes, depth + 1)
        elif isinstance(item, h5py.Dataset):
            _refuse_attributes(path, item)
            yield item.name.removeprefix("/"), _extent(path, item, size_bytes)
        else:
            raise UntrustedFile(
                path, f"{group.name} holds {name!r}, which is neither an array nor a group"
            )


def _refuse_attributes(path: Path, item: h5py.HLObject) -> None:
    if len(item.attrs):
        raise UntrustedFile(path, f"{item.name} has attributes; ours lie on the root only")


def _extent(path: Path, dataset: h5py.Dataset, size_bytes: int) -> Extent:
    _refuse_storage(path, dataset)
    dtype = _plain_dtype(path, dataset)
    shape = dataset.shape
    if shape is None or not 1 <= len(shape) <= _MOST_AXES or dataset.maxshape != shape:
        raise UntrustedFile(
            path, f"{dataset.name} has the shape {shape} of at most {dataset.maxshape}"
        )
    needed_bytes = dtype.itemsize * math.prod(shape)
    offset = dataset.id.get_offset()
    if needed_bytes == 0:
        return Extent(0, dtype, shape)
    if (
        offset is None
        or dataset.id.get_storage_size() != needed_bytes
        or offset + needed_bytes > size_bytes
    ):
        raise UntrustedFile(
            path,
            f"{dataset.name} claims {shape} of {dtype}, {needed_bytes:,} bytes, which the file does not hold",
        )
    return Extent(int(offset), dtype, shape)


def _refuse_storage(path: Path, dataset: h5py.Dataset) -> None:
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        raise UntrustedFile(path, f"{dataset.name} keeps its numbers in another file")
    if plan.get_nfilters():
        raise UntrustedFile(path, f"{dataset.name} has a filter; ours are stored plainly")
    if plan.get_layout() != h5py.h5d.CONTIGUOUS:
        raise UntrustedFile(
            path, f"{dataset.name} is chunked, compact or virtual; ours are contiguous"
        )


def _plain_dtype(path: Path, dataset: h5py.Dataset) -> np.dtype[np.generic]:
    stored = dataset.id.get_type()
    is_text = isinstance(stored, h5py.h5t.TypeStringID) and not stored.is_variable_str()
    if not (is_text or isinstance(stored, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)):
        raise UntrustedFile(
            path, f"{dataset.name} holds neither plain numbers nor bytes of fixed length"
        )
    dtype: np.dtype[np.generic] = np.dtype(stored.dtype)
    # Equality with numpy's own type also refuses floats of home-made layout, whose bytes we would
    # misread.
    if dtype.itemsize > _LARGEST_FIXED_BYTES or not (
        is_text or stored.equal(h5py.h5t.py_create(dtype))
    ):
        raise UntrustedFile(
            path, f"{dataset.name} holds {dtype} in a layout that numpy does not have"
        )
    return dtype
