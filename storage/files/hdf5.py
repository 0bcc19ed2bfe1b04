"""The small part of HDF5 that we need: plain arrays into one file, and a checked layout of a file.

Writing builds the file in memory, because libhdf5 dies of SIGSEGV on a full disk. Reading asks
libhdf5 only where each array lies; the numbers are then read with `pread`, so a reader holds no
libhdf5 state, and survives fork, spawn and threads. Files are not trusted: everything that our
format does not use is refused.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_SUPERBLOCK_BYTES = 48
_MAX_ATTRIBUTE_BYTES = 256
_MAX_ATTRIBUTES = 16
_MAX_NAMES_PER_GROUP = 64
_MAX_GROUP_DEPTH = 2
_MAX_AXES = 8
_MIN_WRITE_BYTES = 1 << 20
_MAX_ITEM_BYTES = 64
_IMAGE_NUMBERS = itertools.count()
_PARSER_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""The errors of h5py on damaged metadata, depending on where the damage is."""


@dataclass(frozen=True)
class Extent:
    """The place of an array in its file: contiguous items from `offset_bytes` on."""

    offset_bytes: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one step along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


@dataclass(frozen=True)
class FileLayout:
    """Attributes of a file's root, and the extent of each array by full name (`arrays/pool5`)."""

    attributes: Mapping[str, str | int]
    extents: Mapping[str, Extent]


@dataclass(frozen=True)
class ArrayToWrite:
    """An array to write piece by piece along its first axis; the pieces must fill `shape`."""

    dtype: DTypeLike
    shape: tuple[int, ...]
    pieces: Iterable[Array]


def file_image(attributes: Attributes, arrays: Mapping[str, ArrayToWrite]) -> bytes:
    """The bytes of an HDF5 file with these attributes and contiguous arrays.

    Equal input gives equal bytes with one version of HDF5.
    """
    # Never on disk, but libhdf5 refuses a name that another thread has open.
    name_in_memory = f"image {next(_IMAGE_NUMBERS)}"
    with h5py.File(
        # The core driver keeps the whole file in memory.
        name_in_memory,
        "w",
        driver="core",
        backing_store=False,
        block_size=1 << 20,
        libver=_LIBVER,
    ) as file:
        for name, value in attributes.items():
            file.attrs[name] = (
                np.bytes_(value.encode("ascii")) if isinstance(value, str) else np.int64(value)
            )
        for name, array in arrays.items():
            dataset = file.create_dataset(
                name, array.shape, array.dtype, fill_time="never", track_times=False
            )
            _fill(dataset, array)
        file.flush()
        return bytes(file.id.get_file_image())


def _fill(dataset: h5py.Dataset, array: ArrayToWrite) -> None:
    start = 0
    for piece in _joined_pieces(array.pieces):
        dataset[start : start + len(piece)] = piece
        start += len(piece)
    if start != array.shape[0]:
        raise ValueError(
            f"{dataset.name}: the pieces hold {start} rows, the shape says {array.shape[0]}"
        )


def _joined_pieces(pieces: Iterable[Array]) -> Iterator[Array]:
    """The same rows in larger pieces: a write takes as long for one row as for a thousand."""
    pending: list[Array] = []
    pending_bytes = 0
    for piece in pieces:
        pending.append(piece)
        pending_bytes += piece.nbytes
        if pending_bytes >= _MIN_WRITE_BYTES:
            yield _joined(pending)
            pending, pending_bytes = [], 0
    if any(len(piece) for piece in pending):
        yield _joined(pending)


def _joined(pieces: Sequence[Array]) -> Array:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def read_layout(path: Path) -> FileLayout:
    """The layout of the file at `path`.

    Raises:
        UntrustedFile: links, external or virtual storage, chunks, filters, text or object types,
            odd shapes, or arrays that do not lie inside the file.
        IntegrityError: the file is not an HDF5 file.
    """
    with path.open("rb") as file:
        _check_superblock(path, file.read(_SUPERBLOCK_BYTES), path.stat().st_size)
    return _read_layout(path, path, path.stat().st_size)


def read_layout_checked(
    path: Path, size_bytes: int, read: Callable[[int, memoryview], None]
) -> FileLayout:
    """The same through `read`, which checks what it reads, so libhdf5 sees only correct bytes.

    `read` fills a buffer from an offset on. Raises the errors of `read` and of `read_layout`.
    """
    start = bytearray(min(_SUPERBLOCK_BYTES, size_bytes))
    read(0, memoryview(start))
    _check_superblock(path, bytes(start), size_bytes)
    source = _ReadThrough(size_bytes, read)
    try:
        return _read_layout(path, source, size_bytes)
    except IntegrityError as error:
        # libhdf5 turns an error of ours into one of its own: raise ours.
        raise source.error or error from None


class _ReadThrough(io.RawIOBase):
    """A file object whose bytes come from a function."""

    def __init__(self, size_bytes: int, read: Callable[[int, memoryview], None]) -> None:
        self._size_bytes = size_bytes
        self._read = read
        self._place = 0
        self.error: IntegrityError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size_bytes}
        self._place = origins[whence] + offset
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
    """The same for a file that is not on disk yet; `path` is for error messages."""
    _check_superblock(path, content[:_SUPERBLOCK_BYTES], len(content))
    return _read_layout(path, io.BytesIO(content), len(content))


