"""Exports as numpy files: `npz`, as UMT, Moment-DETR and lighthouse read it, and `npy`.

npz   <variant>/<array>/<id>.npz         `features`; of rows as stored `spans` too
npy   <variant>/<array>/<id>.npy         values; of a ragged array all items, one after the other
      <variant>/<array>/<id>.lengths.npy number of items of each row, only of a ragged array
      <variant>/<id>.spans.npy           (rows, 2) float64 seconds
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from storage.base.records import Array, Ragged
from storage.export.forms.contract import ExportPlan, Plain, ReadBack
from storage.export.source.rows import SPANS, ExportedRows
from storage.features.part_reader import ArrayFormat

FEATURES = "features"


def refuse_ragged(name: str, array: ArrayFormat) -> str:
    """Why an array has no form `(rows, dim)`; empty if it has."""
    if array.ragged:
        return "its rows differ in length; use another form"
    return refuse_spans(name, array)


def refuse_spans(name: str, array: ArrayFormat) -> str:
    """Why an array cannot lie beside the spans; empty if it can."""
    return "spans have another meaning" if name == SPANS else ""


def plain_rows(plan: ExportPlan, rows: ExportedRows) -> Plain:
    """All arrays and spans, as they are."""
    return rows.plain_arrays()


def npz_rows(plan: ExportPlan, rows: ExportedRows) -> Plain:
    """All arrays; spans only of rows as stored, since those of clips follow from their length."""
    plain = rows.plain_arrays()
    if plan.clip_seconds:
        del plain[SPANS]
    return plain


class NpzWriter:
    """Writes one `.npz` for each array of each video."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video."""
        for variant, rows in variants.items():
            for name, array in rows.arrays.items():
                members = {FEATURES: _flat(array)}
                if not self._plan.clip_seconds:
                    members[SPANS] = rows.spans
                path = _made(self._plan.folder / variant / name / f"{video_id}.npz")
                # `x`: ids that differ only in case would share a file on some file systems.
                with path.open("xb") as file:
                    np.savez(file, **members)  # type: ignore[arg-type]

    def close(self) -> None:
        """Nothing is left to write."""


def _flat(array: Array | Ragged) -> Array:
    if isinstance(array, Ragged):
        raise TypeError("a ragged array has no place in an .npz; the selection refuses it")
    return np.ascontiguousarray(array)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def read_npz(plan: ExportPlan) -> ReadBack:
    """Every video of an `npz` export, as `np.load` reads it."""
    for variant in plan.selection.variants:
        for video_id in plan.selection.done_ids(variant):
            plain: dict[str, Array] = {}
            for name in variant.arrays:
                path = plan.folder / variant.name / name / f"{video_id}.npz"
                with np.load(path, allow_pickle=False) as members:
                    plain[name] = members[FEATURES]
                    if SPANS in members:
                        plain[SPANS] = members[SPANS]
            yield variant.name, video_id, plain


class NpyWriter:
    """Writes one `.npy` for each array of each video, and one with its spans."""

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video."""
        for variant, rows in variants.items():
            for name, array in rows.plain_arrays().items():
                path = _made(_npy_path(self._plan.folder / variant, video_id, name))
                with path.open("xb") as file:
                    np.save(file, np.ascontiguousarray(array), allow_pickle=False)

    def close(self) -> None:
        """Nothing is left to write."""


def _npy_path(folder: Path, video_id: str, name: str) -> Path:
    if name == SPANS:
        return folder / f"{video_id}.spans.npy"
    array, _, role = name.partition("/")
    suffix = ".lengths.npy" if role == "lengths" else ".npy"
    return folder / array / f"{video_id}{suffix}"


def read_npy(plan: ExportPlan) -> ReadBack:
    """Every video of an `npy` export, as `np.load` reads it."""
    for variant in plan.selection.variants:
        names = [SPANS]
        for name, array in variant.arrays.items():
            names += [f"{name}/values", f"{name}/lengths"] if array.ragged else [name]
        for video_id in plan.selection.done_ids(variant):
            yield (
                variant.name,
                video_id,
                {
                    name: np.load(
                        _npy_path(plan.folder / variant.name, video_id, name), allow_pickle=False
                    )
                    for name in names
                },
            )
