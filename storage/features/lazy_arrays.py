"""Handles of one video and of one array of it, which read rows when they are sliced.

A handle compares the rows with those on record. Which part it reads is decided in `store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import DTypeLike, NDArray

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.records import Array, FeatureTrack, Ragged
from storage.features.part_reader import ArrayFormat, PartReader


class VideoHandle(Mapping[str, "ArrayHandle"]):
    """One video's rows in a part: array name → the array, read when sliced."""

    def __init__(self, part: PartReader, video_id: str, rows: int, digest: str) -> None:
        """`rows` and `digest` are those in the manifest.

        Raises:
            IntegrityError: the part has other ones.
        """
        self.video_id = video_id
        self._part = part
        self._start, self._end = part.table.rows_of(video_id)
        # An old manifest beside new parts, or the reverse, is noticed here.
        stored = (self._end - self._start, part.table.stored_digest(video_id))
        if stored != (rows, digest):
            raise IntegrityError(
                part.path, f"its rows of {video_id} are not those of the manifest; run audit --deep"
            )

    def __repr__(self) -> str:
        return f"VideoHandle({self.video_id}, {self.rows} rows, {', '.join(self.arrays)})"

    @property
    def rows(self) -> int:
        """Number of rows of every array."""
        return self._end - self._start

    @property
    def spans(self) -> NDArray[np.float64]:
        """`(rows, 2)`: `[start, end)` of each row in seconds."""
        return self._part.table.spans(self._start, self._end)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Names of the arrays, ascending."""
        return tuple(sorted(self._part.table.formats))

    def track(self) -> FeatureTrack:
        """All rows of all arrays, in memory."""
        return self._part.track(self.video_id)

    def __getitem__(self, name: str) -> ArrayHandle:
        """One array. Raises LookupFailed, which lists the names."""
        if name not in self._part.table.formats:
            raise LookupFailed(
                f"{self.video_id} has no array {name!r}; it has {', '.join(self.arrays)}"
            )
        return ArrayHandle(self._part, name, self._start, self._end)

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


class ArrayHandle:
    """One array of a video. `handle[a:b]` reads only those rows; a ragged array gives a Ragged."""

    def __init__(self, part: PartReader, name: str, start: int, end: int) -> None:
        self.name = name
        self._part = part
        self._start, self._end = start, end

    def __repr__(self) -> str:
        return f"ArrayHandle({self.name}, {self.dtype} {self.shape})"

    @property
    def format(self) -> ArrayFormat:
        """dtype, shape of an item, and whether the array is ragged."""
        return self._part.table.formats[self.name]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of one item."""
        return self.format.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """`(rows, ...)`; `(rows,)` if ragged."""
        return (len(self),) if self.format.ragged else (len(self), *self.format.item_shape)

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, rows: int | slice) -> Array | Ragged:
        """A row (for a ragged array: its items) by number, or rows by slice. Raises IndexError."""
        if not isinstance(rows, slice):
            return self._row(rows)
        first, stop, step = rows.indices(len(self))
        if step != 1:
            return self._strided_rows(range(first, stop, step))
        return self._contiguous_rows(first, max(first, stop))

    def _row(self, row: int) -> Array:
        # A range refuses numbers outside, and counts negative ones from the end.
        number = range(len(self))[row]
        rows = self._contiguous_rows(number, number + 1)
        return rows.values if isinstance(rows, Ragged) else rows[0]

    def _contiguous_rows(self, first: int, stop: int) -> Array | Ragged:
        return self._part.table.rows(self.name, self._start + first, self._start + stop)

    def _strided_rows(self, numbers: range) -> Array:
        # One read of everything between: rows are small, and calls are what costs.
        lowest = min(numbers, default=0)
        behind = max(numbers, default=-1) + 1
        rows = self._contiguous_rows(lowest, behind)
        if isinstance(rows, Ragged):
            raise IndexError(f"{self.name} is ragged; it takes slices of step 1")
        return rows[[number - lowest for number in numbers]]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self.format.ragged:
            raise TypeError(
                f"{self.name} is ragged, so it cannot be one array; [:] gives a Ragged with "
                ".values and .lengths"
            )
        # numpy 2 asks with copy=False for an array without copying.
        if copy is False:
            raise ValueError(f"{self.name} lies on disk; reading it always copies")
        return np.asarray(self[:], dtype=dtype)
