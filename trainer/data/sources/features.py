"""Arrays of a store by key, read for a model: the rows asked for, or their means over segments.

Refuses features that are not those a model was trained on. Survives fork, spawn and pickling, as
the store's readers do. Knows neither users nor labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.records import JSON, Array, Ragged
from storage.features.lazy_arrays import ArrayHandle
from storage.features.store import FeatureStore, VariantReader
from storage.features.time_origin import common_origin
from trainer.data.sources.intervals import Intervals

TrainedOn = Mapping[str, Mapping[str, JSON]]
"""Variant, as array keys name it → the full settings of its features: what a checkpoint keeps."""
SAME_INSTANT_SECONDS = 1e-6


class Features:
    """The arrays a model reads, from one store.

    Raises LookupFailed for a variant or array that is not there, and SettingsError for a ragged
    array without a `max_items`, if the features are not those in `trained_on`, or if their times
    count from different origins.
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
        names = dict.fromkeys(key.partition("/")[0] for key in keys)
        self.readers: Mapping[str, VariantReader] = {
            name: _open_variant(store, name, trained_on) for name in names
        }
        self._refuse_unbounded()
        origins = {reader.name: reader.time_origins for reader in self.readers.values()}
        self.time_origin = common_origin(origins, f"a network that reads {', '.join(origins)}")
        """Since when the seconds of all rows count: one of `storage.base.records.TIME_ORIGINS`."""

    @property
    def trained_on(self) -> TrainedOn:
        """The settings behind every array, to be kept in a checkpoint."""
        return {name: reader.settings for name, reader in self.readers.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What every table made from these features has to say: weights that are random, features
        that are planted.
        """
        marked = {
            reader.name: str(reader.settings.get("weights", "")) for reader in self.readers.values()
        }
        return tuple(
            f"{name} is {mark}: no result about real videos"
            for name, mark in marked.items()
            if _is_synthetic(mark)
        )

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Array key → the shape of one position, as models are built with."""
        return {key: self._shape(key) for key in self.keys}

    def dtype(self, key: str, *, keep_float16: bool = False) -> np.dtype[Any]:
        """What a batch has of an array: pictures' bytes stay uint8, all else, float16 too if asked,
        is float32.
        """
        stored = self._any_handle(key).dtype
        stays = stored == np.uint8 or (keep_float16 and stored == np.float16)
        return stored if stays else np.dtype(np.float32)

    def missing_reason(self, video_id: str) -> str | None:
        """The first reason, such as `unavailable:private`, why the video lacks some array; None if
        it has all.
        """
        for reader in self.readers.values():
            if video_id not in reader:
                status = reader.statuses.get(video_id)
                return f"{status.state}:{status.reason}" if status else "not extracted"
        return None

    def row_spans(self, video_id: str) -> Intervals:
        """`(rows, 2)`: what each row of the first array's variant describes."""
        return next(iter(self.readers.values()))[video_id].spans

    def rows(self, video_id: str, numbers: NDArray[np.int64]) -> dict[str, Array]:
        """Key → `(n, ...)`: these rows, ascending, in the dtype they are stored in.

        Raises LookupFailed if the variants' rows are not about the same spans.
        """
        self._refuse_other_rows(video_id)
        return {
            key: self._dense(key, _read_rows(self._handle(key, video_id), numbers))
            for key in self.keys
        }

    def segment_means(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, Array], NDArray[np.bool_]]:
        """Rows averaged into segments, weighted by the time each shares with the segment.

        Returns key → `(n, ...)` float32 for the n segments that share time with a row of every
        variant, and which these are, `(segments,)` bool. Raises LookupFailed for a ragged array,
        which has no mean.
        """
        weights, kept = self._shares(video_id, segments)
        found = {}
        for key in self.keys:
            handle = self._handle(key, video_id)
            if handle.format.ragged:
                raise LookupFailed(
                    f"{key} is ragged and has no mean over a segment; use a model whose unit is a row"
                )
            chosen = [
                pair
                for pair, keep in zip(weights[key.partition("/")[0]], kept, strict=True)
                if keep
            ]
            found[key] = _weighted_means(handle, chosen)
        return found, kept

    def overlap_rows(self, video_id: str, segments: Intervals) -> NDArray[np.bool_]:
        """`(segments,)`: which share time with a row of every variant, so that `segment_means` knows
        them.
        """
        return self._shares(video_id, segments)[1]

    def _shares(
        self, video_id: str, segments: Intervals
    ) -> tuple[dict[str, list[tuple[int, NDArray[np.float32]]]], NDArray[np.bool_]]:
        weights = {
            name: _overlap_weights(reader[video_id].spans, segments)
            for name, reader in self.readers.items()
        }
        kept = np.all(
            [[len(weight) > 0 for _, weight in each] for each in weights.values()], axis=0
        )
        return weights, kept.astype(bool)

    def _handle(self, key: str, video_id: str) -> ArrayHandle:
        variant, _, array = key.partition("/")
        return self.readers[variant][video_id][array]

    def _any_handle(self, key: str) -> ArrayHandle:
        reader = self.readers[key.partition("/")[0]]
        if not reader.ids:
            raise LookupFailed(f"{reader.name} has no video that is done; build features first")
        return self._handle(key, reader.ids[0])

    def _shape(self, key: str) -> tuple[int, ...]:
        form = self._any_handle(key).format
        return (self.max_items[key], *form.item_shape) if form.ragged else form.item_shape

    def _dense(self, key: str, rows: Array | Ragged) -> Array:
        if not isinstance(rows, Ragged):
            return rows
        dense = np.zeros(
            (len(rows), self.max_items[key], *rows.values.shape[1:]), rows.values.dtype
        )
        for number, (first, end) in enumerate(zip(rows.offsets, rows.offsets[1:], strict=False)):
            items = rows.values[first : min(end, first + self.max_items[key])]
            dense[number, : len(items)] = items
        return dense

    def _refuse_unbounded(self) -> None:
        for key in self.keys:
            if self._any_handle(key).format.ragged != (key in self.max_items):
                kind = (
                    "ragged and needs" if key not in self.max_items else "not ragged and takes no"
                )
                raise SettingsError((f"{key} is {kind} max_items",))

    def _refuse_other_rows(self, video_id: str) -> None:
        first, *others = self.readers.values()
        if not others:
            return
        spans = first[video_id].spans
        for reader in others:
            found = reader[video_id].spans
            if (
                found.shape != spans.shape
                or np.abs(found - spans).max(initial=0) > SAME_INSTANT_SECONDS
            ):
                raise LookupFailed(
                    f"{video_id}: the {len(found)} rows of {reader.name} are not about the same spans as the "
                    f"{len(spans)} of {first.name}; extract both at the same frames_per_second, or use segments"
                )


