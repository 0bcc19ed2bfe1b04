"""Baselines that learn nothing and look at no picture: chance, position in the video, duration.

Each is a function from targets to score tracks. A trained model has to beat all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from storage.scores import Key, ScoreTrack
from trainer.evaluation.domain_protocol import Ranker
from trainer.evaluation.phd2_protocol import Targets
from trainer.evaluation.time_grid import TimeGrid
from trainer.metrics.ranking import Floats

ROW_SECONDS = 16 / 30
"""A C3D clip: 16 frames at 30 frames per second."""

ScoreFunction = Callable[[Floats, float, Generator], Floats]
"""`(T, 2)` spans of a video's rows, its end in the same unit, and a generator → `(T,)` scores."""


@dataclass(frozen=True)
class Baseline:
    """A ranker that learns nothing."""

    description: str
    """How it ranks, in a few words."""
    score: ScoreFunction
    is_random: bool = False
    """Whether another seed gives other scores."""
    row_seconds: float | None = None
    """Length of a row; None for the protocol's own segments."""


def _uniform(spans: Floats, end: float, rng: Generator) -> Floats:
    return rng.random(len(spans))


def _early(spans: Floats, end: float, rng: Generator) -> Floats:
    return -spans[:, 0]


def _late(spans: Floats, end: float, rng: Generator) -> Floats:
    return spans[:, 0]


def _centre(spans: Floats, end: float, rng: Generator) -> Floats:
    return np.asarray(-np.abs(spans.mean(axis=1) - end / 2))


def _edges(spans: Floats, end: float, rng: Generator) -> Floats:
    return -_centre(spans, end, rng)


def _duration(spans: Floats, end: float, rng: Generator) -> Floats:
    return np.full(len(spans), 1 / end)


BASELINES: dict[str, Baseline] = {
    "random": Baseline("one uniform number per segment", _uniform, is_random=True),
    "random-rows": Baseline(
        "one uniform number per 16 frames", _uniform, is_random=True, row_seconds=ROW_SECONDS
    ),
    "early": Baseline("the earlier, the better", _early),
    "late": Baseline("the later, the better", _late),
    "centre": Baseline("the nearer to the middle, the better", _centre),
    "edges": Baseline("the farther from the middle, the better", _edges),
    "duration": Baseline(
        "the shorter the video, the better: one score for all its segments", _duration
    ),
}
"""Name → baseline."""


def baseline_tracks(baseline: Baseline, targets: Targets, seed: int = 0) -> dict[Key, ScoreTrack]:
    """A track for every target that can be measured; the same seed gives the same tracks."""
    rng = np.random.default_rng(seed)
    # Sorted, so that the numbers of a seed do not depend on the order of the targets.
    return {
        key: _track(key, baseline, targets.known[key].grid, rng) for key in sorted(targets.known)
    }


ORACLE = "oracle"
"""Ranks segments by the mean of the annotators' values, which no ranker can know."""
VIDEO_RANKERS = (
    *(name for name, baseline in BASELINES.items() if baseline.row_seconds is None),
    ORACLE,
)
"""Names of the rankers for annotated segments of videos."""


def video_ranker(name: str, seed: int = 0) -> Ranker:
    """The ranker of `VIDEO_RANKERS` with this name; the same seed gives the same scores."""
    if name == ORACLE:
        return lambda labels: np.asarray(labels.values.mean(axis=0))
    baseline, rng = BASELINES[name], np.random.default_rng(seed)
    return lambda labels: baseline.score(labels.spans, float(labels.spans[:, 1].max()), rng)


def is_random(name: str) -> bool:
    """Whether another seed gives other scores."""
    return name != ORACLE and BASELINES[name].is_random


def _track(key: Key, baseline: Baseline, grid: TimeGrid, rng: Generator) -> ScoreTrack:
    duration = grid.duration_seconds
    spans = grid.spans
    if baseline.row_seconds is not None:
        spans = TimeGrid(duration, baseline.row_seconds, 1 / baseline.row_seconds).spans
    scores = baseline.score(spans, duration, rng).astype(np.float32)
    return ScoreTrack(*key, duration, spans, scores)
