"""Evaluates scores of users' target videos as PHD2's tables do, on segments of true time.

A target is the video that a user marked last. It is cut into segments of 5 seconds, the last one
shorter. A segment's score is the mean of its rows. The ground truth is the union of the user's
marks, cut at the video's end. Both are sampled at 5 frames per second. With these choices a random
ranker gets PHD-GIFs' published Random row (12.97 mAP, 50.60 nMSD, 21.38 Recall@5), which rules out
several other readings of the paper.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.user_splits import describe_splits
from storage.scores import Key, ScoreTrack
from trainer.evaluation.statistics import Evaluation
from trainer.evaluation.time_grid import Counts, TimeGrid
from trainer.metrics.ranking import (
    Floats,
    interpolated_ap,
    nmsd,
    precision_recall_curve,
    recall_at_k,
    step_ap,
    uninterpolated_ap,
)

UNKNOWN_DURATION = "unknown_duration"
EMPTY_TRUTH = "empty_truth"
NO_SCORES = "no_scores"


@dataclass(frozen=True)
class Protocol:
    """How scores on PHD2 become metrics. A protocol with other settings needs another name."""

    name: str = "phd2-segments"
    version: int = 1
    segment_seconds: float = 5.0
    frames_per_second: float = 5.0
    recall: float = 0.5
    """Share of the ground truth that a summary must contain for nMSD."""
    top: int = 5
    """The k of Recall@k, in segments."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


PHD2 = Protocol()
PER_FRAME = Protocol("phd2-frames", segment_seconds=0.2)
"""Scores every frame of the grid on its own. A random ranker then gets 8.5 mAP instead of 12.6."""


@dataclass(frozen=True)
class Target:
    """The ground truth of one user's target video. M segments."""

    grid: TimeGrid
    frames: Counts
    """`(M,)`: frames of the grid in each segment."""
    positives: Counts
    """`(M,)`: the number of these that the user marked."""
    marks: tuple[Counts, ...]
    """`positives` of each single mark; marks without a frame are left out."""


@dataclass(frozen=True)
class Targets:
    """The targets of a split under one protocol. All pairs = known + dropped."""

    protocol: Protocol
    known: Mapping[Key, Target]
    dropped: Mapping[Key, str]
    """(user, video) → why there is no ground truth."""


def find_targets(
    catalog: Catalog,
    split: str,
    protocol: Protocol = PHD2,
    durations: Mapping[str, float] = MappingProxyType({}),
    users: Collection[str] | None = None,
) -> Targets:
    """The targets of a split's users.

    `durations` are seconds as decoded, and replace those that the catalog claims. `users` are given
    if the catalog does not say who is in the split, as for a hold-out of the training users.

    Raises SettingsError for a catalog whose times are frame numbers, and for a split without any
    target.
    """
    if catalog.time_unit != "seconds":
        unit = catalog.time_unit
        raise SettingsError(
            (f"{protocol} needs annotations in seconds; {catalog.name}'s are in {unit}",)
        )
    pairs = _target_pairs(catalog, split, users)
    claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}
    # The marks of all users are read once: a lookup per target would read the table each time.
    spans = _spans_by_pair(catalog)
    known: dict[Key, Target] = {}
    dropped: dict[Key, str] = {}
    for user_id, video_id in pairs:
        key = (user_id, video_id)
        seconds = durations.get(video_id, claimed[video_id])
        if seconds is None:
            dropped[key] = UNKNOWN_DURATION
            continue
        target = _target(seconds, spans[key], protocol)
        if target is None:
            dropped[key] = EMPTY_TRUTH
        else:
            known[key] = target
    return Targets(protocol, known, dropped)


def _target_pairs(catalog: Catalog, split: str, users: Collection[str] | None) -> list[Key]:
    """(user, video) of each target of the users, by default those of the split."""
    wanted = _users_of_split(catalog, split) if users is None else set(users)
    pairs = []
    for link in catalog.links:
        if link.role == "target" and link.user_id in wanted:
            pairs.append((link.user_id, link.video_id))
    if not pairs:
        present = describe_splits(catalog, split)
        raise SettingsError(
            (f"{catalog.name} has no targets in the split {split!r}; its users: {present}",)
        )
    return pairs


