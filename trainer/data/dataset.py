"""Datasets: an example becomes arrays, the target's labelled positions and its user's history.

What is drawn depends only on the seed, the epoch and the example, so the process and the order in
which examples are read make no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from storage.base.records import Array
from trainer.data.labels.temporal_units import (
    Shots,
    history_segments,
    scoring_segments,
    training_segments,
)
from trainer.data.labels.user_history import Element, VideoElements, draw_history, video_elements
from trainer.data.labels.user_labels import COVERED_SHARE, UserLabels, draw_pairs, position_labels
from trainer.data.sources.features import Features
from trainer.data.sources.intervals import Intervals, covered_seconds, union
from trainer.data.sources.read_cache import ReadCache
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleSet


class SampleSeed(NamedTuple):
    """The number of an example, and the seed and epoch of its random draws."""

    number: int
    seed: int
    epoch: int


@dataclass(frozen=True)
class Positions:
    """Some positions of one video: their spans, and arrays by key, in the same order."""

    spans: Intervals
    arrays: Mapping[str, Array]
    video_id: str = ""
    """The video of an element of a history."""

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and the spans."""
        return self.spans.nbytes + sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class LabelledSpans:
    """The positions of one video for one user, without their features; `(n, ...)` each."""

    spans: Intervals
    labels: NDArray[np.float32]
    is_negative: NDArray[np.bool_]
    """Whether a position may be the non-highlight of a pair."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.spans.nbytes + self.labels.nbytes + self.is_negative.nbytes

    def part(self, first: int, end: int) -> LabelledSpans:
        """The positions `[first, end)`."""
        chosen = slice(first, end)
        return LabelledSpans(self.spans[chosen], self.labels[chosen], self.is_negative[chosen])


@dataclass(frozen=True)
class Sample:
    """One example, read."""

    example: Example
    target: Positions
    labels: NDArray[np.float32]
    pairs: NDArray[np.int64]
    """`(P, 2)`; -1, -1 means that there is no pair."""
    history: tuple[Positions, ...]


@dataclass(frozen=True)
class UserVideoReader:
    """Reads examples of one catalog for training or for scoring. Pickles without an open file."""

    features: Features
    user_labels: UserLabels
    settings: DataSettings
    shots: Shots | None
    is_training: bool
    cache: ReadCache = field(default_factory=ReadCache, compare=False, repr=False)

    def cached(self, cache: ReadCache) -> Self:
        """The same reader, which keeps what it reads and computes in `cache`."""
        return replace(self, features=self.features.cached(cache), cache=cache)

    def expand(self, example: Example) -> Sequence[Example] | str:
        """The example, or one for each window with a highlight, or the reason to drop it."""
        if self.shots is not None and example.video_id not in self.shots:
            return "not in the table of shots"
        positions = self._labelled(example)
        highlights = np.flatnonzero(positions.labels > 0)
        if not len(highlights):
            return "no position is a highlight"
        if self.settings.only_pairs and not positions.is_negative.any():
            return "every position is a highlight"
        length = self.settings.window_rows
        if length is None:
            return (example,)
        windows = []
        first_rows = np.unique(highlights // length) * length
        for first in first_rows.tolist():
            end = min(first + length, len(positions.spans))
            windows.append(replace(example, window=(first, end)))
        return windows

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays."""
        # Computed once for all windows of a video and all epochs.
        positions = self.cache.get(
            ("labels", example.user_id, example.video_id), lambda: self._labelled(example)
        )
        first, end = example.window or (0, len(positions.spans))
        positions = positions.part(first, end)
        spans, labels = positions.spans, positions.labels
        pairs = draw_pairs(labels > 0, positions.is_negative, self.settings.pairs, rng)
        if self.is_training and self.settings.only_pairs:
            # Reads only the positions of the pairs, a few of the hundreds of a video.
            chosen, pairs = positions_of_pairs(pairs)
            spans, labels = spans[chosen], labels[chosen]
        if self.settings.unit == "row":
            target = self._target_rows(example.video_id, spans, first, end)
        else:
            arrays, has_rows = self.features.kept_segment_means(example.video_id, spans)
            target = Positions(spans[has_rows], arrays)
            labels, pairs = labels[has_rows], _renumber_pairs(pairs, has_rows)
        # The history is drawn after the pairs: both use the same generator.
        return Sample(example, target, labels, pairs, self._history(example, rng))

    def _labelled(self, example: Example) -> LabelledSpans:
        """All positions of the video with their labels."""
        spans = self._spans(example)
        annotations = self.user_labels.annotations(example.user_id or None, example.video_id)
        labels = position_labels(spans, annotations)
        # PHD-GIFs: "s- is a shot that is in no GIF". A position that a highlight covers in part,
        # too little for a label, is therefore neither s+ nor s-.
        touches_highlight = covered_seconds(spans, self._highlights(example)) > 0
        return LabelledSpans(spans, labels, ~touches_highlight & (labels <= 0))

    def _spans(self, example: Example) -> Intervals:
        rows = self.features.row_spans(example.video_id)
        if self.settings.unit == "row":
            return rows
        end_seconds = float(rows[:, 1].max())
        if not self.is_training:
            return scoring_segments(end_seconds, self.settings)
        shots = None if self.shots is None else self.shots[example.video_id]
        return training_segments(end_seconds, self._highlights(example), shots, self.settings)

    def _highlights(self, example: Example) -> Intervals:
        return self.user_labels.highlights(example.user_id or None, example.video_id)

    def _target_rows(self, video_id: str, spans: Intervals, first: int, end: int) -> Positions:
        def make() -> Positions:
            # A copy: a view would keep the spans of the whole video.
            return Positions(spans.copy(), self.features.rows(video_id, np.arange(first, end)))

        return self.cache.get(("target", video_id, first, end), make)

    def _history(self, example: Example, rng: np.random.Generator) -> tuple[Positions, ...]:
        settings = self.settings
        if settings.history == "none" or not example.history:
            return ()
        most = settings.max_elements if self.is_training else settings.max_elements_scoring
        of_videos = [self._elements(example.history_user, video) for video in example.history]
        elements = draw_history(of_videos, most=most, rng=rng)
        # An element is empty where features end before the annotated interval.
        history = [self._element(element) for element in elements]
        return tuple(positions for positions in history if len(positions))

    def _elements(self, user_id: str, video_id: str) -> VideoElements:
        """All elements of one video of a history."""

        def make() -> VideoElements:
            highlights = self.user_labels.highlights(user_id, video_id)
            return video_elements(self.settings.history, highlights, video_id, self.settings)

        return self.cache.get(("elements", user_id, video_id), make)

    def _element(self, element: Element) -> Positions:
        name = ("element", element.video_id, element.intervals.tobytes())
        return self.cache.get(name, lambda: self._read_element(element))

    def _read_element(self, element: Element) -> Positions:
        most = self.settings.element_rows
        if self.settings.unit == "segment":
            segments = history_segments(element.intervals, self.settings)
            segments = _thin_evenly(segments, most)
            arrays, has_rows = self.features.segment_means(element.video_id, segments)
            return Positions(segments[has_rows], arrays, element.video_id)
        spans = self.features.row_spans(element.video_id)
        numbers = _thin_evenly(_covered_rows(spans, element.intervals), most)
        arrays = self.features.rows(element.video_id, numbers)
        return Positions(spans[numbers], arrays, element.video_id)


