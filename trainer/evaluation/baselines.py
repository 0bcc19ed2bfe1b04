"""Rankers that learn nothing and look at no picture: chance, the place in the video, and its
duration.

Each is a function from targets to score tracks; whatever a model learns has to beat all of them.
Refuses to know how scores become numbers.
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
"""A clip of 16 frames at 30 frames a second, the row of C3D."""

ScoreFunction = Callable[[Floats, float, Generator], Floats]
"""`(T, 2)` spans of a video's rows, where the video ends in the same unit, and dice → `(T,)`
scores.
"""


@dataclass(frozen=True)
class Baseline:
    """One ranker."""

    description: str
    """What it does, in a few words."""
    score: ScoreFunction
    is_random: bool = False
    """Whether another seed gives other scores."""
    row_seconds: float | None = None
    """How long a row is; None for the protocol's own segments."""


def _uniform(spans: Floats, end: float, dice: Generator) -> Floats:
    return dice.random(len(spans))


def _early(spans: Floats, end: float, dice: Generator) -> Floats:
    return -spans[:, 0]


def _late(spans: Floats, end: float, dice: Generator) -> Floats:
    return spans[:, 0]


def _centre(spans: Floats, end: float, dice: Generator) -> Floats:
    return np.asarray(-np.abs(spans.mean(axis=1) - end / 2))


def _edges(spans: Floats, end: float, dice: Generator) -> Floats:
    return -_centre(spans, end, dice)


def _duration(spans: Floats, end: float, dice: Generator) -> Floats:
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
"""Every baseline there is, by name."""


def baseline_tracks(baseline: Baseline, asked: Targets, seed: int = 0) -> dict[Key, ScoreTrack]:
    """A track for every target that can be measured; the same seed gives the same tracks."""
    dice = np.random.default_rng(seed)
    return {key: _track(key, baseline, asked.known[key].grid, dice) for key in sorted(asked.known)}


ORACLE = "oracle"
"""Ranks judged segments by the mean of what annotators gave: what no ranker can know."""
VIDEO_RANKERS = (*(name for name, one in BASELINES.items() if one.row_seconds is None), ORACLE)
"""Those that rank judged segments of videos."""


def video_ranker(name: str, seed: int = 0) -> Ranker:
    """One of `VIDEO_RANKERS`, which rolls the same dice for the same seed."""
    if name == ORACLE:
        return lambda judged: np.asarray(judged.values.mean(axis=0))
    baseline, dice = BASELINES[name], np.random.default_rng(seed)
    return lambda judged: baseline.score(judged.spans, float(judged.spans[:, 1].max()), dice)


def is_random(name: str) -> bool:
    """Whether another seed gives other scores."""
    return name != ORACLE and BASELINES[name].is_random


def _track(key: Key, baseline: Baseline, grid: TimeGrid, dice: Generator) -> ScoreTrack:
    if baseline.row_seconds is None:
        spans = grid.spans
    else:
        spans = TimeGrid(
            grid.duration_seconds, baseline.row_seconds, 1 / baseline.row_seconds
        ).spans
    scores = baseline.score(spans, grid.duration_seconds, dice).astype(np.float32)
    return ScoreTrack(*key, grid.duration_seconds, spans, scores)
