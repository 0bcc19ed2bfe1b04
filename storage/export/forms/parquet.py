"""Exports as Parquet: one row for each stored row, one folder for each variant.

Columns: `video_id`, `start_seconds`, `end_seconds`, and one for each array. A row of an array is a
list of numbers, flattened in C order; a row of a ragged array is a list of items, each a list, or
a number if items have no shape. JPEG rows are bytes. float16 becomes float32, which holds the same
values: several readers give bytes for float16, or cannot add it. Hugging Face's form is the same
with a head in the card that names the files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.base.records import Array
from storage.export.forms.contract import ExportPlan, Plain, ReadBack
from storage.export.source.rows import SPANS, ExportedRows
from storage.export.source.selection import VariantChoice
from storage.features.part_reader import ArrayFormat

if TYPE_CHECKING:
    import pyarrow as pa

JPEG = "jpeg"
"""Name of the ragged array whose rows are whole JPEG files."""
ID, START, END = "video_id", "start_seconds", "end_seconds"
BATCH_BYTES = 64 * 1024**2
"""Rows of so many bytes become one row group. Offsets of lists are 32 bits."""
FILE_BYTES = 512 * 1024**2
"""A file that has grown above this is closed, and the next one begun."""


def refuse_columns(name: str, array: ArrayFormat) -> str:
    """Why an array cannot be a column; empty if it can."""
    if name in (ID, START, END):
        return "a column of that name has another meaning"
    if 0 in array.item_shape:
        return f"its items have the shape {array.item_shape}, so they hold nothing"
    return ""


def _is_jpeg(name: str, array: ArrayFormat) -> bool:
    return name == JPEG and array.ragged and array.dtype == np.uint8 and not array.item_shape


def parquet_rows(plan: ExportPlan, rows: ExportedRows) -> Plain:
    """The arrays as numbers of the columns: float32 for float16, items flattened."""
    plain: dict[str, Array] = {}
    for name, array in rows.plain_arrays().items():
        is_list = name != SPANS and not name.endswith("/lengths")
        flat = array.reshape(len(array), math.prod(array.shape[1:])) if is_list else array
        plain[name] = flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return plain


class ParquetWriter:
    """Writes the rows of every variant into files of its own."""

    def __init__(self, plan: ExportPlan) -> None:
        self._files = {
            variant.name: _VariantFiles(plan.folder / variant.name, variant)
            for variant in plan.selection.variants
        }
        self._plan = plan

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video."""
        for name, rows in variants.items():
            self._files[name].add(video_id, parquet_rows(self._plan, rows))

    def close(self) -> None:
        """Write the last row groups."""
        for files in self._files.values():
            files.close()


class _VariantFiles:
    """The files of one variant."""

    def __init__(self, folder: Path, variant: VariantChoice) -> None:
        self._folder = folder
        self._variant = variant
        self._waiting: list[tuple[str, Plain]] = []
        self._waiting_bytes = 0
        self._number = 0
        self._writer: Any = None
        self._written_bytes = 0

    def add(self, video_id: str, plain: Plain) -> None:
        size = sum(array.nbytes for array in plain.values())
        if size > BATCH_BYTES:  # one video alone: in groups of its rows
            self._flush()
            for piece in _pieces(plain, math.ceil(size / BATCH_BYTES)):
                self._waiting.append((video_id, piece))
                self._waiting_bytes = sum(array.nbytes for array in piece.values())
                self._flush()
            return
        if self._waiting_bytes + size > BATCH_BYTES:
            self._flush()
        self._waiting.append((video_id, plain))
        self._waiting_bytes += size

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if not self._waiting:
            return
        import pyarrow.parquet as pq

        table = _table(self._variant, self._waiting)
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"part-{self._number:05d}.parquet"
            # A dictionary takes NaN for NaN and so may change its bits; lists gain nothing by it.
            self._writer = pq.ParquetWriter(path, table.schema, use_dictionary=[ID])
            self._number += 1
            self._written_bytes = 0
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._written_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0
        if self._written_bytes > FILE_BYTES:
            self._writer.close()
            self._writer = None


