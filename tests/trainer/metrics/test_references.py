"""Our metrics answer what the authors' public code answers, on a thousand cases of which half are
full of ties.

`HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow tests/trainer/metrics/test_references.py` runs that
code again, where FOLDER holds the checkouts named in `tests/trainer/goldens/make_metrics.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.goldens.reference import checkout
from tests.trainer.goldens import make_metrics
from tests.trainer.goldens.cases import CASES, Case, case
from trainer.evaluation.kts import shot_boundaries
from trainer.metrics.ground_truth import above_median, top_half
from trainer.metrics.ranking import (
    interpolated_ap,
    nmsd,
    precision_recall_curve,
    top_k_ap,
    trapezoidal_ap,
    uninterpolated_ap,
)
from trainer.metrics.summary import hold_scores, key_shots, summary_f

GOLDEN = json.loads(Path(make_metrics.__file__).with_name("metrics.json").read_text())
TOLERANCES = {"f_mean": 1e-6, "f_max": 1e-6}
"""The F-score's reference computes in float32; everything else is stated to nine digits."""


@cache
def ours() -> dict[str, list[Any]]:
    rows = [{**ranking(given), **summaries(given)} for given in map(case, range(CASES))]
    return {
        name: [row.get(name) for row in rows]
        for name in sorted({name for row in rows for name in row})
    }


def ranking(given: Case) -> dict[str, Any]:
    """With one item per run of frames, where the references were given every frame."""
    starts = np.concatenate([[0], np.cumsum(given.run_frames)[:-1]])
    union, *gifs = np.add.reduceat(np.stack([given.gifs.max(axis=0), *given.gifs]), starts, axis=1)
    line = precision_recall_curve(given.run_scores, union, given.run_frames)
    each = [nmsd(given.run_scores, gif, given.run_frames) for gif in gifs]
    whole = (
        {}
        if union.sum() == given.run_frames.sum()
        else {"nmsd": nmsd(given.run_scores, union, given.run_frames)}
    )
    people = make_metrics.twenty(given.ratings)
    return {
        "ap": interpolated_ap(line),
        "ap_uninterpolated": uninterpolated_ap(line),
        "nmsd_mean": np.mean(each),
        "nmsd_best": min(each),
        **whole,
        "ap_trapezoidal": trapezoidal_ap(given.clip_scores, given.clip_labels),
        "top_5_median": top_k_ap(given.shot_scores, above_median(people)).mean(),
        "top_5_half": top_k_ap(given.shot_scores, top_half(given.ratings)).mean(),
    }


def summaries(given: Case) -> dict[str, Any]:
    n_frames = int(given.boundaries[-1])
    found: dict[str, Any] = {"shots": shot_boundaries(given.features)[1:-1].tolist()}
    if n_frames * 0.15 >= 1:
        summary = key_shots(
            hold_scores(given.sampled_scores, given.positions, n_frames), given.boundaries
        )
        found |= {
            "f_mean": summary_f(summary, given.people, "mean"),
            "f_max": summary_f(summary, given.people, "max"),
        }
    return found


@pytest.mark.parametrize("name", sorted(set(GOLDEN) - {"references", "shots"}))
def test_the_authors_code_answers_the_same(name: str) -> None:
    for seed, (found, expected) in enumerate(zip(ours()[name], GOLDEN[name], strict=True)):
        assert (found is None) == (expected is None), f"case {seed}"
        if expected is not None:
            assert found == pytest.approx(expected, abs=TOLERANCES.get(name, 2e-9)), f"case {seed}"


def test_shots_change_where_the_authors_code_says() -> None:
    assert ours()["shots"] == GOLDEN["shots"]


def test_the_cases_are_worth_comparing() -> None:
    """Ties, several changes, summaries that take something: none of the thousand answers is there
    by default.
    """
    tied = [len(set(given.run_scores)) < len(given.run_scores) for given in map(case, range(CASES))]
    assert sum(tied) > 450
    assert np.mean([len(changes) > 0 for changes in GOLDEN["shots"]]) > 0.5
    assert np.mean([f_score is not None and f_score > 0 for f_score in GOLDEN["f_mean"]]) > 0.8
    assert GOLDEN["references"] == sorted(make_metrics.COMMITS.values())


@pytest.mark.slow
def test_the_golden_answers_are_what_the_authors_code_gives_now(tmp_path: Path) -> None:
    folders = {checkout(name).parent for name in make_metrics.COMMITS}
    again = tmp_path / "metrics.json"
    command = [
        sys.executable,
        "-m",
        "tests.trainer.goldens.make_metrics",
        str(folders.pop()),
        str(again),
    ]
    subprocess.run(command, check=True)
    found = json.loads(again.read_text())
    assert found["references"] == GOLDEN["references"]
    assert found["shots"] == GOLDEN["shots"]
    for name in sorted(set(GOLDEN) - {"references", "shots"}):
        assert found[name] == pytest.approx(GOLDEN[name], abs=2e-9), name
