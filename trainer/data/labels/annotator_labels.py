"""What annotators said of a video's segments, and what that makes of them: numbers to learn, and
which are highlights.

For catalogs whose videos belong to domains and splits and not to users. One row of `RULES` for each
kind of catalog, by the reader that it names. Refuses to know features and metrics.
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
ACTIVITYNET_SEGMENT_SECONDS = 3.2
"""16 frames at 5 a second, as the released code cuts videos."""


@dataclass(frozen=True)
class AnnotatedVideo:
    """One video. N segments, sorted by start, then end; A annotators."""

    spans: Intervals
    """`(N, 2)` in the catalog's unit of time."""
    values: Floats
    """`(A, N)`: what each annotator gave."""
    labels: NDArray[np.float32]
    """`(N,)`: the mean over annotators: what is learned from."""
    positive: NDArray[np.bool_]
    """`(N,)`: what counts as a highlight where a loss or a protocol wants one truth."""
    numbers: NDArray[np.int64] | None
    """`(N,)`: places in the catalog's table of segments; None for segments that the table does not
    hold.
    """


@dataclass(frozen=True)
class LabelRule:
    """How the annotations of one kind of catalog are read."""

    positive: Callable[[Floats], NDArray[np.bool_]]
    """`(A, N)` values → `(N,)`."""
    annotators: str = ""
    """Those whose names begin with this, `{domain}` being the domain that is asked about; empty:
    all.
    """
    segment_seconds: float | None = None
    """None: segments are the annotated ones. Otherwise equal pieces of so long, whose value is the
    share of them that marks cover.
    """
    is_sparse: bool = False
    """Whether an annotator names only what they found worth something; the rest is then worth 0 to
    them.
    """
    grouping: str = ""
    """The split that is used where nobody names another."""


def _above_zero(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(values.mean(axis=0) > 0)


def _better_half(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(top_half(values.mean(axis=0)[np.newaxis])[0])


def _majority(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(majority(values)[0])


def _covered(values: Floats) -> NDArray[np.bool_]:
    return np.asarray(values.mean(axis=0) >= COVERED_BY_AN_EVENT)


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
}
"""Reader of a catalog → how its annotations are read."""


def label_rule(catalog: Catalog) -> LabelRule | None:
    """The catalog's row; None if it is of no such kind: then it has users, or anybody's marks."""
    return None if catalog.users else LABEL_RULES.get(str(catalog.origin.get("reader", "")))


class AnnotatorLabels:
    """The annotations of a catalog about one domain, by video; about any domain, if None, for their
    segments alone.

    Raises SettingsError if the catalog has no rule.
    """

    def __init__(self, catalog: Catalog, domain: str | None) -> None:
        rule = label_rule(catalog)
        if rule is None:
            known = ", ".join(LABEL_RULES)
            raise SettingsError(
                (
                    f"{catalog.name} is not of a kind whose annotations are known how to read: {known}",
                )
            )
        if "{domain}" in rule.annotators and domain == "":
            raise SettingsError((f"annotations of {catalog.name} are of domains: set data.domain",))
        self.rule = rule
        prefix = rule.annotators if domain is not None else rule.annotators.partition("{")[0]
        prefix = prefix.replace("{domain}", domain or "")
        self._rows: dict[str, dict[str, dict[tuple[float, float], float]]] = {}
        for row in catalog.annotations:
            if row.annotator.startswith(prefix):
                of_video = self._rows.setdefault(row.video_id, {})
                of_video.setdefault(row.annotator, {})[row.start, row.end] = row.value
        self._segments = catalog.segments.segments
        self._claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}

    def annotated_video(
        self, video_id: str, end_seconds: float | None = None
    ) -> AnnotatedVideo | None:
        """None if nobody judged the video. `end_seconds`, as decoded, goes before what the catalog
        claims.
        """
        people = self._rows.get(video_id)
        if not people:
            return None
        if self.rule.segment_seconds is None:
            return self._annotated(video_id, people)
        end = self._claimed[video_id] if end_seconds is None else end_seconds
        return None if end is None else self._pieces(people, end, self.rule.segment_seconds)

    def _annotated(
        self, video_id: str, people: Mapping[str, Mapping[tuple[float, float], float]]
    ) -> AnnotatedVideo:
        spans = sorted({span for of_person in people.values() for span in of_person})
        lacking = [person for person, of_person in people.items() if len(of_person) != len(spans)]
        if lacking and not self.rule.is_sparse:
            raise SettingsError(
                (
                    f"{video_id}: {lacking[0]} judged not all of the {len(spans)} segments others did",
                )
            )
        values = np.array(
            [[people[person].get(span, 0.0) for span in spans] for person in sorted(people)]
        )
        places = {span: number for number, span in enumerate(self._segments[video_id])}
        return self._judged(
            np.array(spans), values, np.array([places[span] for span in spans], np.int64)
        )

    def _pieces(
        self, people: Mapping[str, Mapping[tuple[float, float], float]], end: float, seconds: float
    ) -> AnnotatedVideo:
        spans = chunks(0.0, end, seconds)
        marks = union(np.array([span for of_person in people.values() for span in of_person]))
        shares = covered_seconds(spans, marks) / (spans[:, 1] - spans[:, 0])
        return self._judged(spans, shares[np.newaxis], None)

    def _judged(
        self, spans: Intervals, values: Floats, numbers: NDArray[np.int64] | None
    ) -> AnnotatedVideo:
        return AnnotatedVideo(
            spans,
            values,
            values.mean(axis=0).astype(np.float32),
            self.rule.positive(values),
            numbers,
        )
