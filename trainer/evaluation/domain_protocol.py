"""From scores of rows of time to a video's numbers, as tables on YouTube Highlights, TVSum, CoSum
and ActivityNet have.

An id is `domain/video`, since a video may be asked about under two domains. Each judged segment
gets a score; a video gets its numbers from those; a table averages over the videos of a domain,
then over domains. A segment is scored by the row that is about it, or, where rows are about other
spans, by their mean weighted by the time they share with it.

YouTube Highlights is measured in both ways that are in use: `ap_step` (the code of set-based
learning) and `ap_trapezoid` (MINI-Net, UMT), which is 4 points lower for chance. Top-5 mAP is
measured under both rules of truth. Refuses to know models and features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from storage.scores import ScoreRun, ScoreTrack
from trainer.data.labels.annotator_labels import AnnotatedVideo, AnnotatorLabels
from trainer.data.labels.segment_times import SegmentTimes
from trainer.data.labels.splits import DOMAIN_GROUPING, grouping_name, split_videos
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.settings import DataSettings
from trainer.evaluation.phd2_protocol import NO_SCORES
from trainer.evaluation.statistics import Evaluation
from trainer.metrics.ground_truth import above_median, majority, top_half
from trainer.metrics.ranking import (
    Floats,
    precision_recall_curve,
    step_ap,
    top_k_ap,
    trapezoidal_ap,
)

NOT_JUDGED = "not_judged"
NOTHING_POSITIVE = "nothing_positive"
SAME_SPAN_SECONDS = 1e-6
MetricFunction = Callable[[Floats, AnnotatedVideo, NDArray[np.intp]], Mapping[str, float]]
"""`(n,)` scores, the video, and which n of its segments they are of → metric → number."""


def _ranking(
    scores: Floats, judged: AnnotatedVideo, places: NDArray[np.intp]
) -> Mapping[str, float]:
    positive = judged.positive[places]
    return {
        "ap_step": step_ap(precision_recall_curve(scores, positive)),
        "ap_trapezoid": trapezoidal_ap(scores, positive),
    }


def _top_5_of_ratings(
    scores: Floats, judged: AnnotatedVideo, places: NDArray[np.intp]
) -> Mapping[str, float]:
    ratings = judged.values[:, places]
    return {
        "top5_half": float(top_k_ap(scores, top_half(ratings)).mean()),
        "top5_median": float(top_k_ap(scores, above_median(ratings)).mean()),
    }


def _top_5_of_judges(
    scores: Floats, judged: AnnotatedVideo, places: NDArray[np.intp]
) -> Mapping[str, float]:
    votes = judged.values[:, places] > 0
    return {
        "top5_majority": float(top_k_ap(scores, majority(votes)).mean()),
        "top5_each": float(top_k_ap(scores, votes).mean()),
    }


@dataclass(frozen=True)
class VideoProtocol:
    """How scores become numbers. Another setting is another protocol and needs another name."""

    name: str
    measure: MetricFunction
    needs_positive: bool = False
    """Whether a video without a highlight has no number."""
    version: int = 1

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


_CLIPS = VideoProtocol("highlight-clips", _ranking, needs_positive=True)
PROTOCOLS: Mapping[str, VideoProtocol] = {
    "YouTube Highlights": _CLIPS,
    "category sample": _CLIPS,
    "TVSum": VideoProtocol("tvsum-top5", _top_5_of_ratings),
    "CoSum": VideoProtocol("cosum-top5", _top_5_of_judges),
    "ActivityNet": VideoProtocol("activitynet-segments", _ranking, needs_positive=True),
}
"""Reader of a catalog → what it is measured by."""


@dataclass(frozen=True)
class EvaluatedVideos:
    """What a split asks for."""

    protocol: VideoProtocol
    split: str
    """`vlist_sel/test`: the split's name and its part."""
    domains: Mapping[str, tuple[str, str]]
    """Id → domain and video."""
    annotator_labels: Mapping[str, AnnotatorLabels]
    """By domain."""

    @property
    def groups(self) -> dict[str, str]:
        """Id → its domain."""
        return {identity: domain for identity, (domain, _) in self.domains.items()}

    def only(self, ids: Collection[str]) -> EvaluatedVideos:
        """Those of its videos."""
        return replace(
            self, domains={one: asked for one, asked in self.domains.items() if one in set(ids)}
        )


def evaluated_videos(
    catalog: Catalog, split: str, settings: DataSettings, domains: Sequence[str] = ()
) -> EvaluatedVideos:
    """The videos of the settings' split in these domains, or in all there are. SettingsError if
    there is none.
    """
    reader = str(catalog.origin.get("reader", ""))
    if reader not in PROTOCOLS:
        raise SettingsError(
            (f"{catalog.name} has no protocol; there are those of {', '.join(PROTOCOLS)}",)
        )
    wanted = domains or all_domains(catalog) or ("",)
    asked = {
        f"{domain}/{one}" if domain else one: (domain, one)
        for domain in wanted
        for one in split_videos(catalog, split, settings, domain=domain)[0]
    }
    if not asked:
        raise SettingsError((f"{catalog.name} has no video in {', '.join(wanted)}, split {split}",))
    judgements = {domain: AnnotatorLabels(catalog, domain) for domain in wanted}
    return EvaluatedVideos(
        PROTOCOLS[reader], f"{grouping_name(catalog, settings)}/{split}", asked, judgements
    )


