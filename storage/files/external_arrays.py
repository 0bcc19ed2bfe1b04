"""Arrays that somebody else published, for comparing with ours: `.npy`, or the datasets of an HDF5
file.

Reads numbers and nothing else: no pickled object, no link, no dataset that lies in another file, no
plugin filter.
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
"""Of one array."""
MAX_NAMES = 1_000_000
_DEEPEST = 3
_NUMBERS = "fiu"


def read_arrays(path: Path) -> Iterator[tuple[str, Array]]:
    """Each array of a file with its name, one at a time; that of a `.npy` file is named after the
    file.

    Raises UntrustedFile for a file that is neither, or holds more than numbers.
    """
    try:
        if path.suffix == ".npy":
            yield (
                path.stem,
                _checked(path, path.stem, np.load(path, mmap_mode="r", allow_pickle=False)),
            )
        else:
            with h5py.File(path, "r", locking=False) as file:
                for count, (name, dataset) in enumerate(_datasets(path, file, "", 0)):
                    if count >= MAX_NAMES:
                        raise UntrustedFile(path, f"has more than {MAX_NAMES} datasets")
                    yield name, _checked(path, name, dataset)[()]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UntrustedFile(path, f"is no readable .npy or HDF5 file: {error}") from error


def _datasets(path: Path, group: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink) or depth > _DEEPEST:
            raise UntrustedFile(
                path, f"{prefix}{name} is a link, or nested deeper than {_DEEPEST} groups"
            )
        found = group[name]
        if isinstance(found, h5py.Group):
            yield from _datasets(path, found, f"{prefix}{name}/", depth + 1)
        elif isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise UntrustedFile(path, f"{prefix}{name} lies in another file")
            yield f"{prefix}{name}", found


def _checked(path: Path, name: str, array: Any) -> Any:
    if (
        array.dtype.kind not in _NUMBERS
        or array.ndim < 1
        or array.size * array.dtype.itemsize > MAX_BYTES
    ):
        raise UntrustedFile(
            path,
            f"{name} is {array.dtype} {array.shape}; expected numbers, at most {MAX_BYTES:,} bytes",
        )
    return array
