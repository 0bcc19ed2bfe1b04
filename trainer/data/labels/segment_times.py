"""Times of a video's annotated segments in the downloaded file, in seconds.

Annotations in seconds hold them already. Annotations in frame numbers of an original file were
aligned when features were extracted, with one row for each segment: the times of those rows count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from storage.features.store import FeatureStore, VariantReader
from trainer.data.labels.annotator_labels import AnnotatedVideo
from trainer.data.sources.intervals import Intervals

SEGMENT_ARRAY = "segment"
"""The array of a variant whose rows are annotated segments: their numbers in the catalog's
table.
"""


class SegmentTimes:
    """The segment times of one catalog and its store. Pickles without an open file."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._catalog, self._folder = catalog.name, folder
        self._is_seconds = catalog.time_unit == "seconds"
        self._reader = _segment_variant(folder, catalog)

    @property
    def is_available(self) -> bool:
        """Whether the times are known: from the annotations, or from a variant of segment rows."""
        return self._is_seconds or self._reader is not None

    def seconds(self, video_id: str, annotated: AnnotatedVideo) -> Intervals:
        """`(N, 2)`: start and end of each annotated segment; NaN for one that the file lacks.

        Raises SettingsError if the times are not known.
        """
        if not self.is_available:
            raise SettingsError(
                (
                    f"annotations of {self._catalog} count frames of the original files, and no "
                    f"features in {self._folder} hold the times of its segments: extract features "
                    "with a row for each annotated segment, such as c3d.segments",
                )
            )
        is_aligned = self._reader is not None and video_id in self._reader
        # Aligned times are better than annotated seconds: they lie on frames of this file.
        if annotated.numbers is None or (self._is_seconds and not is_aligned):
            return annotated.spans
        seconds = np.full(annotated.spans.shape, np.nan)
        if self._reader is not None and is_aligned:
            video = self._reader[video_id]
            rows, positions = match_rows(np.asarray(video[SEGMENT_ARRAY]), annotated)
            seconds[positions] = video.spans[rows]
        return seconds


def match_rows(
    segments: NDArray[np.int64], annotated: AnnotatedVideo
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a feature row and the annotated segment that it describes.

    `segments` `(rows,)` holds the segment number of each row. Returns the rows that have an
    annotated segment, and the position of that segment in `annotated`. ValueError for segments
    that are not in the catalog's table.
    """
    if annotated.numbers is None:
        raise ValueError("these segments are not in the catalog's table, so no row describes them")
    position_of = {int(number): place for place, number in enumerate(annotated.numbers)}
    pairs = [
        (row, position_of[int(number)])
        for row, number in enumerate(segments)
        if int(number) in position_of
    ]
    rows, positions = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, positions


def has_segment_rows(reader: VariantReader, catalog: Catalog) -> bool:
    """Whether the rows of a variant are this catalog's annotated segments."""
    segments = reader.settings.get("segments")
    return isinstance(segments, dict) and segments.get("sha256") == catalog.segments.sha256


def _segment_variant(folder: Path, catalog: Catalog) -> VariantReader | None:
    """The first variant in the store with a row for each annotated segment; None without one."""
    store = FeatureStore(folder)
    for name in store.variants():
        if has_segment_rows(store[name], catalog):
            return store[name]
    return None