def evaluate(asked: EvaluatedVideos, answers: ScoreRun, places: SegmentTimes) -> Evaluation:
    """Numbers of each video that has scores; `scored_segments` is the share of its segments that
    have one.

    Ids = measured + dropped; a dropped id has a reason of `answers`, `not_judged`,
    `nothing_positive` or `no_scores`.
    """

    def scored() -> Iterator[tuple[str, str | tuple[AnnotatedVideo, Floats, NDArray[np.intp]]]]:
        for identity, (domain, video_id) in asked.domains.items():
            track = answers.tracks.get(("", video_id))
            if track is None:
                yield identity, answers.absent.get(("", video_id), NO_SCORES)
                continue
            judged = asked.annotator_labels[domain].annotated_video(
                video_id, track.duration_seconds
            )
            if judged is None:
                yield identity, NOT_JUDGED
            else:
                yield identity, (judged, *segment_scores(track, places.seconds(video_id, judged)))

    return _evaluation(asked, scored())


Ranker = Callable[[AnnotatedVideo], Floats]
"""Scores of all segments of a video, from what was judged about it."""


def evaluate_ranker(asked: EvaluatedVideos, rank: Ranker) -> Evaluation:
    """The same for a ranker that needs no features: every judged segment has a score, and nothing
    has to be placed.
    """

    def scored() -> Iterator[tuple[str, str | tuple[AnnotatedVideo, Floats, NDArray[np.intp]]]]:
        for identity, (domain, video_id) in sorted(asked.domains.items()):
            judged = asked.annotator_labels[domain].annotated_video(video_id)
            yield (
                identity,
                NOT_JUDGED
                if judged is None
                else (judged, rank(judged), np.arange(len(judged.spans))),
            )

    return _evaluation(asked, scored())


def segment_scores(track: ScoreTrack, seconds: Intervals) -> tuple[Floats, NDArray[np.intp]]:
    """Scores `(n,)`, and which n of the segments, `(N, 2)` with NaN for those that are not in the
    file, they are of.
    """
    there = np.flatnonzero(np.isfinite(seconds[:, 0]))
    wanted, scores = seconds[there], track.scores.astype(np.float64)
    same = _same_spans(wanted, track.spans)
    if (same >= 0).sum() * 2 > len(track.spans):
        return scores[same[same >= 0]], there[same >= 0]
    starts, ends = track.spans.T
    shared = np.minimum(wanted[:, None, 1], ends) - np.maximum(wanted[:, None, 0], starts)
    weights = shared.clip(min=0)
    total = weights.sum(axis=1)
    has_some = total > 0
    return (weights[has_some] @ scores) / total[has_some], there[has_some]


def _same_spans(wanted: Intervals, spans: Intervals) -> NDArray[np.int64]:
    """`(n,)`: the row that is about each of the wanted spans, -1 if none is."""
    of_row = {
        tuple(np.round(span / SAME_SPAN_SECONDS).astype(int)): row for row, span in enumerate(spans)
    }
    keys = np.round(wanted / SAME_SPAN_SECONDS).astype(int)
    return np.array([of_row.get(tuple(key), -1) for key in keys], np.int64)


def _evaluation(
    asked: EvaluatedVideos,
    scored: Iterator[tuple[str, str | tuple[AnnotatedVideo, Floats, NDArray[np.intp]]]],
) -> Evaluation:
    rows: dict[str, Mapping[str, float]] = {}
    dropped: dict[str, str] = {}
    for identity, found in scored:
        if isinstance(found, str):
            dropped[identity] = found
            continue
        judged, scores, places = found
        if not len(places):
            dropped[identity] = NO_SCORES
        elif asked.protocol.needs_positive and not judged.positive[places].any():
            dropped[identity] = NOTHING_POSITIVE
        else:
            share = len(places) / len(judged.spans)
            rows[identity] = {
                **asked.protocol.measure(scores, judged, places),
                "scored_segments": share,
            }
    ids = tuple(sorted(rows))
    metrics = list(rows[ids[0]]) if ids else []
    return Evaluation(
        protocol=f"{asked.protocol} on {asked.split}",
        ids=ids,
        values={name: np.array([rows[one][name] for one in ids]) for name in metrics},
        dropped=dict(sorted(dropped.items())),
        groups={one: domain for one, domain in asked.groups.items() if one in rows},
    )


def split_settings(grouping: str) -> DataSettings:
    """Settings that say which split, for whoever reads no features."""
    return DataSettings(("none/none",), "segment", "none", grouping=grouping)


def all_domains(catalog: Catalog) -> tuple[str, ...]:
    """The catalog's domains, ascending."""
    return tuple(catalog.groupings.get(DOMAIN_GROUPING, {}))