def _open_variant(store: FeatureStore, name: str, trained_on: TrainedOn | None) -> VariantReader:
    if trained_on is None:
        return store[name]
    if name not in trained_on:
        raise SettingsError(
            (f"the model was trained on {', '.join(sorted(trained_on))}, not on {name}",)
        )
    wanted = fingerprint(trained_on[name])
    same = [full_name for full_name in store.variants() if full_name.endswith(f"-{wanted}")]
    if same:
        return store[same[0]]
    found = store[name]
    theirs, ours = differing_settings([trained_on[name], found.settings])
    raise SettingsError(
        (
            f"the model was trained on {name}-{wanted} ({theirs}); {store.folder} has {found.name} ({ours}). Extract "
            "features with the model's settings, or train on these",
        )
    )


def _is_synthetic(weights: str) -> bool:
    return weights.startswith(("random:", "planted:"))


def _read_rows(handle: ArrayHandle, numbers: NDArray[np.int64]) -> Array | Ragged:
    """These rows, ascending, by one read for each run of neighbours."""
    cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
    runs = [run for run in np.split(numbers, cuts) if len(run)]
    found = [handle[int(run[0]) : int(run[-1]) + 1] for run in runs] or [handle[0:0]]
    if len(found) == 1:
        return found[0]
    ragged = [rows for rows in found if isinstance(rows, Ragged)]
    if ragged:
        return Ragged(
            np.concatenate([r.values for r in ragged]), np.concatenate([r.lengths for r in ragged])
        )
    return np.concatenate([rows for rows in found if not isinstance(rows, Ragged)])


def _overlap_weights(
    spans: Intervals, segments: Intervals
) -> list[tuple[int, NDArray[np.float32]]]:
    """For each segment the first row that shares time with it, and what part of the shared time
    each row from there on has; no parts if it shares time with none. Rows come by ascending start,
    and may overlap.
    """
    reach = np.maximum.accumulate(spans[:, 1])
    firsts = np.searchsorted(reach, segments[:, 0], side="right")
    lasts = np.searchsorted(spans[:, 0], segments[:, 1], side="left")
    found = []
    for (start, end), first, last in zip(segments, firsts, lasts, strict=True):
        near = spans[first:last]
        shared = np.clip(np.minimum(near[:, 1], end) - np.maximum(near[:, 0], start), 0, None)
        total = shared.sum()
        parts = shared / total if total > 0 else np.zeros(0)
        found.append((int(first), parts.astype(np.float32)))
    return found


def _weighted_means(
    handle: ArrayHandle, weights: Sequence[tuple[int, NDArray[np.float32]]]
) -> Array:
    averages = np.zeros((len(weights), *handle.format.item_shape), np.float32)
    if not weights:
        return averages
    needed = np.unique(
        np.concatenate([np.arange(first, first + len(parts)) for first, parts in weights])
    )
    rows = np.asarray(_read_rows(handle, needed), dtype=np.float32)
    for number, (first, parts) in enumerate(weights):
        place = int(np.searchsorted(needed, first))
        averages[number] = np.tensordot(parts, rows[place : place + len(parts)], axes=1)
    return averages
