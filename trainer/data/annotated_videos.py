"""Examples of catalogs with annotators: whole videos of a domain and a split.

If the model's unit is a segment, a position is an annotated segment: its own row where rows are
segments, otherwise the mean of the rows in it. If the unit is a row, a row has the highest label of
the segments that cover more than half of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.records import Array
from storage.catalog.catalog import Catalog
from trainer.data.dataset import Positions, Sample, positions_of_pairs
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
from trainer.data.sources.read_cache import ReadCache
from trainer.data.sources.settings import DataSettings
from trainer.data.user_examples import Example, ExampleCounts, ExampleSet

BatchSide = Literal["first", "second"]
"""The batch with labels (or of short videos), or the other one, of training on two batches."""
NOT_ANNOTATED = "not_judged"
OTHER_DURATION = "of another duration"


class _Labels(NamedTuple):
    """Labelled positions of one video, `(n,)` each."""

    numbers: NDArray[np.int64]
    """Numbers of feature rows, or of annotated segments whose rows are averaged."""
    labels: NDArray[np.float32]
    positive: NDArray[np.bool_]

    @property
    def has_pair(self) -> bool:
        """Whether there are both a highlight and a non-highlight."""
        return bool(self.positive.any() and not self.positive.all())

    def take(self, chosen: NDArray[np.int64]) -> _Labels:
        """Only the chosen positions."""
        return _Labels(self.numbers[chosen], self.labels[chosen], self.positive[chosen])


@dataclass(frozen=True)
class _LabelledVideo:
    """One annotated video with its labelled positions."""

    annotated: AnnotatedVideo
    positions: _Labels

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        annotated = self.annotated
        arrays: list[Array] = [
            annotated.spans,
            annotated.values,
            annotated.labels,
            annotated.positive,
        ]
        numbered = 0 if annotated.numbers is None else annotated.numbers.nbytes
        return numbered + sum(array.nbytes for array in (*arrays, *self.positions))


@dataclass(frozen=True)
class AnnotatedVideoReader:
    """Reads the videos of one domain. Pickles without an open file."""

    catalog: Catalog
    features: Features
    labels: AnnotatorLabels
    segment_times: SegmentTimes
    settings: DataSettings
    is_training: bool
    cache: ReadCache = field(default_factory=ReadCache, compare=False, repr=False)

    def cached(self, cache: ReadCache) -> Self:
        """The same reader, which keeps what it reads and computes in `cache`."""
        return replace(self, features=self.features.cached(cache), cache=cache)

    def expand(self, example: Example) -> Sequence[Example] | str:
        """The example, or one for each of its segments, or the reason to drop it."""
        annotated = self._annotated(example.video_id)
        if annotated is None:
            return NOT_ANNOTATED
        positions = self._labels(example.video_id, annotated)
        if not len(positions.numbers):
            return "no segment is in the file"
        if not self.is_training:
            return (example,)
        if self.settings.only_pairs and not positions.has_pair:
            return "no pair of a highlight and another"
        if self.settings.every_segment:
            return [replace(example, anchor=number) for number in range(len(positions.numbers))]
        return (example,)

    def read(self, example: Example, rng: np.random.Generator) -> Sample:
        """The example with all its arrays. SettingsError for a video without annotations."""
        video_id = example.video_id
        video = self.cache.get(("labels", video_id), lambda: self._labelled(video_id))
        positions = video.positions
        drawn = self.settings.rows_drawn
        if self.is_training and drawn is not None and drawn < len(positions.numbers):
            chosen = np.sort(rng.choice(len(positions.numbers), drawn, replace=False))
            positions = positions.take(chosen)
        # After the rows are drawn: pairs are numbers of the drawn rows.
        pairs = draw_pairs(positions.positive, ~positions.positive, self.settings.pairs, rng)
        if self.is_training and self.settings.only_pairs:
            chosen, pairs = positions_of_pairs(pairs)
            positions = positions.take(chosen)
        is_whole = positions is video.positions
        target = self._target(video_id, video.annotated, positions.numbers, is_whole=is_whole)
        return Sample(example, target, positions.labels, pairs, ())

    def _labelled(self, video_id: str) -> _LabelledVideo:
        annotated = self._annotated(video_id)
        if annotated is None:
            raise SettingsError((f"{video_id} has no annotations; leave it out of the split",))
        return _LabelledVideo(annotated, self._labels(video_id, annotated))

    def _annotated(self, video_id: str) -> AnnotatedVideo | None:
        if self._has_segment_rows and self.labels.rule.segment_seconds is not None:
            raise SettingsError(
                (
                    f"rows of {', '.join(self.features.readers)} are the annotated segments, so "
                    "which rows exist would reveal the labels; read features of whole videos of "
                    f"{self.catalog.name}, such as c3d/fc7_linear",
                )
            )
        end_seconds = float(self.features.row_spans(video_id)[:, 1].max())
        return self.labels.annotated_video(video_id, end_seconds)

    @property
    def _has_segment_rows(self) -> bool:
        return has_segment_rows(self.features.first_reader, self.catalog)

    def _reads_rows(self, annotated: AnnotatedVideo) -> bool:
        """Whether positions are rows as they are stored, not means of rows over segments."""
        if self.settings.unit == "row":
            return True
        return annotated.numbers is not None and self._has_segment_rows

    def _labels(self, video_id: str, annotated: AnnotatedVideo) -> _Labels:
        if self.settings.unit == "row":
            return self._row_labels(video_id, annotated)
        if self._reads_rows(annotated):
            segments = np.asarray(self.features.first_reader[video_id][SEGMENT_ARRAY])
            rows, places = match_rows(segments, annotated)
            return _Labels(rows, annotated.labels[places], annotated.positive[places])
        seconds = self.segment_times.seconds(video_id, annotated)
        in_file = np.flatnonzero(np.isfinite(seconds[:, 0]))
        with_rows = in_file[self.features.overlap_rows(video_id, seconds[in_file])]
        return _Labels(with_rows, annotated.labels[with_rows], annotated.positive[with_rows])

    def _row_labels(self, video_id: str, annotated: AnnotatedVideo) -> _Labels:
        spans = self.features.row_spans(video_id)
        numbers = np.arange(len(spans))
        if not self.is_training and not self.segment_times.is_available:
            # Scoring the rows of a summary dataset needs no labels.
            return _Labels(
                numbers, np.zeros(len(spans), np.float32), np.zeros(len(spans), np.bool_)
            )
        seconds = self.segment_times.seconds(video_id, annotated)
        labels, positive = _label_rows(spans, seconds, annotated)
        return _Labels(numbers, labels, positive)

    def _target(
        self,
        video_id: str,
        annotated: AnnotatedVideo,
        numbers: NDArray[np.int64],
        *,
        is_whole: bool,
    ) -> Positions:
        if is_whole:
            # The same in every epoch, and around every segment that a set is drawn for.
            return self.cache.get(
                ("target", video_id), lambda: self._read_target(video_id, annotated, numbers)
            )
        return self._read_target(video_id, annotated, numbers)

    def _read_target(
        self, video_id: str, annotated: AnnotatedVideo, numbers: NDArray[np.int64]
    ) -> Positions:
        if self._reads_rows(annotated):
            spans = self.features.row_spans(video_id)[numbers]
            return Positions(spans, self.features.rows(video_id, numbers))
        spans = self.segment_times.seconds(video_id, annotated)[numbers]
        return Positions(spans, self.features.kept_segment_means(video_id, spans)[0])


def _label_rows(
    spans: Intervals, segments: Intervals, annotated: AnnotatedVideo
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`(rows,)` labels and highlights: the highest label of the segments that cover a row."""
    labels, positive = np.zeros(len(spans), np.float32), np.zeros(len(spans), np.bool_)
    ends = np.minimum(spans[:, None, 1], segments[None, :, 1])
    starts = np.maximum(spans[:, None, 0], segments[None, :, 0])
    # `(rows, segments)`. A segment that is not in the file has NaN times: it covers no row.
    is_covered = ends - starts > COVERED_SHARE * (spans[:, 1] - spans[:, 0])[:, None]
    for row in np.flatnonzero(is_covered.any(axis=1)):
        labels[row] = annotated.labels[is_covered[row]].max()
        positive[row] = annotated.positive[is_covered[row]].any()
    return labels, positive


