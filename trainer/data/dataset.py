"""An example becomes arrays: the target's positions with labels and pairs, and the elements of the
history.

What is drawn follows from the seed, the epoch and the example alone, so it is the same in whatever
process and order examples are read. Refuses to know batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

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
from trainer.data.labels.user_history import Element, draw_history
from trainer.data.labels.user_labels import COVERED_SHARE, UserLabels, draw_pairs, position_labels
from trainer.data.sources.features import Features
from trainer.data.sources.intervals import Intervals, covered_seconds, union
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleSet


class SampleSeed(NamedTuple):
    """Which example, and what its draws follow from."""

    number: int
    seed: int
    epoch: int


@dataclass(frozen=True)
class Positions:
    """Some positions of one video: their spans, and arrays by key in the same order."""

    spans: Intervals
    arrays: Mapping[str, Array]
    video_id: str = ""
    """Of an element of a history: where it is from."""

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True)
class Sample:
    """One example, read."""

    example: Example
    target: Positions
    labels: NDArray[np.float32]
    pairs: NDArray[np.int64]
    """`(P, 2)`; -1, -1 is no pair."""
    history: tuple[Positions, ...]


@dataclass(frozen=True)
class UserVideoReader:
    """Reads examples of one catalog for training or for scoring. Pickles without an open file."""

    features: Features
    user_labels: UserLabels
    settings: DataSettings
    shots: Shots | None
    is_training: bool

    def expand(self, example: Example) -> Sequence[Example] | str:
        """The example, or with `window_rows` one for each window with a highlight; the reason if it
        teaches nothing.
        """
        if self.shots is not None and example.video_id not in self.shots:
            return "not in the table of shots"
        spans = self._spans(example)
        truth = self._labels(example, spans)
        if not (truth > 0).any():
            return "no position is a highlight"
        if (
            self.settings.only_pairs
            and self._pairs(example, spans, truth, np.random.default_rng(0)).max(initial=-1) < 0
        ):
            return "every position is a highlight"
        if self.settings.window_rows is None:
            return (example,)
        length = self.settings.window_rows
        firsts = np.unique(np.flatnonzero(truth > 0) // length) * length
        return [
            replace(example, window=(int(first), min(int(first) + length, len(spans))))
            for first in firsts
        ]

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays."""
        spans = self._spans(example)
        first, end = example.window or (0, len(spans))
        spans = spans[first:end]
        truth = self._labels(example, spans)
        pairs = self._pairs(example, spans, truth, rng)
        if self.is_training and self.settings.only_pairs:
            chosen, places = np.unique(pairs, return_inverse=True)
            spans, truth, pairs = spans[chosen], truth[chosen], places.reshape(pairs.shape)
        if self.settings.unit == "row":
            target = Positions(spans, self.features.rows(example.video_id, np.arange(first, end)))
        else:
            target, kept = self._means(example.video_id, spans)
            truth, pairs = truth[kept], _renumber_pairs(pairs, kept)
        return Sample(example, target, truth, pairs, self._history(example, rng))

    def _spans(self, example: Example) -> Intervals:
        rows = self.features.row_spans(example.video_id)
        if self.settings.unit == "row":
            return rows
        end_seconds = float(rows[:, 1].max())
        if not self.is_training:
            return scoring_segments(end_seconds, self.settings)
        marked = self.user_labels.highlights(example.user_id or None, example.video_id)
        shots = None if self.shots is None else self.shots[example.video_id]
        return training_segments(end_seconds, marked, shots, self.settings)

    def _labels(self, example: Example, spans: Intervals) -> NDArray[np.float32]:
        return position_labels(
            spans, self.user_labels.annotations(example.user_id or None, example.video_id)
        )

    def _pairs(
        self,
        example: Example,
        spans: Intervals,
        truth: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        # "s- is a shot that is in no GIF": a position that a highlight merely touches is neither.
        touched = (
            covered_seconds(
                spans, self.user_labels.highlights(example.user_id or None, example.video_id)
            )
            > 0
        )
        return draw_pairs(truth > 0, ~touched & (truth <= 0), self.settings.pairs, rng)

    def _means(self, video_id: str, segments: Intervals) -> tuple[Positions, NDArray[np.bool_]]:
        arrays, kept = self.features.segment_means(video_id, segments)
        return Positions(segments[kept], arrays), kept

    def _history(self, example: Example, rng: np.random.Generator) -> tuple[Positions, ...]:
        if self.settings.history == "none" or not example.history:
            return ()
        most = (
            self.settings.max_elements if self.is_training else self.settings.max_elements_scoring
        )
        elements = draw_history(
            example.history_user,
            example.history,
            self.user_labels,
            self.settings,
            most=most,
            rng=rng,
        )
        found = [self._element(element) for element in elements]
        return tuple(positions for positions in found if len(positions))

    def _element(self, element: Element) -> Positions:
        if self.settings.unit == "segment":
            segments = history_segments(element.intervals, self.settings)
            means = self._means(
                element.video_id, _thin_evenly(segments, self.settings.element_rows)
            )[0]
            return replace(means, video_id=element.video_id)
        spans = self.features.row_spans(element.video_id)
        numbers = _thin_evenly(_covered_rows(spans, element.intervals), self.settings.element_rows)
        return Positions(
            spans[numbers], self.features.rows(element.video_id, numbers), element.video_id
        )


class SampleReader(Protocol):
    """What a dataset needs of a reader."""

    @property
    def features(self) -> Features:
        """What it reads."""

    @property
    def settings(self) -> DataSettings:
        """How."""

    @property
    def is_training(self) -> bool:
        """Whether draws change with the epoch."""

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays."""


class HighlightDataset(Dataset[Sample]):
    """The examples of a split: `dataset[Draw(number, seed, epoch)]`. When scoring, the epoch
    changes nothing.
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
        """`(examples,)`: the shard each example's video lies in."""
        self.notes = notes
        """What every table made from this data has to say."""

    @property
    def is_training(self) -> bool:
        """Whether draws change with the epoch."""
        return self.reader.is_training

    @cached_property
    def digest(self) -> str:
        """12 hex digits: datasets with the same digest ask the same questions."""
        return self.example_set.digest

    def __len__(self) -> int:
        return len(self.example_set.examples)

    def __getitem__(self, draw: SampleSeed) -> Sample:
        example = self.example_set.examples[draw.number]
        epoch = draw.epoch if self.reader.is_training else 0
        anchor = "" if example.anchor is None else f"\n{example.anchor}"
        named = f"{example.user_id}\n{example.video_id}\n{example.window}{anchor}"
        name = hashlib.sha256(named.encode()).digest()
        seed = [draw.seed, epoch, int.from_bytes(name[:8], "big")]
        return self.reader.read(example, np.random.default_rng(seed))


def _covered_rows(spans: Intervals, intervals: Intervals) -> NDArray[np.int64]:
    """Rows that intervals cover for more than half; of a mark shorter than that, the row it shares
    most time with.
    """
    covered = covered_seconds(spans, union(intervals))
    chosen = np.flatnonzero(covered > COVERED_SHARE * (spans[:, 1] - spans[:, 0]))
    if not len(chosen) and covered.max(initial=0) > 0:
        chosen = np.array([covered.argmax()])
    return chosen


def _thin_evenly(items: NDArray[Any], most: int) -> NDArray[Any]:
    """The items, or `most` of them at even distances, the first and the last included."""
    return (
        items
        if len(items) <= most
        else items[np.linspace(0, len(items) - 1, most).round().astype(int)]
    )


def _renumber_pairs(pairs: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of positions as pairs of those that were kept; a pair that lost one is none."""
    numbers = np.where(kept, np.cumsum(kept) - 1, -1)
    renumbered = np.where(pairs >= 0, numbers[pairs], -1)
    return np.where((renumbered < 0).any(axis=1, keepdims=True), -1, renumbered)
