"""Comparison of feature rows: how many are equal bit by bit, and by how much the others differ."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.records import Array, Ragged
from storage.features.lazy_arrays import ArrayHandle
from storage.features.store import VariantReader
from storage.files.external_arrays import read_arrays

_TINY = 1e-12


@dataclass
class Comparison:
    """One array, over all rows that were compared."""

    name: str
    tolerance: float = 0.0
    rows: int = 0
    equal: int = 0
    max_error: float = 0.0
    max_relative: float = 0.0
    cosines: list[float] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def add(self, row: str, stored: Array, made: Array) -> None:
        """Compare one row; it differs if its error is beyond the tolerance."""
        self.rows += 1
        if stored.shape != made.shape:
            self.max_error = self.max_relative = math.inf
            self.differing.append(f"{row} ({stored.shape} stored, {made.shape} made)")
            return
        one, other = (values.astype(np.float64).reshape(-1) for values in (stored, made))
        self.equal += int(np.array_equal(stored, made))
        error = float(np.abs(one - other).max(initial=0.0))
        relative = error / max(float(np.abs(one).max(initial=0.0)), _TINY)
        self.max_error, self.max_relative = (
            max(self.max_error, error),
            max(self.max_relative, relative),
        )
        self.cosines.append(cosine(one, other))
        if not relative <= self.tolerance:
            self.differing.append(
                f"{row} (relative error {relative:.1e}, cosine {self.cosines[-1]:.4f})"
            )

    def __str__(self) -> str:
        lowest = f"{min(self.cosines):.6f}" if self.cosines else "none"
        median = f"{np.median(self.cosines):.6f}" if self.cosines else "none"
        return (
            f"{self.name}: {self.rows} rows, {self.equal} equal bit by bit, {len(self.differing)} differ; "
            f"max error {self.max_error:.3g} ({self.max_relative:.1e} relative), cosine lowest {lowest} median {median}"
        )


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Of two flat arrays; 1 if both are all zeros or empty."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0:
        return float(not one.any() and not other.any())
    return float(one @ other) / norms


def row_of(array: ArrayHandle, number: int) -> Array:
    """One stored row; of a ragged array the row's own items."""
    found = array[number]
    return found.values if isinstance(found, Ragged) else found


def compare_with_file(
    reader: VariantReader, path: Path, array: str, video_id: str
) -> Iterator[Comparison]:
    """Compare stored rows with arrays of a published file, row by row from the first: one
    Comparison a dataset.

    A dataset belongs to the video that is a piece of its name (`ID`, `c3d/ID`, `ID/pool5`); all
    belong to `video_id` if that is given. A dataset that is named after another array of ours is
    left out.
    """
    for name, values in read_arrays(path):
        pieces = name.split("/")
        found = video_id or next((piece for piece in pieces if piece in reader), "")
        if not found or set(pieces) & set(reader[found].arrays) - {array}:
            continue
        ours = reader[found][array]
        comparison = Comparison(
            f"{found} {array} ({len(ours)} rows here, {len(values)} in {name})", math.inf
        )
        for number in range(min(len(ours), len(values))):
            comparison.add(
                f"{found}[{number}]",
                row_of(ours, number).reshape(-1),
                np.asarray(values[number]).reshape(-1),
            )
        yield comparison
