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
"""Keeps the relative error of a row of zeros finite."""


@dataclass
class Comparison:
    """The result for one array, over all compared rows."""

    name: str
    tolerance: float = 0.0
    """Largest allowed error of a row, relative to its largest value."""
    rows: int = 0
    equal: int = 0
    max_error: float = 0.0
    max_relative: float = 0.0
    cosines: list[float] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    """A description of each row whose error is above the tolerance."""

    def add(self, row: str, stored: Array, computed: Array) -> None:
        """Compare one row. It differs if its error is above the tolerance."""
        self.rows += 1
        if stored.shape != computed.shape:
            self.max_error = self.max_relative = math.inf
            self.differing.append(f"{row} ({stored.shape} stored, {computed.shape} made)")
            return
        self.equal += int(np.array_equal(stored, computed))
        ours, theirs = (values.astype(np.float64).reshape(-1) for values in (stored, computed))
        error = float(np.abs(ours - theirs).max(initial=0.0))
        relative = error / max(float(np.abs(ours).max(initial=0.0)), _TINY)
        self.max_error = max(self.max_error, error)
        self.max_relative = max(self.max_relative, relative)
        self.cosines.append(cosine(ours, theirs))
        # Written so that NaN, which compares false with everything, counts as differing.
        is_within = relative <= self.tolerance
        if not is_within:
            self.differing.append(
                f"{row} (relative error {relative:.1e}, cosine {self.cosines[-1]:.4f})"
            )

    def __str__(self) -> str:
        lowest = median = "none"
        if self.cosines:
            lowest, median = f"{min(self.cosines):.6f}", f"{np.median(self.cosines):.6f}"
        return (
            f"{self.name}: {self.rows} rows, {self.equal} equal bit by bit, "
            f"{len(self.differing)} differ; max error {self.max_error:.3g} "
            f"({self.max_relative:.1e} relative), cosine lowest {lowest} median {median}"
        )


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Cosine similarity of two flat arrays; 1 if both are all zeros or empty."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0:
        return float(not one.any() and not other.any())
    return float(one @ other) / norms


def row_of(array: ArrayHandle, number: int) -> Array:
    """One stored row; of a ragged array the row's own items."""
    row = array[number]
    return row.values if isinstance(row, Ragged) else row


def compare_with_file(
    reader: VariantReader, path: Path, array: str, video_id: str
) -> Iterator[Comparison]:
    """Compare stored rows with a published file, row by row from the first.

    Yields one comparison per dataset of the file. Its video is `video_id`; if that is empty, the
    part of the dataset's name that is an id of ours (`ID`, `c3d/ID`, `ID/pool5`). Datasets of other
    videos are skipped, and those named after another array of ours.
    """
    for name, values in read_arrays(path):
        parts = name.split("/")
        named_id = video_id or next((part for part in parts if part in reader), "")
        if not named_id:
            continue
        video = reader[named_id]
        other_arrays = set(video.arrays) - {array}
        if other_arrays.intersection(parts):
            continue
        ours = video[array]
        # Somebody else's features have no tolerance: how far they differ is the result.
        comparison = Comparison(
            f"{named_id} {array} ({len(ours)} rows here, {len(values)} in {name})", math.inf
        )
        for number in range(min(len(ours), len(values))):
            our_row = row_of(ours, number).reshape(-1)
            their_row = np.asarray(values[number]).reshape(-1)
            comparison.add(f"{named_id}[{number}]", our_row, their_row)
        yield comparison