def _check_superblock(path: Path, start: bytes, size_bytes: int) -> None:
    # Before libhdf5 parses anything: the file must start at its first byte, be of the oldest
    # format, and end where it says it ends.
    signature, version, base, end = start[:8], start[8:9], start[24:32], start[40:48]
    is_ours = signature == _SIGNATURE and version == b"\0" and not any(base)
    if not is_ours:
        raise IntegrityError(path, "is not an HDF5 file of the kind that we write")
    stated_bytes = int.from_bytes(end, "little")
    if stated_bytes != size_bytes:
        raise IntegrityError(path, f"has {size_bytes:,} bytes, its header says {stated_bytes:,}")


def _read_layout(
    path: Path, source: Path | io.BytesIO | _ReadThrough, size_bytes: int
) -> FileLayout:
    try:
        with h5py.File(source, "r", locking=False) as file:
            return FileLayout(
                dict(_attributes(path, file)), dict(_extents(path, file, size_bytes, 0))
            )
    except _PARSER_ERRORS as error:
        raise IntegrityError(path, f"cannot be read as HDF5: {error}") from error


def _attributes(path: Path, root: h5py.Group) -> Iterator[tuple[str, str | int]]:
    if len(root.attrs) > _MAX_ATTRIBUTES:
        raise UntrustedFile(
            path, f"the root has {len(root.attrs)} attributes, we write at most {_MAX_ATTRIBUTES}"
        )
    for name in root.attrs:
        attribute = root.attrs.get_id(name)
        stored = attribute.get_type()
        is_text = _is_fixed_text(stored)
        is_number = isinstance(stored, h5py.h5t.TypeIntegerID)
        if attribute.shape != () or not (is_text or is_number):
            raise UntrustedFile(
                path, f"attribute {name!r} is neither one number nor one text of fixed length"
            )
        # Before the value is read: it could take all memory.
        if stored.get_size() > _MAX_ATTRIBUTE_BYTES:
            raise UntrustedFile(path, f"attribute {name!r} takes {stored.get_size():,} bytes")
        value = root.attrs[name]
        yield name, value.decode("ascii") if is_text else int(value)


def _is_fixed_text(stored: h5py.h5t.TypeID) -> bool:
    """Whether a stored type is bytes of fixed length; text of variable length lies elsewhere."""
    return isinstance(stored, h5py.h5t.TypeStringID) and not stored.is_variable_str()


def _extents(
    path: Path, group: h5py.Group, size_bytes: int, depth: int
) -> Iterator[tuple[str, Extent]]:
    count = len(group)
    if depth > _MAX_GROUP_DEPTH or count > _MAX_NAMES_PER_GROUP:
        raise UntrustedFile(
            path,
            f"group {group.name} holds {count:,} names at depth {depth}; we write fewer",
        )
    for name in group:
        # Before the item is opened: a link would be followed, to any file of this machine.
        link = group.id.links.get_info(name.encode())
        if link.type != h5py.h5l.TYPE_HARD:
            raise UntrustedFile(
                path, f"{group.name} holds {name!r}, which is a link to somewhere else"
            )
        item = group[name]
        # Only groups, plain arrays and hard links exist in our format.
        if isinstance(item, h5py.Group):
            # An attribute could have a type whose parsing is not checked here.
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
        raise UntrustedFile(path, f"{item.name} has attributes; we write them on the root only")


def _extent(path: Path, dataset: h5py.Dataset, size_bytes: int) -> Extent:
    _refuse_storage(path, dataset)
    dtype = _plain_dtype(path, dataset)
    shape = dataset.shape
    if shape is None or not 1 <= len(shape) <= _MAX_AXES or dataset.maxshape != shape:
        raise UntrustedFile(
            path, f"{dataset.name} has the shape {shape} of at most {dataset.maxshape}"
        )
    needed_bytes = dtype.itemsize * math.prod(shape)
    if needed_bytes == 0:
        return Extent(0, dtype, shape)  # HDF5 allocates nothing for it, so it has no offset
    offset = dataset.id.get_offset()
    is_allocated = offset is not None and dataset.id.get_storage_size() == needed_bytes
    if not is_allocated or offset + needed_bytes > size_bytes:
        raise UntrustedFile(
            path,
            f"{dataset.name} claims {shape} of {dtype}, {needed_bytes:,} bytes, which the file "
            "does not hold",
        )
    return Extent(int(offset), dtype, shape)


def _refuse_storage(path: Path, dataset: h5py.Dataset) -> None:
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        raise UntrustedFile(path, f"{dataset.name} keeps its numbers in another file")
    if plan.get_nfilters():
        raise UntrustedFile(path, f"{dataset.name} has a filter; we write none")
    if plan.get_layout() != h5py.h5d.CONTIGUOUS:
        raise UntrustedFile(
            path, f"{dataset.name} is chunked, compact or virtual; we write contiguous arrays"
        )


def _plain_dtype(path: Path, dataset: h5py.Dataset) -> np.dtype[np.generic]:
    stored = dataset.id.get_type()
    is_text = _is_fixed_text(stored)
    is_number = isinstance(stored, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID)
    if not is_text and not is_number:
        raise UntrustedFile(
            path, f"{dataset.name} holds neither plain numbers nor bytes of fixed length"
        )
    dtype: np.dtype[np.generic] = np.dtype(stored.dtype)
    # Equality with numpy's own type also refuses floats of an unusual layout, whose bytes we would
    # misread.
    is_too_large = dtype.itemsize > _MAX_ITEM_BYTES
    if is_too_large or not (is_text or stored.equal(h5py.h5t.py_create(dtype))):
        raise UntrustedFile(
            path, f"{dataset.name} holds {dtype} in a layout that numpy does not have"
        )
    return dtype
