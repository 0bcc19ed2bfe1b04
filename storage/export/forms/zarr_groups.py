"""Exports as Zarr v3: one group for each variant, with the rows of all videos one after the other.

    <variant>/<array>          (R, ...) values of all rows, in the stored type
    <variant>/<array>/values, offsets       of a ragged array: row r has the items
                               [offsets[r], offsets[r+1])
    <variant>/spans            (R, 2) float64 seconds
    <variant>/row_offsets      (V+1,) int64: video i has the rows [row_offsets[i], row_offsets[i+1])

The attribute `video_ids` of a variant's group lists its videos in that order. A group for each
video would be as natural; a catalog of 100,000 videos would then have a million files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from storage.base.records import Array
from storage.export.forms.contract import ExportPlan, ReadBack
from storage.export.source.rows import SPANS, ExportedRows
from storage.features.part_reader import ArrayFormat

ROW_OFFSETS, VIDEO_IDS = "row_offsets", "video_ids"
CHUNK_BYTES = 4 * 1024**2


def refuse_names(name: str, array: ArrayFormat) -> str:
    """Why an array cannot lie beside the tables of a group; empty if it can."""
    if name in (SPANS, ROW_OFFSETS):
        return "an array of that name has another meaning"
    return ""


class ZarrWriter:
    """Appends rows to growing arrays, whole chunks at a time."""

    def __init__(self, plan: ExportPlan) -> None:
        import zarr

        root = zarr.create_group(plan.folder, zarr_format=3)
        self._variants = {
            variant.name: _VariantGroup(root.create_group(variant.name), variant.arrays, plan)
            for variant in plan.selection.variants
            if variant.arrays
        }

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video."""
        for name, rows in variants.items():
            self._variants[name].add(video_id, rows)

    def close(self) -> None:
        """Write the last chunks, the offsets and the ids."""
        for variant in self._variants.values():
            variant.close()


class _VariantGroup:
    """The group of one variant."""

    def __init__(self, group: Any, arrays: Mapping[str, ArrayFormat], plan: ExportPlan) -> None:
        self._group = group
        self._ids: list[str] = []
        self._row_counts: list[int] = []
        self._lengths: dict[str, list[Array]] = {}
        self._arrays = {SPANS: _GrowingArray(group, SPANS, np.dtype(np.float64), (2,))}
        for name, array in arrays.items():
            shape = array.item_shape
            if plan.clip_seconds:
                shape = (math.prod(shape),)
            if array.ragged:
                self._lengths[name] = []
            key = f"{name}/values" if array.ragged else name
            self._arrays[key] = _GrowingArray(group, key, array.dtype, shape)

    def add(self, video_id: str, rows: ExportedRows) -> None:
        self._ids.append(video_id)
        self._row_counts.append(rows.rows)
        for key, array in rows.plain_arrays().items():
            name, _, role = key.partition("/")
            if role == "lengths":
                self._lengths[name].append(array)
            else:
                self._arrays[key].append(array)

    def close(self) -> None:
        for array in self._arrays.values():
            array.close()
        for name, lengths in self._lengths.items():
            self._table(f"{name}/offsets", np.concatenate([np.zeros(0, np.int64), *lengths]))
        self._table(ROW_OFFSETS, np.array(self._row_counts, np.int64))
        self._group.attrs[VIDEO_IDS] = self._ids

    def _table(self, name: str, lengths: Array) -> None:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        table = self._group.create_array(name, shape=offsets.shape, dtype=offsets.dtype)
        table[:] = offsets


class _GrowingArray:
    """An array that grows by rows, and is written in whole chunks."""

    def __init__(
        self, group: Any, name: str, dtype: np.dtype[np.generic], item_shape: tuple[int, ...]
    ) -> None:
        row_bytes = max(1, math.prod(item_shape) * dtype.itemsize)
        self._chunk_rows = max(1, CHUNK_BYTES // row_bytes)
        self._waiting: list[Array] = []
        self._waiting_rows = 0
        self._rows = 0
        self._array = group.create_array(
            name,
            shape=(0, *item_shape),
            dtype=dtype,
            chunks=(self._chunk_rows, *(max(1, size) for size in item_shape)),
        )

    def append(self, rows: Array) -> None:
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= self._chunk_rows:
            joined = np.concatenate(self._waiting)
            whole = self._waiting_rows - self._waiting_rows % self._chunk_rows
            self._write(joined[:whole])
            self._waiting, self._waiting_rows = [joined[whole:]], len(joined) - whole

    def close(self) -> None:
        if self._waiting_rows:
            self._write(np.concatenate(self._waiting))

    def _write(self, rows: Array) -> None:
        first = self._rows
        self._rows += len(rows)
        self._array.resize((self._rows, *self._array.shape[1:]))
        self._array[first:] = rows


def read_zarr(plan: ExportPlan) -> ReadBack:
    """Every video of the export, as zarr reads it."""
    import zarr

    root: Any = zarr.open_group(plan.folder, mode="r")
    for variant in plan.selection.variants:
        if not variant.arrays:
            continue
        group = root[variant.name]
        bounds = group[ROW_OFFSETS][:]
        item_bounds = {
            name: group[f"{name}/offsets"][:]
            for name, array in variant.arrays.items()
            if array.ragged
        }
        for number, video_id in enumerate(group.attrs[VIDEO_IDS]):
            first, stop = int(bounds[number]), int(bounds[number + 1])
            plain = dict(_rows_of(group, variant.arrays, item_bounds, first, stop))
            yield variant.name, video_id, plain


def _rows_of(
    group: Any,
    arrays: Mapping[str, ArrayFormat],
    item_bounds: Mapping[str, Array],
    first: int,
    stop: int,
) -> Iterator[tuple[str, Array]]:
    yield SPANS, group[SPANS][first:stop]
    for name, array in arrays.items():
        if not array.ragged:
            yield name, group[name][first:stop]
            continue
        offsets = item_bounds[name][first : stop + 1]
        yield f"{name}/values", group[f"{name}/values"][int(offsets[0]) : int(offsets[-1])]
        yield f"{name}/lengths", np.diff(offsets)
