"""Features of a store for a model: rows by number, or their means over segments.

Rejects features that differ from those that a model was trained on. Survives fork, spawn and
pickling, as the store's readers do.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.records import JSON, Array, Ragged
from storage.features.lazy_arrays import ArrayHandle, VideoHandle
from storage.features.store import FeatureStore, VariantReader
from storage.features.time_origin import common_origin
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.read_cache import ReadCache

TrainedOn = Mapping[str, Mapping[str, JSON]]
"""Variant, as array keys name it → the full settings of its features. Checkpoints keep it."""
SAME_INSTANT_SECONDS = 1e-6
"""Times that differ by no more are equal; the rest is rounding."""
_OTHER_ARRAYS = (
    "The recipe reads {}: extract these features, or name other arrays of the store in the table "
    '[data] of the recipe (arrays = ["VARIANT/ARRAY"]) or with --set '
    "'data.arrays=[\"VARIANT/ARRAY\"]'"
)
_RowWeights = tuple[int, NDArray[np.float32]]
"""The first row in a segment, and `(rows,)` weights from there on that sum to 1, or none."""


@dataclass(frozen=True)
class _StoredVideo:
    """One video of one variant: its handle, and its spans once they were read."""

    handle: VideoHandle

    @cached_property
    def spans(self) -> Intervals:
        return self.handle.spans

    @property
    def nbytes(self) -> int:
        """Of the spans."""
        return 16 * self.handle.rows


@dataclass(frozen=True)
class _SegmentMean:
    """The mean of each array over one segment, in the order of the keys; none without rows."""

    arrays: tuple[Array, ...]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class Features:
    """The arrays that a model reads from one store.

    Raises LookupFailed for a variant or array that does not exist. Raises SettingsError for a
    ragged array without `max_items`, if the features differ from those in `trained_on`, or if their
    times count from different origins.
    """

    def __init__(
        self,
        folder: Path,
        keys: Sequence[str],
        *,
        max_items: Mapping[str, int],
        trained_on: TrainedOn | None = None,
    ) -> None:
        store = FeatureStore(folder)
        self.keys = tuple(keys)
        self.max_items = dict(max_items)
        self._cache = ReadCache()
        names = dict.fromkeys(key.partition("/")[0] for key in keys)
        try:
            self.readers: Mapping[str, VariantReader] = {
                name: _open_variant(store, name, trained_on) for name in names
            }
            self._check_max_items()
        except LookupFailed as error:
            raise LookupFailed(f"{error}. {_OTHER_ARRAYS.format(', '.join(keys))}") from error
        # Rows of different origins could not be matched by time.
        origins = {reader.name: reader.time_origins for reader in self.readers.values()}
        self.time_origin = common_origin(origins, f"a network that reads {', '.join(origins)}")
        """The origin of the rows' seconds: one of `storage.base.records.TIME_ORIGINS`."""

    @property
    def trained_on(self) -> TrainedOn:
        """The settings of every variant, to be kept in a checkpoint."""
        return {name: reader.settings for name, reader in self.readers.items()}

    def cached(self, cache: ReadCache) -> Self:
        """The same features, which keep what they read in `cache`."""
        copied = copy.copy(self)
        copied._cache = cache
        return copied

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes that every table from these features prints: random weights, synthetic rows."""
        notes = []
        for reader in self.readers.values():
            weights = str(reader.settings.get("weights", ""))
            if _is_synthetic(weights):
                notes.append(f"{reader.name} is {weights}: no result about real videos")
        return tuple(notes)

    @property
    def first_reader(self) -> VariantReader:
        """The variant of the first array, whose rows are the positions if the unit is a row."""
        return next(iter(self.readers.values()))

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → the shape of one position, from which models are built."""
        return {key: self._shape(key) for key in self.keys}

    def dtype(self, key: str, *, keep_float16: bool = False) -> np.dtype[Any]:
        """The dtype of an array in a batch: uint8 for frames, otherwise float32.

        With `keep_float16` rows stored as float16 stay so.
        """
        stored = self._any_handle(key).dtype
        stays = stored == np.uint8 or (keep_float16 and stored == np.float16)
        return stored if stays else np.dtype(np.float32)

    def missing_reason(self, video_id: str) -> str | None:
        """Why the video lacks an array, such as `unavailable:private`; None if it has all."""
        for reader in self.readers.values():
            if video_id in reader:
                continue
            status = reader.statuses.get(video_id)
            return f"{status.state}:{status.reason}" if status else "not extracted"
        return None

    def row_spans(self, video_id: str) -> Intervals:
        """`(rows, 2)`: start and end in seconds of each row of the first array's variant."""
        return self._video(next(iter(self.readers)), video_id).spans

    def rows(self, video_id: str, numbers: NDArray[np.int64]) -> dict[str, Array]:
        """Array key → `(n, ...)`: these rows, ascending, in their stored dtype.

        Raises LookupFailed if the variants' rows have different spans.
        """
        if len(self.readers) > 1:
            # Compared once: the rows of a video never change.
            self._cache.get(("same spans", video_id), lambda: self._check_same_spans(video_id))
        arrays = {}
        for key in self.keys:
            stored = _read_rows(self._handle(key, video_id), numbers)
            arrays[key] = self._dense(key, stored) if isinstance(stored, Ragged) else stored
        return arrays

    def segment_means(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Rows averaged into segments, weighted by the time each shares with the segment.

        Returns array key → `(n, ...)` float32 for the n segments that share time with a row of
        every variant, and `(segments,)` bool: which segments these are. Raises LookupFailed for a
        ragged array, which has no mean.
        """
        videos = {name: self._video(name, video_id) for name in self.readers}
        weights, has_rows = _overlaps(videos, segments)
        kept = np.flatnonzero(has_rows)
        means = {}
        for key in self.keys:
            variant, _, array = key.partition("/")
            handle = videos[variant].handle[array]
            if handle.format.ragged:
                raise LookupFailed(
                    f"{key} is ragged and has no mean over a segment; use a model whose unit is a "
                    "row"
                )
            variant_weights = weights[variant]
            means[key] = _weighted_means(handle, [variant_weights[number] for number in kept])
        return means, has_rows

    def kept_segment_means(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """The same as `segment_means`, segment by segment from the cache where it has them.

        For segments that are read again in other company: a mean depends on its segment alone.
        """
        if not self._cache.most_bytes:
            return self.segment_means(video_id, segments)
        names = [("mean", video_id, start, end) for start, end in segments.tolist()]
        found = {name: self._cache.find(name) for name in names}
        missing = [number for number, name in enumerate(names) if found[name] is None]
        if missing:
            means, has_rows = self.segment_means(video_id, segments[missing])
            for number, mean in zip(missing, self._split_means(means, has_rows), strict=True):
                found[names[number]] = mean
                self._keep_mean(names[number], mean)
        return self._join_means([cast(_SegmentMean, found[name]) for name in names])

    def _keep_mean(self, name: tuple[str, str, float, float], mean: _SegmentMean) -> None:
        if self._cache.has_room(mean.nbytes):
            # A copy: a view would keep the means of all segments in memory.
            self._cache.keep(name, _SegmentMean(tuple(array.copy() for array in mean.arrays)))

    def _split_means(
        self, means: Mapping[str, Array], has_rows: NDArray[np.bool_]
    ) -> list[_SegmentMean]:
        """The mean of each segment, as views; without arrays where it has no rows."""
        places = np.cumsum(has_rows) - 1
        return [
            _SegmentMean(tuple(means[key][place] for key in self.keys) if has else ())
            for place, has in zip(places.tolist(), has_rows.tolist(), strict=True)
        ]

    def _join_means(
        self, found: Sequence[_SegmentMean]
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        has_rows = np.array([len(mean.arrays) > 0 for mean in found], np.bool_)
        with_rows = [mean.arrays for mean in found if mean.arrays]
        if not with_rows:
            empty = {key: np.zeros((0, *self.shapes[key]), np.float32) for key in self.keys}
            return empty, has_rows
        columns = zip(*with_rows, strict=True)
        means = {key: np.stack(column) for key, column in zip(self.keys, columns, strict=True)}
        return means, has_rows

    def overlap_rows(self, video_id: str, segments: Intervals) -> NDArray[np.bool_]:
        """`(segments,)` bool: the segments that share time with a row of every variant."""
        videos = {name: self._video(name, video_id) for name in self.readers}
        return _overlaps(videos, segments)[1]

    def _video(self, variant: str, video_id: str) -> _StoredVideo:
        # Found once: each look-up compares the digest in the part with that in the manifest.
        return self._cache.get(
            ("video", variant, video_id), lambda: _StoredVideo(self.readers[variant][video_id])
        )

    def _handle(self, key: str, video_id: str) -> ArrayHandle:
        variant, _, array = key.partition("/")
        return self._video(variant, video_id).handle[array]

    def _any_handle(self, key: str) -> ArrayHandle:
        reader = self.readers[_variant_of(key)]
        if not reader.ids:
            raise LookupFailed(f"{reader.name} has no finished video; extract features first")
        return self._handle(key, reader.ids[0])

    def _shape(self, key: str) -> tuple[int, ...]:
        form = self._any_handle(key).format
        return (self.max_items[key], *form.item_shape) if form.ragged else form.item_shape

    def _dense(self, key: str, rows: Ragged) -> Array:
        """`(n, max_items, ...)`: the first items of each row, padded with zeros."""
        most = self.max_items[key]
        dense = np.zeros((len(rows), most, *rows.values.shape[1:]), rows.values.dtype)
        for number, (first, end) in enumerate(pairwise(rows.offsets)):
            items = rows.values[first : min(end, first + most)]
            dense[number, : len(items)] = items
        return dense

    def _check_max_items(self) -> None:
        for key in self.keys:
            is_ragged = self._any_handle(key).format.ragged
            has_limit = key in self.max_items
            if is_ragged == has_limit:
                continue
            if is_ragged:
                raise SettingsError((f"{key} is ragged and needs max_items",))
            raise SettingsError((f"{key} is not ragged and takes no max_items",))

    def _check_same_spans(self, video_id: str) -> np.bool_:
        """True. Raises LookupFailed if the variants' rows have different spans."""
        first, *others = self.readers
        expected = self._video(first, video_id).spans
        for name in others:
            spans = self._video(name, video_id).spans
            if not _are_same_spans(spans, expected):
                raise LookupFailed(
                    f"{video_id}: the {len(spans)} rows of {self.readers[name].name} are not about "
                    f"the same spans as the {len(expected)} of {self.readers[first].name}; extract "
                    "both at the same frames_per_second, or use a model whose unit is a segment"
                )
        return np.bool_(True)


def _variant_of(key: str) -> str:
    """`VARIANT/ARRAY` → `VARIANT`."""
    return key.partition("/")[0]


def _are_same_spans(spans: Intervals, expected: Intervals) -> bool:
    if spans.shape != expected.shape:
        return False
    return bool(np.abs(spans - expected).max(initial=0) <= SAME_INSTANT_SECONDS)


def _open_variant(store: FeatureStore, name: str, trained_on: TrainedOn | None) -> VariantReader:
    """The variant of that name; of several, the one with the settings in `trained_on`."""
    if trained_on is None:
        return store[name]
    if name not in trained_on:
        raise SettingsError(
            (f"the model was trained on {', '.join(sorted(trained_on))}, not on {name}",)
        )
    wanted = fingerprint(trained_on[name])
    # The settings decide, not the name: a store may hold several variants of one extractor.
    for full_name in store.variants():
        if full_name.endswith(f"-{wanted}"):
            return store[full_name]
    other = store[name]
    model_differences, store_differences = differing_settings([trained_on[name], other.settings])
    raise SettingsError(
        (
            f"the model was trained on {name}-{wanted} ({model_differences}); {store.folder} has "
            f"{other.name} ({store_differences}). Extract features with the model's settings, or "
            "train a model on these",
        )
    )


def _is_synthetic(weights: str) -> bool:
    return weights.startswith(("random:", "planted:"))


def _overlaps(
    videos: Mapping[str, _StoredVideo], segments: Intervals
) -> tuple[dict[str, list[_RowWeights]], NDArray[np.bool_]]:
    """Variant → the weights of its rows in each segment, and which segments have rows."""
    weights = {name: _overlap_weights(video.spans, segments) for name, video in videos.items()}
    # A segment counts only if all variants have rows in it: their means must align.
    has_rows = np.ones(len(segments), np.bool_)
    for variant_weights in weights.values():
        has_rows &= np.array([len(shares) > 0 for _, shares in variant_weights], np.bool_)
    return weights, has_rows


def _read_rows(handle: ArrayHandle, numbers: NDArray[np.int64]) -> Array | Ragged:
    """These rows, ascending, by one read for each run of consecutive numbers."""
    if not len(numbers):
        return handle[0:0]
    run_starts = np.flatnonzero(np.diff(numbers) != 1) + 1
    parts = []
    for run in np.split(numbers, run_starts):
        parts.append(handle[int(run[0]) : int(run[-1]) + 1])
    if len(parts) == 1:
        return parts[0]
    return _concatenate_rows(parts)


def _concatenate_rows(parts: Sequence[Array | Ragged]) -> Array | Ragged:
    """Rows of one array, which is ragged in all parts or in none."""
    dense, values, lengths = [], [], []
    for part in parts:
        if isinstance(part, Ragged):
            values.append(part.values)
            lengths.append(part.lengths)
        else:
            dense.append(part)
    if values:
        return Ragged(np.concatenate(values), np.concatenate(lengths))
    return np.concatenate(dense)


def _overlap_weights(spans: Intervals, segments: Intervals) -> list[_RowWeights]:
    """The weights of the rows in each segment, by the time that each shares with it.

    `spans` are those of the rows, by ascending start; rows may overlap.
    """
    # Rows may overlap, so a row may end after the next one: compare with the running maximum.
    latest_ends = np.maximum.accumulate(spans[:, 1])
    firsts = np.searchsorted(latest_ends, segments[:, 0], side="right")
    lasts = np.searchsorted(spans[:, 0], segments[:, 1], side="left")
    weights = []
    for (start, end), first, last in zip(segments, firsts, lasts, strict=True):
        near = spans[first:last]
        shared = np.minimum(near[:, 1], end) - np.maximum(near[:, 0], start)
        shared = np.clip(shared, 0, None)
        total = shared.sum()
        shares = shared / total if total > 0 else np.zeros(0)
        weights.append((int(first), shares.astype(np.float32)))
    return weights


def _weighted_means(handle: ArrayHandle, weights: Sequence[_RowWeights]) -> Array:
    """`(segments, ...)` float32: the weighted mean of the rows in each segment."""
    means = np.zeros((len(weights), *handle.format.item_shape), np.float32)
    if not weights:
        return means
    ranges = [np.arange(first, first + len(shares)) for first, shares in weights]
    # Each row is read once, although neighbouring segments may share rows.
    needed = np.unique(np.concatenate(ranges))
    rows = np.asarray(_read_rows(handle, needed), dtype=np.float32)
    for number, (first, shares) in enumerate(weights):
        place = int(np.searchsorted(needed, first))
        means[number] = np.tensordot(shares, rows[place : place + len(shares)], axes=1)
    return means