def _pieces(plain: Plain, count: int) -> Iterator[Plain]:
    """The rows of one video in so many pieces."""
    bounds = np.linspace(0, len(plain[SPANS]), count + 1).astype(int)
    for first, stop in pairwise(bounds):
        piece: dict[str, Array] = {}
        for name, array in plain.items():
            array_name, _, role = name.partition("/")
            if role != "values":
                piece[name] = array[first:stop]
                continue
            lengths = plain[f"{array_name}/lengths"]
            start = int(lengths[:first].sum())
            piece[name] = array[start : start + int(lengths[first:stop].sum())]
        if stop > first:
            yield piece


def _table(variant: VariantChoice, videos: list[tuple[str, Plain]]) -> pa.Table:
    import pyarrow as pa

    joined = {name: np.concatenate([plain[name] for _, plain in videos]) for name in videos[0][1]}
    counts = [len(plain[SPANS]) for _, plain in videos]
    ids = np.repeat([video_id for video_id, _ in videos], counts)
    columns: dict[str, Any] = {
        ID: pa.array(ids.tolist(), pa.string()),
        START: pa.array(joined[SPANS][:, 0]),
        END: pa.array(joined[SPANS][:, 1]),
    }
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    for name, array in variant.arrays.items():
        columns[name] = _column(name, array, joined)
        described = {
            "stored_dtype": array.dtype.name,
            "item_shape": ",".join(map(str, array.item_shape)),
        }
        fields.append(pa.field(name, columns[name].type, metadata=described))
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _column(name: str, array: ArrayFormat, joined: Plain) -> Any:
    import pyarrow as pa

    if not array.ragged:
        return _lists(joined[name])
    values, lengths = joined[f"{name}/values"], joined[f"{name}/lengths"]
    offsets = _offsets(lengths)
    if _is_jpeg(name, array):
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
        return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)
    items = _lists(values) if array.item_shape else pa.array(values.reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), items)


def _lists(rows: Array) -> Any:
    """`(rows, size)` as a list for each row."""
    import pyarrow as pa

    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths).astype(np.int32)])


def read_parquet(plan: ExportPlan) -> ReadBack:
    """Every video of the export, as pyarrow reads it."""
    for variant in plan.selection.variants:
        pieces: list[Plain] = []
        current = ""
        for video_id, piece in _read_pieces(plan.folder / variant.name, variant):
            if video_id != current and pieces:
                yield variant.name, current, _joined(pieces)
                pieces = []
            current = video_id
            pieces.append(piece)
        if pieces:
            yield variant.name, current, _joined(pieces)


def _joined(pieces: list[Plain]) -> Plain:
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _read_pieces(folder: Path, variant: VariantChoice) -> Iterator[tuple[str, Plain]]:
    """Consecutive rows of one video in one row group."""
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group).combine_chunks()
                ids = np.array(table[ID].to_pylist())
                starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
                for first, stop in zip(starts, np.r_[starts[1:], len(ids)], strict=True):
                    part = table.slice(int(first), int(stop - first))
                    yield str(ids[first]), _numbers(part, variant)


def _numbers(table: pa.Table, variant: VariantChoice) -> Plain:
    plain: dict[str, Array] = {
        SPANS: np.stack([table[START].to_numpy(), table[END].to_numpy()], axis=1)
    }
    for name, array in variant.arrays.items():
        column = table[name].combine_chunks()
        if not array.ragged:
            plain[name] = _numbers_of(column.flatten()).reshape(table.num_rows, -1)
            continue
        if _is_jpeg(name, array):
            rows = column.to_pylist()
            plain[f"{name}/values"] = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 1)
            plain[f"{name}/lengths"] = np.array([len(row) for row in rows], np.int64)
            continue
        lengths = np.diff(column.offsets.to_numpy()).astype(np.int64)
        items = column.flatten()
        values = _numbers_of(items.flatten() if array.item_shape else items)
        plain[f"{name}/values"] = values.reshape(-1, math.prod(array.item_shape))
        plain[f"{name}/lengths"] = lengths
    return plain


def _numbers_of(column: Any) -> Array:
    numbers: Array = column.to_numpy(zero_copy_only=False)
    return numbers


def hub_files(plan: ExportPlan) -> Mapping[str, str]:
    """Name of each part of the data set → pattern of its files, for `load_dataset`."""
    return {
        variant.name: f"{variant.name}/*.parquet"
        for variant in plan.selection.variants
        if variant.arrays
    }
