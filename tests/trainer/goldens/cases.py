"""A thousand small videos with scores and truth, from a seed: what our metrics and the authors' are
both given.

Every other case has scores in quarters, so that most of them are tied. `random.Random.random` gives
the same numbers with every release of Python, which numpy does not promise.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASES = 1000


@dataclass(frozen=True)
class Case:
    """One video, seen by each metric in turn."""

    run_scores: NDArray[np.float64]
    """`(M,)`: one score for each run of frames."""
    run_frames: NDArray[np.int64]
    """`(M,)`: how many frames a run has."""
    gifs: NDArray[np.int64]
    """`(G, T)` 0 or 1 for each frame; neither empty nor everything."""
    clip_scores: NDArray[np.float64]
    clip_labels: NDArray[np.int64]
    """`(N,)`; at least one positive."""
    shot_scores: NDArray[np.float64]
    ratings: NDArray[np.int64]
    """`(A, S)` from 1 to 5; S is at least 5."""
    boundaries: NDArray[np.int64]
    """`(P + 1,)`: frames at which shots start, and the number of frames."""
    positions: NDArray[np.int64]
    sampled_scores: NDArray[np.float64]
    """Scores of the frames at `positions`."""
    people: NDArray[np.int64]
    """`(U, T)` 0 or 1: summaries by people."""
    features: NDArray[np.float64]
    """`(n, 3)` with a few sudden changes."""


class _Dice:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def number(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def numbers(self, count: int, low: int, high: int) -> NDArray[np.int64]:
        return np.array([self.number(low, high) for _ in range(count)], np.int64)

    def scores(self, count: int, *, tied: bool) -> NDArray[np.float64]:
        return (
            self.numbers(count, 0, 4) / 4
            if tied
            else np.array([self._random() for _ in range(count)])
        )


def case(seed: int) -> Case:
    """The case with this number, from 0 on."""
    dice, tied = _Dice(seed), seed % 2 == 1
    runs = dice.number(2, 30)
    run_frames = np.ones(runs, np.int64) if seed % 4 >= 2 else dice.numbers(runs, 1, 20)
    n_clips, n_shots, n_people = dice.number(1, 40), dice.number(5, 40), dice.number(1, 20)
    labels = (dice.scores(n_clips, tied=False) < 0.3).astype(np.int64)
    labels[dice.number(0, n_clips - 1)] = 1
    boundaries = np.concatenate([[0], np.cumsum(dice.numbers(dice.number(2, 12), 1, 16))])
    positions, sampled = _samples(dice, boundaries, tied=tied)
    return Case(
        run_scores=dice.scores(runs, tied=tied),
        run_frames=run_frames,
        gifs=_gifs(dice, int(run_frames.sum())),
        clip_scores=dice.scores(n_clips, tied=tied),
        clip_labels=labels,
        shot_scores=dice.scores(n_shots, tied=tied),
        ratings=dice.numbers(n_people * n_shots, 1, 5).reshape(n_people, n_shots),
        boundaries=boundaries,
        positions=positions,
        sampled_scores=sampled,
        people=dice.numbers(n_people * int(boundaries[-1]), 0, 1).reshape(n_people, -1),
        features=_scenes(dice),
    )


def _gifs(dice: _Dice, n_frames: int) -> NDArray[np.int64]:
    gifs = np.zeros((dice.number(1, 3), n_frames), np.int64)
    for gif in gifs:
        start = dice.number(0, n_frames - 1)
        gif[start : dice.number(start + 1, n_frames)] = 1
        if gif.all():
            gif[0] = 0
    return gifs


def _samples(
    dice: _Dice, boundaries: NDArray[np.int64], *, tied: bool
) -> tuple[NDArray[np.int64], Any]:
    if tied:
        # One sample a shot: means are the samples themselves, exact in float32 as in float64, and
        # ties stay ties.
        return boundaries[:-1], dice.scores(len(boundaries) - 1, tied=True)
    positions = np.arange(0, boundaries[-1], dice.number(1, 5))
    return positions, dice.scores(len(positions), tied=False)


def _scenes(dice: _Dice) -> NDArray[np.float64]:
    lengths = dice.numbers(dice.number(1, 5), 1, 6)
    scenes = np.repeat(dice.scores(3 * len(lengths), tied=False).reshape(-1, 3), lengths, axis=0)
    noise = dice.scores(scenes.size, tied=False).reshape(scenes.shape)
    return np.asarray(4 * scenes + noise)
