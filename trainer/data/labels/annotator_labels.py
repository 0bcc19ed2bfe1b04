"""Labels from annotators: the scores of a video's segments, and which segments are highlights.

For catalogs whose videos belong to domains and splits, not to users. `LABEL_RULES` has one row for
each kind of catalog, by the name of its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.sources.intervals import Intervals, chunks, covered_seconds, union
from trainer.metrics.ground_truth import majority, top_half
from trainer.metrics.ranking import Floats

COVERED_BY_AN_EVENT = 0.6
"""Least share of an ActivityNet segment that makes it a highlight: a constant that the released
code of set-based learning defines and never uses; the paper names none.
"""
COVERED_BY_AN_INTERVAL = 0.5
"""Least share of a segment of a user's own videos that makes it a highlight. Ours: more than half.
"""
OWN_SEGMENT_SECONDS = 2.0
"""Length of segments where a user's table marks intervals: that of QVHighlights and TVSum."""
ACTIVITYNET_SEGMENT_SECONDS = 3.2
"""16 frames at 5 a second, as the released code cuts videos."""


@dataclass(frozen=True)
class AnnotatedVideo:
    """The labels of one video: N segments, sorted by start, then end; A annotators."""

    spans: Intervals
    """`(N, 2)` in the catalog's unit of time."""
    values: Floats
    """`(A, N)`: the score that each annotator gave."""
    labels: NDArray[np.float32]
    """`(N,)`: the mean score over annotators, which models learn from."""
    positive: NDArray[np.bool_]
    """`(N,)`: the highlights, where a loss or a protocol needs one truth."""
    numbers: NDArray[np.int64] | None
    """`(N,)`: numbers in the catalog's table of segments; None if it lacks these segments."""


@dataclass(frozen=True)
class LabelRule:
    """How the annotations of one kind of catalog become labels."""

    positive: Callable[[Floats], NDArray[np.bool_]]
    """`(A, N)` scores → `(N,)` highlights."""
    annotators: str = ""
    """Prefix of the annotators to read; `{domain}` stands for the requested domain. Empty: all."""
    segment_seconds: float | None = None
    """None: the annotated segments. Otherwise the video is cut into segments of this length, each
    with the share of it that annotations cover as its score.
    """
    is_sparse: bool = False
    """Whether an annotator lists only segments with a score; the others then score 0."""
    grouping: str = ""
    """The split that is used if the settings name none."""