def _users_of_split(catalog: Catalog, split: str) -> set[str]:
    return {user.user_id for user in catalog.users if user.split == split}


def scored_durations(tracks: Iterable[ScoreTrack]) -> dict[str, float]:
    """Video → seconds, as the scorer saw it; for `find_targets`.

    Raises ValueError if two tracks of a video disagree.
    """
    durations: dict[str, float] = {}
    for track in tracks:
        duration = durations.setdefault(track.video_id, track.duration_seconds)
        if duration != track.duration_seconds:
            raise ValueError(
                f"{track.video_id} lasts {duration} s in one track, {track.duration_seconds} s "
                "in another"
            )
    return durations


def _spans_by_pair(catalog: Catalog) -> Mapping[Key, Floats]:
    """(user, video) → `(G, 2)` marks in seconds; an empty array if there is none."""
    spans: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for row in catalog.annotations:
        spans[row.annotator, row.video_id].append((row.start, row.end))
    empty = np.zeros((0, 2))
    return defaultdict(lambda: empty, {key: np.array(marks) for key, marks in spans.items()})


def _target(seconds: float, spans: Floats, protocol: Protocol) -> Target | None:
    """The ground truth of a video; None if no frame of it is marked."""
    grid = TimeGrid(seconds, protocol.segment_seconds, protocol.frames_per_second)
    positives = grid.covered_frames(spans)
    if positives.sum() == 0:
        return None
    marks = []
    for span in spans:
        mark = grid.covered_frames(span[np.newaxis])
        if mark.sum():
            marks.append(mark)
    return Target(grid, grid.frames, positives, tuple(marks))


def target_metrics(target: Target, scores: Floats, protocol: Protocol) -> dict[str, float]:
    """The metrics of one target for `(M,)` scores of its segments.

    `ap` is Video2GIF's interpolated average precision, which reproduces PHD-GIFs' tables. `nmsd` is
    against the union of the marks; `nmsd_mean` and `nmsd_best` are the mean and the best over
    single marks.
    """
    curve = precision_recall_curve(scores, target.positives, target.frames)
    of_union = nmsd(scores, target.positives, target.frames, recall=protocol.recall)
    of_marks = [of_union]
    if len(target.marks) > 1:
        of_marks = [
            nmsd(scores, mark, target.frames, recall=protocol.recall) for mark in target.marks
        ]
    return {
        "ap": interpolated_ap(curve),
        "ap_uninterpolated": uninterpolated_ap(curve),
        "ap_step": step_ap(curve),
        "nmsd": of_union,
        "nmsd_mean": sum(of_marks) / len(of_marks),
        "nmsd_best": min(of_marks),
        f"recall_at_{protocol.top}": recall_at_k(scores, target.positives, protocol.top),
    }


def evaluate(
    targets: Targets,
    tracks: Mapping[Key, ScoreTrack],
    absent: Mapping[Key, str] = MappingProxyType({}),
) -> Evaluation:
    """Metrics of each user: the mean over the user's scored targets (on PHD2 there is one).

    A track under the empty user serves all users without a track of their own. Users = measured +
    dropped; a dropped user has one of the reasons of `targets` and `absent`, or `no_scores`.
    """
    values: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    reasons = {user: reason for (user, _), reason in targets.dropped.items()}
    for (user, video), target in targets.known.items():
        # Networks without users give one track per video.
        track = tracks.get((user, video), tracks.get(("", video)))
        if track is None:
            reason_for_all = absent.get(("", video), NO_SCORES)
            reasons[user] = absent.get((user, video), reason_for_all)
            continue
        scores = target.grid.mean_scores(track.spans, track.scores.astype(np.float64))
        values[user].append(target_metrics(target, scores, targets.protocol))
    users = tuple(sorted(values))
    # All targets have the same metrics.
    metrics = list(values[users[0]][0]) if users else []
    return Evaluation(
        protocol=str(targets.protocol),
        ids=users,
        values={name: np.array([_mean(values[user], name) for user in users]) for name in metrics},
        dropped={user: reasons[user] for user in sorted(reasons) if user not in values},
    )


def _mean(rows: list[Mapping[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
