"""F-score of video summaries on SumMe and TVSum: shots, 15 % of a video, against each person's
summary.

Frame scores become the mean of each shot; the shots that are worth the most within 15 % of the
frames are the summary. SumMe takes the best of a video's people, TVSum their mean, and on TVSum a
person's summary is made of their scores in the same way. All as in
KaiyangZhou/pytorch-vsumm-reinforce, whose shots come from KTS; where a catalog has no features to
find any by, they are pieces of 2 seconds, which the protocol's name says. No paper at hand names
its five random splits: numbers are over all videos, or over folds of our own. Refuses to know
models.
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
from storage.features.store import FeatureStore
from storage.scores import ScoreRun, ScoreTrack
from trainer.data.labels.temporal_units import read_shots
from trainer.data.sources.intervals import Intervals, chunks
from trainer.evaluation.kts import shot_boundaries
from trainer.evaluation.phd2_protocol import NO_SCORES
from trainer.evaluation.statistics import Evaluation
from trainer.metrics.ranking import Floats
from trainer.metrics.summary import SUMMARY_SHARE, key_shots, summary_f

AGGREGATION: Mapping[str, Literal["max", "mean"]] = {"SumMe": "max", "TVSum": "mean"}
"""Reader of a catalog → what is taken of a video's people."""
SUMMARIES = "SumMe"
"""The one whose only numbers are F-scores."""
FIXED_SHOT_SECONDS = 2.0
FIXED_LENGTH_SHOTS = "pieces of 2 seconds"
Shots = Callable[[str, float], Intervals]
"""Video and its seconds → its shots in seconds, from 0 to its end without gaps."""
FrameScores = Callable[["ReferenceSummaries"], Floats]


@dataclass(frozen=True)
class ReferenceSummaries:
    """The truth about one video of T frames."""

    video_id: str
    seconds: float
    edges: NDArray[np.int64]
    """`(S + 1,)`: where shots begin, and T."""
    ratings: Floats
    """`(U, T)`: what each person gave each frame."""
    people: NDArray[np.bool_]
    """`(U, T)`: each person's summary."""


def fixed_length_shots(video_id: str, seconds: float) -> Intervals:
    """Shots of equal length, for want of any that were found."""
    return chunks(0.0, seconds, FIXED_SHOT_SECONDS)


def load_shots(name: str, folder: Path) -> tuple[Shots, str]:
    """Shots and what they are called: "" for pieces, a table's file, or an array key (`c3d/pool5`)
    for KTS on it.
    """
    if not name:
        return fixed_length_shots, FIXED_LENGTH_SHOTS
    if Path(name).is_file():
        table = read_shots(Path(name))
        called = f"shots of {Path(name).name}"
        return lambda video_id, seconds: _whole(_of_table(table, video_id, name), seconds), called
    variant, slash, array = name.partition("/")
    if not slash:
        raise SettingsError(
            (
                f"shots are a table of shots, or an array to find them by, such as c3d/pool5; got {name!r}",
            )
        )
    reader = FeatureStore(folder)[variant]

    def found(video_id: str, seconds: float) -> Intervals:
        video = reader[video_id]
        rows = np.asarray(video[array], np.float64).reshape(video.rows, -1)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        edges = shot_boundaries(rows / np.where(norms > 0, norms, 1))
        return _whole(
            np.stack([video.spans[edges[:-1], 0], video.spans[edges[1:] - 1, 1]], 1), seconds
        )

    return found, f"KTS on {reader.name}/{array}"


def _of_table(table: Mapping[str, Intervals], video_id: str, name: str) -> Intervals:
    if video_id not in table:
        raise SettingsError((f"{name} has no shots of {video_id}",))
    return table[video_id]


def _whole(shots: Intervals, seconds: float) -> Intervals:
    """Shots that begin where the one before begins to end, from 0 to the video's end."""
    starts = np.unique(np.append(0.0, shots[1:, 0]))
    starts = starts[starts < seconds]
    return np.stack([starts, np.append(starts[1:], seconds)], 1)


