"""Checks that the rows of an extractor are what its spec says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.extractors.base.contract import ArraySpec


def row_faults(
    rows: Mapping[str, Sequence[Any]], arrays: Mapping[str, ArraySpec], windows: int
) -> Iterator[str]:
    """A sentence for each way in which `rows`, from one call of `extract`, break the contract.

    `arrays` are those of the spec, `windows` is how many windows the call was given.
    """
    if rows.keys() != arrays.keys():
        yield (
            f"extract gives the arrays {', '.join(sorted(map(str, rows))) or 'none'}, "
            f"its spec says {', '.join(sorted(arrays))}"
        )
        return
    for name, array_spec in arrays.items():
        fault = _array_fault(name, rows[name], array_spec, windows)
        if fault:
            yield fault


def _array_fault(name: str, rows: Sequence[Any], spec: ArraySpec, windows: int) -> str:
    if len(rows) != windows:
        return (
            f"{name}: {windows} {'row' if windows == 1 else 'rows'} expected, one for each window; "
            f"got {len(rows)}"
        )
    faults = (_row_fault(row, spec) for row in rows)
    fault = next(filter(None, faults), "")
    return f"{name}: {fault}" if fault else ""


def _row_fault(row: Any, spec: ArraySpec) -> str:
    """What is wrong with the kind of one row, empty if nothing."""
    if not isinstance(row, np.ndarray | np.generic):
        kind = f"{type(row).__module__}.{type(row).__qualname__}"
        return f"a row is a {kind}; give a numpy array, of a tensor `tensor.cpu().numpy()`"
    item_shape = row.shape[1:] if spec.ragged else row.shape
    if row.ndim != len(spec.item_shape) + spec.ragged or item_shape != tuple(spec.item_shape):
        items = "(items, ...)" if spec.ragged else ""
        return (
            f"a row has the shape {row.shape}, its ArraySpec says {tuple(spec.item_shape)}"
            f"{f' for each item of {items}' if items else ''}"
        )
    wanted = np.dtype(spec.dtype)
    is_cast = row.dtype.kind == wanted.kind == "f"
    if row.dtype != wanted and not is_cast:
        return (
            f"a row has the dtype {row.dtype}, its ArraySpec says {wanted}; "
            "only one kind of float is turned into another"
        )
    return ""
