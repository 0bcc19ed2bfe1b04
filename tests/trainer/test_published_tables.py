"""Chance and oracle on the real annotations of YouTube Highlights and TVSum, as measured with other code before."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.metrics.ranking import curve, step_ap, top_k_ap, trapezoidal_ap
from trainer.metrics.truth import above_median, top_half

SEEDS = 8
RANDOM_STEP_AP = {
    "dog": 0.450,
    "gymnastics": 0.653,
    "parkour": 0.468,
    "skating": 0.300,
    "skiing": 0.562,
    "surfing": 0.518,
}
TVSUM = {"half": (top_half, 0.570, 0.894), "median": (above_median, 0.417, 0.808)}
"""Rule of truth, top-5 AP of chance, of ranking by the annotators' mean."""


def clip_labels(folder: Path) -> list[NDArray[np.bool_]]:
    """Clip labels of the test part of the selected list: matched, or not."""
    lists = {name: ids for ids, name in json.loads((folder / "vlist_sel.json").read_bytes())}
    files = [folder / video / "match_label.json" for video in lists["TestTightL"] + lists["TestLooseL"]]
    return [np.array(json.loads(file.read_bytes())[1]) > 0 for file in files]


@pytest.mark.parametrize("domain", RANDOM_STEP_AP)
def test_chance_on_youtube_highlights(shared_data: Path, domain: str) -> None:
    labels, dice = clip_labels(shared_data / "youtube_highlights" / domain), np.random.default_rng(0)
    runs = [np.mean([step_ap(curve(dice.random(len(one)), one)) for one in labels]) for _ in range(SEEDS)]
    error = np.std(runs, ddof=1) * np.hypot(1, SEEDS**-0.5)
    assert np.mean(runs) == pytest.approx(RANDOM_STEP_AP[domain], abs=4 * error)


def test_the_trapezoid_is_a_lower_scale(shared_data: Path) -> None:
    dice, macro = np.random.default_rng(1), []
    for _ in range(SEEDS):
        means = []
        for domain in RANDOM_STEP_AP:
            labels = clip_labels(shared_data / "youtube_highlights" / domain)
            means.append(np.mean([trapezoidal_ap(dice.random(len(one)), one) for one in labels]))
        macro.append(np.mean(means))
    error = np.std(macro, ddof=1) * np.hypot(1, SEEDS**-0.5)
    assert np.mean(macro) == pytest.approx(0.453, abs=4 * error)
    assert np.mean(macro) < np.mean(list(RANDOM_STEP_AP.values())) - 0.03


def ratings(file: Path) -> list[NDArray[np.float64]]:
    """`(20, shots)` of each video: the annotators' ratings of shots of two seconds."""
    with h5py.File(file, locking=False) as mat:
        table, found = mat["tvsum50"], []
        for row in range(len(table["user_anno"])):
            frames = mat[table["user_anno"][row, 0]][()]
            per_second = mat[table["nframes"][row, 0]][0, 0] / mat[table["length"][row, 0]][0, 0]
            found.append(frames[:, :: 2 * round(per_second)])
    return found


@pytest.mark.parametrize("rule", TVSUM)
def test_chance_and_oracle_on_tvsum(shared_data: Path, rule: str) -> None:
    truth, chance, oracle = TVSUM[rule]
    videos = ratings(shared_data / "tvsum" / "ydata-tvsum50.mat")
    assert len(videos) == 50
    dice = np.random.default_rng(0)
    best = np.mean([top_k_ap(video.mean(axis=0), truth(video)).mean() for video in videos])
    runs = [
        np.mean([top_k_ap(dice.random(video.shape[1]), truth(video)).mean() for video in videos]) for _ in range(SEEDS)
    ]
    assert best == pytest.approx(oracle, abs=0.001)
    assert np.mean(runs) == pytest.approx(chance, abs=4 * np.std(runs, ddof=1) * np.hypot(1, SEEDS**-0.5))
