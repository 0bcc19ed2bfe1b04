"""The rows of one video as an export writes them: as stored, or as means of clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.base.records import Array, Ragged
from storage.export.source.clips import clip_means, clip_rows
from storage.export.source.selection import VariantChoice
from storage.features.lazy_arrays import VideoHandle

SPANS = "spans"


@dataclass(frozen=True)
class ExportedRows:
    """One video of one variant, ready to be written."""

    video_id: str
    spans: NDArray[np.float64]
    """`(rows, 2)`: `[start, end)` of each row or clip in seconds."""
    arrays: Mapping[str, Array | Ragged]
    rows_stored: int
    filled: int = 0
    """How many of its clips no stored row overlaps."""
    duration_seconds: float | None = None
    """The duration that gave the number of clips; None for rows as stored."""

    @property
    def rows(self) -> int:
        """Number of rows or clips."""
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes of all values and spans."""
        return sum(array.nbytes for array in self.plain_arrays().values())

    def plain_arrays(self) -> dict[str, Array]:
        """Spans and arrays by name; a ragged array gives two, `NAME/values` and `NAME/lengths`."""
        plain: dict[str, Array] = {SPANS: self.spans}
        for name, array in self.arrays.items():
            if isinstance(array, Ragged):
                plain[f"{name}/values"] = array.values
                plain[f"{name}/lengths"] = array.lengths
            else:
                plain[name] = array
        return plain


def read_rows(variant: VariantChoice, video_id: str, clip_seconds: float) -> ExportedRows:
    """The chosen arrays of a video that has features, read from the store and checked.

    Raises:
        IntegrityError: the store is damaged.
    """
    handle = variant.reader[video_id]
    arrays = {name: handle[name][:] for name in variant.arrays}
    spans = handle.spans
    if not clip_seconds:
        return ExportedRows(video_id, spans, arrays, len(spans))
    duration_seconds = _duration(variant, video_id, handle)
    clips = clip_rows(spans, duration_seconds, clip_seconds)
    means: dict[str, Array | Ragged] = {
        name: clip_means(array, clips)
        for name, array in arrays.items()
        if not isinstance(array, Ragged)  # a selection with clips holds none
    }
    return ExportedRows(video_id, clips.spans, means, len(spans), clips.filled, duration_seconds)


def _duration(variant: VariantChoice, video_id: str, handle: VideoHandle) -> float:
    """The end of the last decoded frame if it is recorded, else that of the last row.

    It is the same for all variants that were made from one decode, so they get equal numbers of
    clips although their last rows end at different times.
    """
    decode = variant.reader.entry(video_id).facts.get("decode")
    recorded = decode.get("end_seconds") if isinstance(decode, dict) else None
    if isinstance(recorded, float) and 0 < recorded < np.inf:
        return recorded
    return float(handle.spans[:, 1].max())