def _above_zero(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(values.mean(axis=0) > 0)


def _better_half(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(top_half(values.mean(axis=0)[np.newaxis])[0])


def _majority(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(majority(values)[0])


def _covered(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(values.mean(axis=0) >= COVERED_BY_AN_EVENT)


def _covered_by_intervals(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(values.mean(axis=0) >= COVERED_BY_AN_INTERVAL)


_MATCHED = LabelRule(_above_zero, annotators="match", grouping="vlist_sel")
LABEL_RULES: Mapping[str, LabelRule] = {
    "YouTube Highlights": _MATCHED,
    "category sample": _MATCHED,
    "SumMe": LabelRule(_above_zero, is_sparse=True),
    "TVSum": LabelRule(_better_half, grouping="set_learning"),
    "CoSum": LabelRule(_majority, grouping="folds-5-0"),
    "ActivityNet": LabelRule(
        _covered,
        annotators="{domain}/",
        segment_seconds=ACTIVITYNET_SEGMENT_SECONDS,
        grouping="set_learning",
    ),
    "own intervals": LabelRule(
        _covered_by_intervals, segment_seconds=OWN_SEGMENT_SECONDS, grouping="split"
    ),
    "own scores": LabelRule(_better_half, is_sparse=True, grouping="split"),
}
"""Reader of a catalog → how its annotations become labels."""
AnnotatorScores = dict[tuple[float, float], float]
"""One annotator's scores of one video: `(start, end)` → score."""


def label_rule(catalog: Catalog) -> LabelRule | None:
    """The catalog's rule; None for a catalog of users, or of a reader without a rule."""
    # The labels of users are read by `UserLabels`.
    if catalog.users:
        return None
    reader = str(catalog.origin.get("reader", ""))
    return LABEL_RULES.get(reader)


class AnnotatorLabels:
    """The annotations of a catalog about one domain, by video.

    With `domain` None, annotations about all domains are read: useful only for the segments.
    Raises SettingsError if the catalog has no rule, or its rule needs a domain and `domain` is "".
    """

    def __init__(self, catalog: Catalog, domain: str | None) -> None:
        rule = label_rule(catalog)
        if rule is None:
            known = ", ".join(LABEL_RULES)
            raise SettingsError(
                (f"{catalog.name} has no rule for its annotations; there are rules for {known}",)
            )
        if "{domain}" in rule.annotators and domain == "":
            raise SettingsError((f"annotations of {catalog.name} are of domains: set data.domain",))
        self.rule = rule
        prefix = _annotator_prefix(rule, domain)
        self._scores: dict[str, dict[str, AnnotatorScores]] = {}
        for row in catalog.annotations:
            if row.annotator.startswith(prefix):
                video_scores = self._scores.setdefault(row.video_id, {})
                annotator_scores = video_scores.setdefault(row.annotator, {})
                annotator_scores[row.start, row.end] = row.value
        # The number of a segment is its place in this table, which feature rows refer to.
        self._segments = catalog.segments.segments
        self._claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}

    def annotated_video(
        self, video_id: str, end_seconds: float | None = None
    ) -> AnnotatedVideo | None:
        """The labels of a video; None if it has no annotation, or its length is not known.

        `end_seconds` is the decoded length; without it the catalog's claimed length counts.
        """
        scores = self._scores.get(video_id)
        if not scores:
            return None
        segment_seconds = self.rule.segment_seconds
        if segment_seconds is None:
            return self._annotated(video_id, scores)
        if end_seconds is None:
            end_seconds = self._claimed[video_id]
        if end_seconds is None:
            return None
        return self._equal_segments(scores, end_seconds, segment_seconds)

    def _annotated(self, video_id: str, scores: Mapping[str, AnnotatorScores]) -> AnnotatedVideo:
        """The annotated segments with the score of each annotator."""
        # The union over annotators: a sparse annotator lists only some of the segments.
        spans = sorted(set().union(*scores.values()))
        if not self.rule.is_sparse:
            _check_complete(video_id, scores, len(spans))
        values = np.zeros((len(scores), len(spans)))
        for row, annotator in enumerate(sorted(scores)):
            for column, span in enumerate(spans):
                # A sparse annotator lists only what has a score: all else is worth 0 to them.
                values[row, column] = scores[annotator].get(span, 0.0)
        number_of = {span: number for number, span in enumerate(self._segments[video_id])}
        numbers = np.array([number_of[span] for span in spans], np.int64)
        return self._labelled(np.array(spans), values, numbers)

    def _equal_segments(
        self, scores: Mapping[str, AnnotatorScores], end_seconds: float, segment_seconds: float
    ) -> AnnotatedVideo:
        """Segments of equal length, each with the share of it that annotations cover."""
        spans = chunks(0.0, end_seconds, segment_seconds)
        annotated = np.array([span for by_span in scores.values() for span in by_span])
        shares = covered_seconds(spans, union(annotated)) / (spans[:, 1] - spans[:, 0])
        return self._labelled(spans, shares[np.newaxis], None)

    def _labelled(
        self, spans: Intervals, values: Floats, numbers: NDArray[np.int64] | None
    ) -> AnnotatedVideo:
        labels = values.mean(axis=0).astype(np.float32)
        return AnnotatedVideo(spans, values, labels, self.rule.positive(values), numbers)


def _annotator_prefix(rule: LabelRule, domain: str | None) -> str:
    """How the names of the annotators to read begin; with `domain` None those of all domains."""
    if domain is None:
        return rule.annotators.partition("{")[0]
    return rule.annotators.replace("{domain}", domain)


def _check_complete(
    video_id: str, scores: Mapping[str, AnnotatorScores], segment_count: int
) -> None:
    """Raise SettingsError unless every annotator scored every segment."""
    for annotator, by_span in scores.items():
        if len(by_span) != segment_count:
            raise SettingsError(
                (
                    f"{video_id}: annotator {annotator} scored {len(by_span)} of the "
                    f"{segment_count} segments; every annotator must score all of them",
                )
            )
