"""Where the judged segments of a video lie in the file at hand, in seconds.

Annotations in seconds say so themselves. Annotations in frame numbers of an original file were
placed when features were made, with a row for each segment; those rows are asked here. Refuses to
know labels and scores.
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
    """Of one catalog and its store. Pickles without an open file."""

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._catalog, self._folder = catalog.name, folder
        self._is_seconds = catalog.time_unit == "seconds"
        self._reader = _segment_variant(folder, catalog)

    @property
    def is_available(self) -> bool:
        """Whether anything says where segments lie."""
        return self._is_seconds or self._reader is not None

    def seconds(self, video_id: str, judged: AnnotatedVideo) -> Intervals:
        """`(N, 2)`: each judged segment, NaN for one that is not in this file, or of a video that
        nobody has.

        Raises SettingsError if they are not known.
        """
        if not self.is_available:
            raise SettingsError(
                (
                    f"annotations of {self._catalog} count frames of files that nobody has, and no features of "
                    f"{self._folder} say where they lie: build some with a row for each annotated segment, such as "
                    "c3d.segments",
                )
            )
        is_placed = self._reader is not None and video_id in self._reader
        if judged.numbers is None or (self._is_seconds and not is_placed):
            return judged.spans
        found = np.full(judged.spans.shape, np.nan)
        if self._reader is not None and is_placed:
            video = self._reader[video_id]
            rows, places = match_rows(np.asarray(video[SEGMENT_ARRAY]), judged)
            found[places] = video.spans[rows]
        return found


def match_rows(
    segments: NDArray[np.int64], judged: AnnotatedVideo
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows, of those whose segments are `segments`, are judged, and which of the judged each
    of them is.
    """
    if judged.numbers is None:
        raise ValueError("these segments are no annotated ones, so no row is about them")
    place_of = {int(number): place for place, number in enumerate(judged.numbers)}
    pairs = [
        (row, place_of[int(number)])
        for row, number in enumerate(segments)
        if int(number) in place_of
    ]
    rows, places = np.array(pairs, np.int64).reshape(-1, 2).T
    return rows, places


def has_segment_rows(reader: VariantReader, catalog: Catalog) -> bool:
    """Whether the rows of a variant are this catalog's annotated segments."""
    told = reader.settings.get("segments")
    return isinstance(told, dict) and told.get("sha256") == catalog.segments.sha256


def _segment_variant(folder: Path, catalog: Catalog) -> VariantReader | None:
    store = FeatureStore(folder)
    return next(
        (store[name] for name in store.variants() if has_segment_rows(store[name], catalog)), None
    )
