"""Reads arrays that others published, to compare with ours: from `.npy` or HDF5 files.

Only numbers are read: no pickled objects, links, datasets in other files, or plugin filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # after storage.files.hdf5, which the package imports first and which forbids plugins
import numpy as np

from storage.base.errors import UntrustedFile
from storage.base.records import Array

MAX_BYTES = 2 * 1024**3
"""Limit of one array."""
MAX_NAMES = 1_000_000
_MAX_DEPTH = 3
_NUMBER_KINDS = "fiu"


def read_arrays(path: Path) -> Iterator[tuple[str, Array]]:
    """Each array of a file with its name, one at a time; a `.npy` array has the file's name.

    Raises:
        UntrustedFile: the file is of neither format, or holds more than numbers.
    """
    try:
        if path.suffix == ".npy":
            # A memory map: its shape is checked before its bytes are read.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            yield path.stem, _checked(path, path.stem, array)
        else:
            yield from _read_hdf5(path)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UntrustedFile(path, f"is not a readable .npy or HDF5 file: {error}") from error


def _read_hdf5(path: Path) -> Iterator[tuple[str, Array]]:
    with h5py.File(path, "r", locking=False) as file:
        for count, (name, dataset) in enumerate(_datasets(path, file, "", 0)):
            if count >= MAX_NAMES:
                raise UntrustedFile(path, f"has more than {MAX_NAMES} datasets")
            yield name, _checked(path, name, dataset)[()]


def _datasets(path: Path, group: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name in group:
        full_name = f"{prefix}{name}"
        # A link could lead to any file of this machine, or around in a circle.
        is_hard_link = isinstance(group.get(name, getlink=True), h5py.HardLink)
        if not is_hard_link or depth > _MAX_DEPTH:
            raise UntrustedFile(
                path, f"{full_name} is a link, or nested deeper than {_MAX_DEPTH} groups"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(path, item, f"{full_name}/", depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UntrustedFile(path, f"{full_name} lies in another file")
            yield full_name, item


def _checked(path: Path, name: str, array: Any) -> Any:
    """The array itself; its header is checked before a byte of it is read."""
    size_bytes = array.size * array.dtype.itemsize
    is_numeric = array.dtype.kind in _NUMBER_KINDS
    if not is_numeric or array.ndim < 1 or size_bytes > MAX_BYTES:
        raise UntrustedFile(
            path,
            f"{name} is {array.dtype} {array.shape}; expected numbers, at most {MAX_BYTES:,} bytes",
        )
    return array
