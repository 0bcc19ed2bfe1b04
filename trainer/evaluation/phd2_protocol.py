"""From scores of rows of time to a user's numbers: what PHD2's tables measure, on segments of true
time.

A target is a video that a user marked last. It is cut into 5-second segments, the last one shorter;
a segment's score is the mean of the rows in it; the truth is the union of the user's marks, cut at
the video's end; both are looked at through a grid of 5 frames a second. With that a random ranker
gets PHD-GIFs' published Random row (12.97 mAP, 50.60 nMSD, 21.38 Recall@5), which rules out several
other readings of the paper. Refuses to know models and features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
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
    """How scores on PHD2 become numbers. Another setting is another protocol and needs another
    name.
    """

    name: str = "phd2-segments"
    version: int = 1
    segment_seconds: float = 5.0
    frames_per_second: float = 5.0
    recall: float = 0.5
    """Of the truth that nMSD wants to see."""
    top: int = 5
    """How many segments Recall@k looks at."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


PHD2 = Protocol()
PER_FRAME = Protocol("phd2-frames", segment_seconds=0.2)
"""Every frame of the grid scored for itself, to show what that alone does: a random ranker gets 8.5
mAP.
"""


@dataclass(frozen=True)
class Target:
    """The truth about one user's target video, per segment."""

    grid: TimeGrid
    frames: Counts
    """`(M,)`: how many frames of the grid a segment holds."""
    positives: Counts
    """`(M,)`: how many of them the user marked."""
    marks: tuple[Counts, ...]
    """The same for each mark alone; marks that hold no frame are left out."""


@dataclass(frozen=True)
class Targets:
    """What a split asks for, under one protocol. Pairs asked for = known + dropped."""

    protocol: Protocol
    known: Mapping[Key, Target]
    dropped: Mapping[Key, str]
    """(user, video) → why there is no truth to measure against."""


def find_targets(
    catalog: Catalog,
    split: str,
    protocol: Protocol = PHD2,
    durations: Mapping[str, float] = MappingProxyType({}),
    users: Collection[str] | None = None,
) -> Targets:
    """The targets of a split's users; `durations` (seconds, as decoded) go before what the catalog
    claims.

    `users` are given where the catalog does not say who is in the split, as for a hold-out of the
    training users.

    Raises SettingsError for a catalog whose times are frame numbers, and for a split without any
    target.
    """
    if catalog.time_unit != "seconds":
        raise SettingsError(
            (
                f"{protocol} needs annotations in seconds; {catalog.name}'s are in {catalog.time_unit}",
            )
        )
    wanted = (
        {user.user_id for user in catalog.users if user.split == split}
        if users is None
        else set(users)
    )
    asked = [
        (row.user_id, row.video_id)
        for row in catalog.links
        if row.role == "target" and row.user_id in wanted
    ]
    if not asked:
        there = ", ".join(sorted({user.split for user in catalog.users})) or "none"
        raise SettingsError(
            (f"{catalog.name} has no targets in the split {split!r}; it has the splits {there}",)
        )
    claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}
    spans = _spans(catalog)
    known: dict[Key, Target] = {}
    dropped: dict[Key, str] = {}
    for key in asked:
        seconds = durations.get(key[1], claimed[key[1]])
        found = UNKNOWN_DURATION if seconds is None else _target(seconds, spans[key], protocol)
        if isinstance(found, str):
            dropped[key] = found
        else:
            known[key] = found
    return Targets(protocol, known, dropped)


def scored_durations(tracks: Iterable[ScoreTrack]) -> dict[str, float]:
    """Video → seconds, as the scorer saw it, for `targets`. Raises ValueError where two tracks of a
    video disagree.
    """
    found: dict[str, float] = {}
    for track in tracks:
        if found.setdefault(track.video_id, track.duration_seconds) != track.duration_seconds:
            raise ValueError(
                f"{track.video_id} lasts {found[track.video_id]} s in one track, {track.duration_seconds} s"
            )
    return found


def _spans(catalog: Catalog) -> Mapping[Key, Floats]:
    spans: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for row in catalog.annotations:
        spans[row.annotator, row.video_id].append((row.start, row.end))
    empty = np.zeros((0, 2))
    return defaultdict(lambda: empty, {key: np.array(found) for key, found in spans.items()})


def _target(seconds: float, spans: Floats, protocol: Protocol) -> Target | str:
    grid = TimeGrid(seconds, protocol.segment_seconds, protocol.frames_per_second)
    positives = grid.covered_frames(spans)
    if positives.sum() == 0:
        return EMPTY_TRUTH
    marks = (grid.covered_frames(span[np.newaxis]) for span in spans)
    return Target(grid, grid.frames, positives, tuple(mark for mark in marks if mark.sum()))


def target_metrics(target: Target, scores: Floats, protocol: Protocol) -> dict[str, float]:
    """Every number of one target for `(M,)` scores of its segments.

    `ap` is Video2GIF's interpolated average precision, the one that reproduces PHD-GIFs' tables;
    `nmsd` is against the union of the marks, `nmsd_mean` and `nmsd_best` are the mean and the best
    over single marks.
    """
    line = precision_recall_curve(scores, target.positives, target.frames)
    union = nmsd(scores, target.positives, target.frames, recall=protocol.recall)
    alone = [union]
    if len(target.marks) > 1:
        alone = [nmsd(scores, mark, target.frames, recall=protocol.recall) for mark in target.marks]
    return {
        "ap": interpolated_ap(line),
        "ap_uninterpolated": uninterpolated_ap(line),
        "ap_step": step_ap(line),
        "nmsd": union,
        "nmsd_mean": sum(alone) / len(alone),
        "nmsd_best": min(alone),
        f"recall_at_{protocol.top}": recall_at_k(scores, target.positives, protocol.top),
    }


@dataclass(frozen=True)
class _Tally:
    """Numbers and reasons by user while they are gathered."""

    values: dict[str, list[Mapping[str, float]]] = field(default_factory=lambda: defaultdict(list))
    reasons: dict[str, str] = field(default_factory=dict)


def evaluate(
    asked: Targets,
    tracks: Mapping[Key, ScoreTrack],
    absent: Mapping[Key, str] = MappingProxyType({}),
) -> Evaluation:
    """One number per user and metric: the mean over the user's targets that have scores (on PHD2
    there is one target).

    A track for everybody, under the empty user, serves where the user has none. Users = measured +
    dropped; a dropped user has one of the reasons of `asked` and `absent`, or `no_scores`.
    """
    tally = _Tally(reasons={user: reason for (user, _), reason in asked.dropped.items()})
    for (user, video), target in asked.known.items():
        track = tracks.get((user, video), tracks.get(("", video)))
        if track is None:
            tally.reasons[user] = absent.get((user, video), absent.get(("", video), NO_SCORES))
        else:
            scores = target.grid.mean_scores(track.spans, track.scores.astype(np.float64))
            tally.values[user].append(target_metrics(target, scores, asked.protocol))
    users = tuple(sorted(tally.values))
    metrics = list(tally.values[users[0]][0]) if users else []
    return Evaluation(
        protocol=str(asked.protocol),
        ids=users,
        values={
            name: np.array([_mean(tally.values[user], name) for user in users]) for name in metrics
        },
        dropped={
            user: reason
            for user, reason in sorted(tally.reasons.items())
            if user not in tally.values
        },
    )


def _mean(rows: list[Mapping[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)
