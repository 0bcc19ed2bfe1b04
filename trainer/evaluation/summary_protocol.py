"""Evaluates video summaries on SumMe and TVSum: the F-score against each annotator's summary.

Frame scores become the mean of each shot. The summary is the set of shots with the highest total
score within 15 % of the frames. SumMe takes the best F-score over a video's annotators, TVSum the
mean; on TVSum an annotator's summary is made from their scores in the same way. All of this follows
KaiyangZhou/pytorch-vsumm-reinforce, whose shots come from KTS. If a catalog has no features to find
shots by, they are pieces of 2 seconds, and the protocol's name says so. The five random splits of
the papers are not published: numbers are over all videos, or over folds of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.records import Annotation, Video
from storage.catalog.catalog import Catalog
from storage.features.store import FeatureStore, VariantReader
from storage.scores import ScoreRun, ScoreTrack
from trainer.data.labels.temporal_units import read_shots
from trainer.data.sources.intervals import Intervals, chunks
from trainer.evaluation.kts import shot_boundaries
from trainer.evaluation.phd2_protocol import NO_SCORES
from trainer.evaluation.statistics import Evaluation
from trainer.metrics.ranking import Floats
from trainer.metrics.summary import SUMMARY_SHARE, key_shots, summary_f

AGGREGATION: Mapping[str, Literal["max", "mean"]] = {"SumMe": "max", "TVSum": "mean"}
"""Reader of a catalog → how a video's F-scores over its annotators are combined."""
SUMMARIES = "SumMe"
"""The reader whose only metrics are F-scores."""
FIXED_SHOT_SECONDS = 2.0
FIXED_LENGTH_SHOTS = "pieces of 2 seconds"
Shots = Callable[[str, float], Intervals]
"""Video and its duration → its shots in seconds, from 0 to its end without gaps."""
FrameScores = Callable[["ReferenceSummaries"], Floats]
"""A video → `(T,)` scores of its frames. Raises LookupError with the reason if it has none."""


@dataclass(frozen=True)
class ReferenceSummaries:
    """The annotators' summaries of one video of T frames."""

    video_id: str
    seconds: float
    edges: NDArray[np.int64]
    """`(S + 1,)`: first frames of the shots, and T."""
    ratings: Floats
    """`(U, T)`: each annotator's score of each frame."""
    summaries: NDArray[np.bool_]
    """`(U, T)`: the frames of each annotator's summary."""


def fixed_length_shots(video_id: str, seconds: float) -> Intervals:
    """Shots of equal length, for catalogs without any other."""
    return chunks(0.0, seconds, FIXED_SHOT_SECONDS)


def load_shots(name: str, folder: Path) -> tuple[Shots, str]:
    """Shots, and their name in the protocol.

    `name` is empty for shots of 2 seconds, a file with a table of shots, or an array key
    (`c3d/pool5`) for KTS on this array.
    """
    if not name:
        return fixed_length_shots, FIXED_LENGTH_SHOTS
    if Path(name).is_file():
        return _shots_of_table(Path(name))
    variant, slash, array = name.partition("/")
    if not slash:
        raise SettingsError(
            (
                "shots must be a file with a table of shots, or an array to find them by, such as "
                f"c3d/pool5; got {name!r}",
            )
        )
    return _shots_by_kts(FeatureStore(folder)[variant], array)


def _shots_of_table(file: Path) -> tuple[Shots, str]:
    table = read_shots(file)

    def shots(video_id: str, seconds: float) -> Intervals:
        if video_id not in table:
            raise SettingsError((f"{file} has no shots of {video_id}",))
        return _without_gaps(table[video_id], seconds)

    return shots, f"shots of {file.name}"


def _shots_by_kts(reader: VariantReader, array: str) -> tuple[Shots, str]:
    def shots(video_id: str, seconds: float) -> Intervals:
        video = reader[video_id]
        rows = np.asarray(video[array], np.float64).reshape(video.rows, -1)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        # Rows of zeros stay zeros.
        edges = shot_boundaries(rows / np.where(norms > 0, norms, 1))
        starts, ends = video.spans[edges[:-1], 0], video.spans[edges[1:] - 1, 1]
        return _without_gaps(np.stack([starts, ends], 1), seconds)

    return shots, f"KTS on {reader.name}/{array}"


def _without_gaps(shots: Intervals, seconds: float) -> Intervals:
    """Shots from 0 to the video's end: each lasts until the next one begins."""
    starts = np.unique(np.append(0.0, shots[1:, 0]))
    starts = starts[starts < seconds]
    return np.stack([starts, np.append(starts[1:], seconds)], 1)


