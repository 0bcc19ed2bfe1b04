"""Evaluates scores of videos on YouTube Highlights, TVSum, CoSum and ActivityNet.

An ID is `domain/video`, since a video may belong to two domains. Each annotated segment gets a
score, and a video gets its metrics from those. A table averages over the videos of a domain, then
over domains. A segment's score is that of the row with the same span; if rows have other spans, it
is their mean, weighted by the overlap.

YouTube Highlights is measured in both ways that are in use: `ap_step` (the code of set-based
learning) and `ap_trapezoid` (MINI-Net, UMT), which is 4 points lower for chance. Top-5 mAP is
measured under both rules of ground truth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.splits import DOMAIN_GROUPING
from storage.scores import ScoreRun, ScoreTrack
from trainer.data.labels.annotator_labels import AnnotatedVideo, AnnotatorLabels
from trainer.data.labels.segment_times import SegmentTimes
from trainer.data.labels.splits import grouping_name, split_videos
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
"""`(n,)` scores, the labels of a video, and `(n,)` segments of the scores → metric → value."""


def _ranking(
    scores: Floats, labels: AnnotatedVideo, segments: NDArray[np.intp]
) -> Mapping[str, float]:
    positive = labels.positive[segments]
    return {
        "ap_step": step_ap(precision_recall_curve(scores, positive)),
        "ap_trapezoid": trapezoidal_ap(scores, positive),
    }


def _top_5_of_ratings(
    scores: Floats, labels: AnnotatedVideo, segments: NDArray[np.intp]
) -> Mapping[str, float]:
    ratings = labels.values[:, segments]
    return {
        "top5_half": float(top_k_ap(scores, top_half(ratings)).mean()),
        "top5_median": float(top_k_ap(scores, above_median(ratings)).mean()),
    }


def _top_5_of_votes(
    scores: Floats, labels: AnnotatedVideo, segments: NDArray[np.intp]
) -> Mapping[str, float]:
    votes = labels.values[:, segments] > 0
    return {
        "top5_majority": float(top_k_ap(scores, majority(votes)).mean()),
        "top5_each": float(top_k_ap(scores, votes).mean()),
    }


def _ranking_and_top_5(
    scores: Floats, labels: AnnotatedVideo, segments: NDArray[np.intp]
) -> Mapping[str, float]:
    return {
        **_ranking(scores, labels, segments),
        **_top_5_of_ratings(scores, labels, segments),
    }


@dataclass(frozen=True)
class VideoProtocol:
    """How scores become metrics. A protocol with other settings needs another name."""

    name: str
    measure: MetricFunction
    needs_positive: bool = False
    """Whether a video without a highlight is dropped."""
    version: int = 1

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


_CLIPS = VideoProtocol("highlight-clips", _ranking, needs_positive=True)
PROTOCOLS: Mapping[str, VideoProtocol] = {
    "YouTube Highlights": _CLIPS,
    "category sample": _CLIPS,
    "TVSum": VideoProtocol("tvsum-top5", _top_5_of_ratings),
    "CoSum": VideoProtocol("cosum-top5", _top_5_of_votes),
    "ActivityNet": VideoProtocol("activitynet-segments", _ranking, needs_positive=True),
    "own intervals": VideoProtocol("own-intervals", _ranking, needs_positive=True),
    "own scores": VideoProtocol("own-scores", _ranking_and_top_5, needs_positive=True),
}
"""Reader of a catalog → its protocol."""


@dataclass(frozen=True)
class EvaluatedVideos:
    """The videos of a split, with their labels."""

    protocol: VideoProtocol
    split: str
    """`vlist_sel/test`: the grouping and its part."""
    domains: Mapping[str, tuple[str, str]]
    """ID → domain and video."""
    annotator_labels: Mapping[str, AnnotatorLabels]
    """By domain."""

    @property
    def groups(self) -> dict[str, str]:
        """ID → its domain."""
        return {identity: domain for identity, (domain, _) in self.domains.items()}

    def only(self, ids: Collection[str]) -> EvaluatedVideos:
        """Those of the videos that have one of these IDs."""
        chosen = set(ids) & self.domains.keys()
        domains = {
            identity: video for identity, video in self.domains.items() if identity in chosen
        }
        return replace(self, domains=domains)


def evaluated_videos(
    catalog: Catalog, split: str, settings: DataSettings, domains: Sequence[str] = ()
) -> EvaluatedVideos:
    """The videos of the settings' split in these domains, by default in all.

    Raises SettingsError if the catalog has no protocol, or the split no video.
    """
    reader = str(catalog.origin.get("reader", ""))
    if reader not in PROTOCOLS:
        raise SettingsError(
            (f"{catalog.name} has no protocol; there are those of {', '.join(PROTOCOLS)}",)
        )
    # A catalog without domains has one nameless domain with all videos.
    wanted = domains or all_domains(catalog) or ("",)
    videos: dict[str, tuple[str, str]] = {}
    for domain in wanted:
        for video_id in split_videos(catalog, split, settings, domain=domain)[0]:
            identity = f"{domain}/{video_id}" if domain else video_id
            videos[identity] = (domain, video_id)
    if not videos:
        raise SettingsError((f"{catalog.name} has no video in {', '.join(wanted)}, split {split}",))
    labels = {domain: AnnotatorLabels(catalog, domain) for domain in wanted}
    split_name = f"{grouping_name(catalog, settings)}/{split}"
    return EvaluatedVideos(PROTOCOLS[reader], split_name, videos, labels)


@dataclass(frozen=True)
class _ScoredVideo:
    """The labels of a video, and scores of n of its segments."""

    labels: AnnotatedVideo
    scores: Floats
    """`(n,)`"""
    segments: NDArray[np.intp]
    """`(n,)`: the segment of each score."""


def evaluate(videos: EvaluatedVideos, answers: ScoreRun, segment_times: SegmentTimes) -> Evaluation:
    """Metrics of each video that has scores.

    `scored_segments` is the share of a video's segments that have a score. IDs = measured +
    dropped; the reason of a dropped ID is one of `answers`, `not_judged`, `nothing_positive` or
    `no_scores`.
    """
    scored: dict[str, _ScoredVideo | str] = {}
    for identity, (domain, video_id) in videos.domains.items():
        track = answers.tracks.get(("", video_id))
        if track is None:
            scored[identity] = answers.absent.get(("", video_id), NO_SCORES)
            continue
        labels = videos.annotator_labels[domain].annotated_video(video_id, track.duration_seconds)
        if labels is None:
            scored[identity] = NOT_JUDGED
            continue
        scores, segments = segment_scores(track, segment_times.seconds(video_id, labels))
        scored[identity] = _ScoredVideo(labels, scores, segments)
    return _evaluation(videos, scored)


Ranker = Callable[[AnnotatedVideo], Floats]
"""The labels of a video → scores of all its segments."""


def evaluate_ranker(videos: EvaluatedVideos, rank: Ranker) -> Evaluation:
    """Metrics of a ranker that needs no features and scores every annotated segment."""
    scored: dict[str, _ScoredVideo | str] = {}
    # Sorted, because a random ranker draws its numbers video by video.
    for identity, (domain, video_id) in sorted(videos.domains.items()):
        labels = videos.annotator_labels[domain].annotated_video(video_id)
        if labels is None:
            scored[identity] = NOT_JUDGED
        else:
            segments = np.arange(len(labels.spans))
            scored[identity] = _ScoredVideo(labels, rank(labels), segments)
    return _evaluation(videos, scored)


def segment_scores(track: ScoreTrack, seconds: Intervals) -> tuple[Floats, NDArray[np.intp]]:
    """Scores `(n,)` of the segments that the track's rows cover, and these segments, `(n,)`.

    `seconds` is `(N, 2)`, with NaN for segments that are not in the file.
    """
    in_file = np.flatnonzero(np.isfinite(seconds[:, 0]))
    wanted, scores = seconds[in_file], track.scores.astype(np.float64)
    same = _rows_of_same_span(wanted, track.spans)
    has_same = same >= 0
    # Rows of segments: a segment without a row is left out, never given its neighbours' mean.
    if has_same.sum() * 2 > len(track.spans):
        return scores[same[has_same]], in_file[has_same]
    starts, ends = track.spans.T
    overlaps = np.minimum(wanted[:, None, 1], ends) - np.maximum(wanted[:, None, 0], starts)
    # Rows that do not touch a segment have a negative overlap.
    weights = overlaps.clip(min=0)
    total = weights.sum(axis=1)
    has_some = total > 0
    return (weights[has_some] @ scores) / total[has_some], in_file[has_some]


def _rows_of_same_span(wanted: Intervals, spans: Intervals) -> NDArray[np.int64]:
    """`(n,)`: the row with the same span as each of the wanted ones, -1 if there is none."""
    row_of_span = {
        tuple(np.round(span / SAME_SPAN_SECONDS).astype(int)): row for row, span in enumerate(spans)
    }
    keys = np.round(wanted / SAME_SPAN_SECONDS).astype(int)
    return np.array([row_of_span.get(tuple(key), -1) for key in keys], np.int64)


def _evaluation(videos: EvaluatedVideos, scored: Mapping[str, _ScoredVideo | str]) -> Evaluation:
    """The evaluation of scored videos; a text instead of one is the reason why it is dropped."""
    rows: dict[str, Mapping[str, float]] = {}
    dropped: dict[str, str] = {}
    for identity, video in scored.items():
        measured = video if isinstance(video, str) else _video_metrics(videos.protocol, video)
        if isinstance(measured, str):
            dropped[identity] = measured
        else:
            rows[identity] = measured
    ids = tuple(sorted(rows))
    # All videos of a protocol have the same metrics.
    metrics = list(rows[ids[0]]) if ids else []
    groups = videos.groups
    return Evaluation(
        protocol=f"{videos.protocol} on {videos.split}",
        ids=ids,
        values={name: np.array([rows[identity][name] for identity in ids]) for name in metrics},
        dropped=dict(sorted(dropped.items())),
        groups={identity: groups[identity] for identity in videos.domains if identity in rows},
    )


def _video_metrics(protocol: VideoProtocol, video: _ScoredVideo) -> dict[str, float] | str:
    """The metrics of a video, or the reason why it has none."""
    if not len(video.segments):
        return NO_SCORES
    if protocol.needs_positive and not video.labels.positive[video.segments].any():
        return NOTHING_POSITIVE
    metrics = protocol.measure(video.scores, video.labels, video.segments)
    share = len(video.segments) / len(video.labels.spans)
    return {**metrics, "scored_segments": share}


def split_settings(grouping: str) -> DataSettings:
    """Settings that only name a split, for callers that read no features."""
    return DataSettings(("none/none",), "segment", "none", grouping=grouping)


def all_domains(catalog: Catalog) -> tuple[str, ...]:
    """The catalog's domains, ascending."""
    return tuple(catalog.groupings.get(DOMAIN_GROUPING, {}))