def list_annotated_examples(
    reader: AnnotatedVideoReader, split: str, side: BatchSide
) -> ExampleSet:
    """The videos of a split for one side of a batch, each once or once for each of its segments.

    Raises SettingsError if no video is left.
    """
    settings, catalog = reader.settings, reader.catalog
    domain, is_outside = _side_domain(reader, side)
    ids, holdout = split_videos(catalog, split, settings, domain=domain, is_outside=is_outside)
    bounds = None
    if reader.is_training:
        bounds = settings.first_seconds if side == "first" else settings.second_seconds
    examples, videos = _expand_videos(reader, ids, bounds)
    if not examples:
        where = domain or "all domains"
        if is_outside:
            where = f"all but {where}"
        part = f"split {split} of {grouping_name(catalog, settings)}"
        hint = "; set data.holdout_videos" if split == "validation" else ""
        raise SettingsError(
            (f"{catalog.name} has no video left in {where}, {part}: {videos}{hint}",)
        )
    notes = (f"validation videos are {holdout}, as the dataset names none",) if holdout else ()
    no_users = ExampleCounts("users", 0, 0)
    no_history = ExampleCounts("history videos", 0, 0)
    return ExampleSet(tuple(examples), no_users, videos, no_history, notes)


def _side_domain(reader: AnnotatedVideoReader, side: BatchSide) -> tuple[str, bool]:
    """The domain of one side of a batch, and whether the side is all videos outside of it."""
    settings = reader.settings
    if side == "second":
        return settings.domain, settings.against == "others"
    if reader.is_training and settings.source:
        return settings.source, False
    return settings.domain, False


def _expand_videos(
    reader: AnnotatedVideoReader, ids: Sequence[str], bounds: tuple[float, float] | None
) -> tuple[list[Example], ExampleCounts]:
    """The examples of these videos, and counts of the videos without any by reason."""
    examples: list[Example] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    for video_id in ids:
        expanded = _expand_video(reader, video_id, bounds)
        if isinstance(expanded, str):
            dropped[expanded].append(video_id)
        else:
            examples += expanded
    by_reason = {reason: tuple(video_ids) for reason, video_ids in dropped.items()}
    used = len(ids) - sum(map(len, by_reason.values()))
    return examples, ExampleCounts("videos", len(ids), used, by_reason)


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
