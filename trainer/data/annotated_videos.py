"""Examples of catalogs whose segments annotators judged: whole videos of a domain and a split, read
for a model.

A position is a judged segment if the model's unit is a segment: its own row where rows are
segments, the mean of the rows in it otherwise. If the unit is a row, a row has the highest label of
the segments that cover more than half of it. Refuses to know sets, batches and losses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.dataset import Positions, Sample
from trainer.data.labels.annotator_labels import AnnotatedVideo, AnnotatorLabels
from trainer.data.labels.segment_times import (
    SEGMENT_ARRAY,
    SegmentTimes,
    has_segment_rows,
    match_rows,
)
from trainer.data.labels.splits import grouping_name, split_videos
from trainer.data.labels.user_labels import COVERED_SHARE, draw_pairs
from trainer.data.sources.features import Features
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleCounts, ExampleSet

BatchSide = Literal["first", "second"]
"""Of training on two batches: the one with labels (or of short videos), and the other."""
NOT_ANNOTATED = "not_judged"
OTHER_DURATION = "of another duration"


@dataclass(frozen=True)
class AnnotatedVideoReader:
    """Reads the videos of one domain. Pickles without an open file."""

    catalog: Catalog
    features: Features
    labels: AnnotatorLabels
    segment_times: SegmentTimes
    settings: DataSettings
    is_training: bool

    def expand(self, example: Example) -> Sequence[Example] | str:
        """The example, or one for each of its segments; the reason if it cannot be asked about."""
        judged = self._judged(example.video_id)
        if judged is None:
            return NOT_ANNOTATED
        labels, positive = self._read(example.video_id, judged)[1:]
        if not len(labels):
            return "no segment is in the file"
        if self.is_training and self.settings.only_pairs and (positive.all() or not positive.any()):
            return "no pair of a highlight and another"
        if self.is_training and self.settings.every_segment:
            return [replace(example, anchor=number) for number in range(len(labels))]
        return (example,)

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays."""
        judged = self._judged(example.video_id)
        if judged is None:
            raise SettingsError(
                (f"nobody judged {example.video_id}, so there is nothing to ask about it",)
            )
        rows, labels, positive = self._read(example.video_id, judged)
        drawn = self.settings.rows_drawn
        if self.is_training and drawn is not None and drawn < len(rows):
            chosen = np.sort(rng.choice(len(rows), drawn, replace=False))
            rows, labels, positive = rows[chosen], labels[chosen], positive[chosen]
        pairs = draw_pairs(positive, ~positive, self.settings.pairs, rng)
        if self.is_training and self.settings.only_pairs:
            chosen, places = np.unique(pairs, return_inverse=True)
            rows, labels, pairs = rows[chosen], labels[chosen], places.reshape(pairs.shape)
        return Sample(example, self._positions(example.video_id, judged, rows), labels, pairs, ())

    def _judged(self, video_id: str) -> AnnotatedVideo | None:
        if self._has_rows_of_segments and self.labels.rule.segment_seconds is not None:
            raise SettingsError(
                (
                    f"rows of {', '.join(self.features.readers)} are the marks themselves, so they would tell the "
                    f"answer; read features of all of a video of {self.catalog.name}, such as c3d/fc7_linear",
                )
            )
        return self.labels.annotated_video(
            video_id, float(self.features.row_spans(video_id)[:, 1].max())
        )

    @property
    def _has_rows_of_segments(self) -> bool:
        return has_segment_rows(next(iter(self.features.readers.values())), self.catalog)

    def _read(
        self, video_id: str, judged: AnnotatedVideo
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        """Numbers of the positions (rows, or judged segments if their rows are averaged), labels,
        highlights.
        """
        if self.settings.unit == "row":
            spans = self.features.row_spans(video_id)
            if not (self.is_training or self.segment_times.is_available):
                # Whoever only scores rows of a summary dataset can do without labels.
                return (
                    np.arange(len(spans)),
                    np.zeros(len(spans), np.float32),
                    np.zeros(len(spans), np.bool_),
                )
            return (
                np.arange(len(spans)),
                *_label_rows(spans, self.segment_times.seconds(video_id, judged), judged),
            )
        if self._has_rows_of_segments and judged.numbers is not None:
            video = next(iter(self.features.readers.values()))[video_id]
            rows, places = match_rows(np.asarray(video[SEGMENT_ARRAY]), judged)
            return rows, judged.labels[places], judged.positive[places]
        seconds = self.segment_times.seconds(video_id, judged)
        there = np.flatnonzero(np.isfinite(seconds[:, 0]))
        there = there[self.features.overlap_rows(video_id, seconds[there])]
        return there, judged.labels[there], judged.positive[there]

    def _positions(
        self, video_id: str, judged: AnnotatedVideo, numbers: NDArray[np.int64]
    ) -> Positions:
        if self.settings.unit == "row" or (
            self._has_rows_of_segments and judged.numbers is not None
        ):
            return Positions(
                self.features.row_spans(video_id)[numbers], self.features.rows(video_id, numbers)
            )
        spans = self.segment_times.seconds(video_id, judged)[numbers]
        return Positions(spans, self.features.segment_means(video_id, spans)[0])


def _label_rows(
    spans: Intervals, segments: Intervals, judged: AnnotatedVideo
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    labels, positive = np.zeros(len(spans), np.float32), np.zeros(len(spans), np.bool_)
    shared = np.minimum(spans[:, None, 1], segments[None, :, 1]) - np.maximum(
        spans[:, None, 0], segments[None, :, 0]
    )
    covered = shared > COVERED_SHARE * (spans[:, 1] - spans[:, 0])[:, None]
    for row in np.flatnonzero(covered.any(axis=1)):
        labels[row], positive[row] = (
            judged.labels[covered[row]].max(),
            judged.positive[covered[row]].any(),
        )
    return labels, positive


def list_annotated_examples(
    reader: AnnotatedVideoReader, split: str, side: BatchSide
) -> ExampleSet:
    """The videos of a split that a side asks about, each once or once for each of its segments.

    Raises SettingsError if none is left.
    """
    settings, catalog = reader.settings, reader.catalog
    is_first = side == "first"
    domain = (
        settings.source if is_first and settings.source and reader.is_training else settings.domain
    )
    is_outside = not is_first and settings.against == "others"
    ids, holdout = split_videos(catalog, split, settings, domain=domain, is_outside=is_outside)
    bounds = settings.first_seconds if is_first else settings.second_seconds
    examples: list[Example] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    for video_id in ids:
        found = _expand_video(reader, video_id, bounds if reader.is_training else None)
        if isinstance(found, str):
            dropped[found].append(video_id)
        else:
            examples += found
    gone = {reason: tuple(ids) for reason, ids in dropped.items()}
    videos = ExampleCounts("videos", len(ids), len(ids) - sum(map(len, gone.values())), gone)
    if not examples:
        where = f"{'all but ' if is_outside else ''}{domain or 'all domains'}"
        part = f"split {split} of {grouping_name(catalog, settings)}"
        hint = "; set data.holdout_videos" if split == "validation" else ""
        raise SettingsError(
            (f"{catalog.name} has no video left in {where}, {part}: {videos}{hint}",)
        )
    notes = (f"validation videos are {holdout}, as the dataset names none",) if holdout else ()
    return ExampleSet(
        tuple(examples),
        ExampleCounts("users", 0, 0),
        videos,
        ExampleCounts("history videos", 0, 0),
        notes,
    )


def _expand_video(
    reader: AnnotatedVideoReader, video_id: str, bounds: tuple[float, float] | None
) -> Sequence[Example] | str:
    reason = reader.features.missing_reason(video_id)
    if reason is not None:
        return reason
    if bounds is not None:
        seconds = float(reader.features.row_spans(video_id)[:, 1].max())
        if not bounds[0] <= seconds < bounds[1]:
            return OTHER_DURATION
    return reader.expand(Example(video_id))