def reference_summaries(
    catalog: Catalog, ids: Sequence[str], shots: Shots
) -> list[ReferenceSummaries]:
    """The truth about these videos. Raises SettingsError for a catalog that is no summary
    dataset.
    """
    reader = str(catalog.origin.get("reader", ""))
    if reader not in AGGREGATION:
        raise SettingsError(
            (f"{catalog.name} has no F-score; datasets that have are {', '.join(AGGREGATION)}",)
        )
    rows: dict[str, list[Annotation]] = {one: [] for one in ids}
    for row in catalog.annotations:
        if row.video_id in rows:
            rows[row.video_id].append(row)
    return [
        _of_video(video, rows[video.video_id], shots, is_rated=AGGREGATION[reader] == "mean")
        for video in catalog.videos
        if video.video_id in rows
    ]


def _of_video(
    video: Video, rows: Sequence[Annotation], shots: Shots, *, is_rated: bool
) -> ReferenceSummaries:
    n_frames, seconds = video.frames_most, video.claimed_duration_seconds
    if n_frames is None or seconds is None:
        raise SettingsError(
            (
                f"{video.video_id}: a summary needs the number of frames and the seconds of the original",
            )
        )
    starts = np.round(shots(video.video_id, seconds)[:, 0] / seconds * n_frames).astype(np.int64)
    edges = np.unique(np.append(starts, n_frames))
    persons = sorted({row.annotator for row in rows})
    ratings = np.zeros((len(persons), n_frames))
    for row in rows:
        ratings[persons.index(row.annotator), int(row.start) : int(row.end)] = row.value
    people = np.array([key_shots(one, edges) for one in ratings]) if is_rated else ratings > 0
    return ReferenceSummaries(video.video_id, seconds, edges, ratings, people)


def evaluate_summaries(
    catalog: Catalog, truth: Sequence[ReferenceSummaries], scores: FrameScores, shots: str
) -> Evaluation:
    """The F-score of each video for scores of its frames; LookupError from `scores` says why a
    video has none.
    """
    over = AGGREGATION[str(catalog.origin["reader"])]
    found: dict[str, float] = {}
    dropped: dict[str, str] = {}
    for video in truth:
        try:
            found[video.video_id] = summary_f(
                key_shots(_from_zero(scores(video)), video.edges), video.people, over
            )
        except LookupError as error:
            dropped[video.video_id] = str(error.args[0])
    return Evaluation(
        protocol=f"summary-f-{over}/1, {SUMMARY_SHARE:.0%}, {shots}",
        ids=tuple(sorted(found)),
        values={f"f_{over}": np.array([found[one] for one in sorted(found)])},
        dropped=dropped,
    )


def _from_zero(scores: Floats) -> Floats:
    """Scores below 0, raised together: the choice of shots was written for scores from 0 to 1, and
    takes no others.
    """
    return scores - min(0.0, float(scores.min()))


def frame_scores_of(answers: ScoreRun) -> FrameScores:
    """Frame scores of a network's answers: each frame has the mean of the rows that cover its
    instant.

    A frame that no row covers has the score of the last one before it that is covered, or else of
    the first.
    """

    def scores(video: ReferenceSummaries) -> Floats:
        track = answers.tracks.get(("", video.video_id))
        if track is None:
            raise LookupError(answers.absent.get(("", video.video_id), NO_SCORES))
        return _of_frames(track, video)

    return scores


def _of_frames(track: ScoreTrack, video: ReferenceSummaries) -> Floats:
    n_frames = video.ratings.shape[1]
    frames_per_second = n_frames / video.seconds
    first_and_end = np.clip(np.ceil(track.spans * frames_per_second - 0.5), 0, n_frames).astype(
        np.int64
    )
    total, count = np.zeros(n_frames + 1), np.zeros(n_frames + 1)
    for (first, end), score in zip(first_and_end, track.scores.astype(np.float64), strict=True):
        total[[first, end]] += score, -score
        count[[first, end]] += 1, -1
    covering = np.cumsum(count)[:-1].round().astype(np.int64)
    covered = np.flatnonzero(covering)
    means = np.cumsum(total)[:-1][covered] / covering[covered]
    before = np.searchsorted(covered, np.arange(n_frames), side="right") - 1
    return np.asarray(means[before.clip(min=0)])