def reference_summaries(
    catalog: Catalog, ids: Sequence[str], shots: Shots
) -> list[ReferenceSummaries]:
    """The annotators' summaries of these videos.

    Raises SettingsError if the catalog is not a summary dataset.
    """
    reader = str(catalog.origin.get("reader", ""))
    if reader not in AGGREGATION:
        raise SettingsError(
            (f"{catalog.name} has no F-score; datasets that have are {', '.join(AGGREGATION)}",)
        )
    rows: dict[str, list[Annotation]] = {video_id: [] for video_id in ids}
    for row in catalog.annotations:
        if row.video_id in rows:
            rows[row.video_id].append(row)
    # TVSum has scores, from which summaries are made; SumMe has the summaries themselves.
    is_rated = AGGREGATION[reader] == "mean"
    videos = [video for video in catalog.videos if video.video_id in rows]
    return [
        _summaries_of_video(video, rows[video.video_id], shots, is_rated=is_rated)
        for video in videos
    ]


def _summaries_of_video(
    video: Video, rows: Sequence[Annotation], shots: Shots, *, is_rated: bool
) -> ReferenceSummaries:
    n_frames, seconds = video.frames_most, video.claimed_duration_seconds
    if n_frames is None or seconds is None:
        raise SettingsError(
            (f"{video.video_id}: a summary needs the original's number of frames and duration",)
        )
    starts = np.round(shots(video.video_id, seconds)[:, 0] / seconds * n_frames).astype(np.int64)
    # Shots shorter than a frame begin at the same frame as the next one, and vanish.
    edges = np.unique(np.append(starts, n_frames))
    annotators = sorted({row.annotator for row in rows})
    ratings = np.zeros((len(annotators), n_frames))
    for row in rows:
        # Annotations of both datasets are in frames of the original file.
        ratings[annotators.index(row.annotator), int(row.start) : int(row.end)] = row.value
    summaries = ratings > 0
    if is_rated:
        summaries = np.array([key_shots(scores, edges) for scores in ratings])
    return ReferenceSummaries(video.video_id, seconds, edges, ratings, summaries)


def evaluate_summaries(
    catalog: Catalog, truth: Sequence[ReferenceSummaries], scores: FrameScores, shots: str
) -> Evaluation:
    """The F-score of each video for scores of its frames.

    `shots` is their name in the protocol. A LookupError from `scores` is the reason why a video is
    dropped.
    """
    aggregation = AGGREGATION[str(catalog.origin["reader"])]
    values: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for video in truth:
        try:
            summary = key_shots(_shifted_to_zero(scores(video)), video.edges)
        except LookupError as error:
            dropped[video.video_id] = str(error.args[0])
            continue
        values[video.video_id] = summary_f(summary, video.summaries, aggregation)
    ids = tuple(sorted(values))
    return Evaluation(
        protocol=f"summary-f-{aggregation}/1, {SUMMARY_SHARE:.0%}, {shots}",
        ids=ids,
        values={f"f_{aggregation}": np.array([values[video_id] for video_id in ids])},
        dropped=dropped,
    )


def _shifted_to_zero(scores: Floats) -> Floats:
    """Scores, raised together until none is below 0.

    The knapsack that chooses shots takes no negative values: with them the summary is empty.
    """
    return scores - min(0.0, float(scores.min()))


def frame_scores_of(answers: ScoreRun) -> FrameScores:
    """Frame scores from a network's answers: the mean of the rows that cover the frame's instant.

    A frame that no row covers has the score of the last covered frame before it, or else of the
    first covered one.
    """

    def scores(video: ReferenceSummaries) -> Floats:
        track = answers.tracks.get(("", video.video_id))
        if track is None:
            raise LookupError(answers.absent.get(("", video.video_id), NO_SCORES))
        return _frame_scores(track, video)

    return scores


def _frame_scores(track: ScoreTrack, video: ReferenceSummaries) -> Floats:
    """`(T,)` scores."""
    n_frames = video.ratings.shape[1]
    frames_per_second = n_frames / video.seconds
    # Frame i stands for the instant (i + 1/2) / frames_per_second.
    edges = np.ceil(track.spans * frames_per_second - 0.5)
    first_and_end = np.clip(edges, 0, n_frames).astype(np.int64)
    # Differences at the first frame of a row and after its last; their running sums are the total
    # score and the number of rows at each frame.
    total, count = np.zeros(n_frames + 1), np.zeros(n_frames + 1)
    for (first, end), score in zip(first_and_end, track.scores.astype(np.float64), strict=True):
        total[[first, end]] += score, -score
        count[[first, end]] += 1, -1
    n_covering = np.cumsum(count)[:-1].round().astype(np.int64)
    covered = np.flatnonzero(n_covering)
    means = np.cumsum(total)[:-1][covered] / n_covering[covered]
    last_before = np.searchsorted(covered, np.arange(n_frames), side="right") - 1
    return np.asarray(means[last_before.clip(min=0)])