class SampleReader(Protocol):
    """The interface that a dataset needs from a reader."""

    @property
    def features(self) -> Features:
        """The features that it reads."""

    @property
    def settings(self) -> DataSettings:
        """The settings by which it reads."""

    @property
    def is_training(self) -> bool:
        """Whether draws change with the epoch."""

    def cached(self, cache: ReadCache) -> Self:
        """The same reader, which keeps what it reads and computes in `cache`."""

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays."""


class HighlightDataset(Dataset[Sample]):
    """The examples of a split: `dataset[SampleSeed(number, seed, epoch)]` is one of them, read.

    When scoring, the epoch makes no difference.
    """

    def __init__(
        self,
        reader: SampleReader,
        example_set: ExampleSet,
        shards: NDArray[np.int64],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.reader = reader
        self.example_set = example_set
        self.shards = shards
        """`(examples,)`: the shard of each example's video."""
        self.notes = notes
        """Notes that every table made from this data prints."""

    @property
    def is_training(self) -> bool:
        """Whether draws change with the epoch."""
        return self.reader.is_training

    @cached_property
    def digest(self) -> str:
        """12 hex digits: datasets with the same digest have the same examples."""
        return self.example_set.digest

    def cached(self, most_bytes: int) -> HighlightDataset:
        """The same examples; each process keeps up to `most_bytes` of what it reads for them."""
        reader = self.reader.cached(ReadCache(most_bytes))
        return HighlightDataset(reader, self.example_set, self.shards, self.notes)

    def __len__(self) -> int:
        return len(self.example_set.examples)

    def __getitem__(self, draw: SampleSeed) -> Sample:
        example = self.example_set.examples[draw.number]
        epoch = draw.epoch if self.reader.is_training else 0
        # Seeded by the example's names, not its number: one more video in the split changes no
        # draw of the others.
        anchor = "" if example.anchor is None else f"\n{example.anchor}"
        name = f"{example.user_id}\n{example.video_id}\n{example.window}{anchor}"
        name_digest = hashlib.sha256(name.encode()).digest()
        seed = [draw.seed, epoch, int.from_bytes(name_digest[:8], "big")]
        return self.reader.read(example, np.random.default_rng(seed))


def _covered_rows(spans: Intervals, intervals: Intervals) -> NDArray[np.int64]:
    """The rows that intervals cover for more than half.

    Intervals too short for that have the row that they cover most.
    """
    covered = covered_seconds(spans, union(intervals))
    rows = np.flatnonzero(covered > COVERED_SHARE * (spans[:, 1] - spans[:, 0]))
    if not len(rows) and covered.max(initial=0) > 0:
        return np.array([covered.argmax()])
    return rows


def _thin_evenly(items: NDArray[Any], most: int) -> NDArray[Any]:
    """The items, or `most` of them at even distances, the first and the last included."""
    if len(items) <= most:
        return items
    chosen = np.linspace(0, len(items) - 1, most).round().astype(int)
    thinned: NDArray[Any] = items[chosen]
    return thinned


def positions_of_pairs(
    pairs: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions that pairs name, ascending, and the pairs in terms of those."""
    positions, places = np.unique(pairs, return_inverse=True)
    return positions, places.reshape(pairs.shape)


def _renumber_pairs(pairs: NDArray[np.int64], is_kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pairs after positions were dropped; -1, -1 for a pair that lost one."""
    new_numbers = np.where(is_kept, np.cumsum(is_kept) - 1, -1)
    renumbered = np.where(pairs >= 0, new_numbers[pairs], -1)
    is_lost = (renumbered < 0).any(axis=1, keepdims=True)
    return np.where(is_lost, -1, renumbered)
