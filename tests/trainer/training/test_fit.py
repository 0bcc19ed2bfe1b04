"""A training that is broken off at any step ends with the weights of one that never was, and
answers like it.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from storage.base.errors import LeaseHeld, SettingsError
from storage.files.file_lock import lease
from storage.scores import read_scores
from tests.conftest import REPOSITORY
from trainer.config.recipe import load_recipe
from trainer.inference.score_run import EvalRequest, evaluate_run, score_split
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users
from trainer.training.checkpoint import read_checkpoint
from trainer.training.fit import FitOptions, Run, fit, load_trained_model
from trainer.training.loop import Progress
from trainer.training.train_step import Diverged

CHANGES = (
    "data.holdout_users=4",
    "data.targets=every",
    "training.epochs=3",
    "training.batch_size=8",
    "model.dropouts=[0.5, 0.2, 0.2]",
)
PLANTED = SyntheticUserSettings(seed=3, train_users=16, test_users=5, max_videos=5, width=16)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("planted"), PLANTED)


@pytest.fixture
def folder(planted: Path, tmp_path: Path) -> Path:
    """The planted store, with runs and scores of this test alone."""
    return Path(shutil.copytree(planted, tmp_path / planted.name))


def run(folder: Path, *changes: str, seed: int = 0) -> Run:
    return Run(load_recipe("phd_ca", changes=(*CHANGES, *changes), small=True), folder, seed)


class Killed(BaseException):
    """Stands for a kill between two steps."""


class KillAt:
    """Breaks off at the given steps, once each."""

    def __init__(self, steps: set[int]) -> None:
        self.steps = steps

    def __call__(self, progress: Progress, loss: float) -> None:
        if progress.step in self.steps:
            self.steps.discard(progress.step)
            raise Killed


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path).state["model"])


def epochs(run_folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run_folder / "log.csv").read_text().splitlines()))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize(
    "minutes", [0.0, 10.0], ids=["kept after each step", "kept after each epoch"]
)
def test_broken_off_and_resumed_is_as_if_never_broken_off(
    folder: Path, tmp_path: Path, minutes: float
) -> None:
    straight = weights(fit(run(folder), FitOptions()))
    (folder / "runs").rename(tmp_path / "straight")
    kill = KillAt({2, 5, 6, 11})
    broken = 0
    while not list(folder.glob("runs/*/model.safetensors")):
        try:
            fit(run(folder), FitOptions(checkpoint_minutes=minutes, on_step=kill))
        except Killed:
            broken += 1
            torch.manual_seed(broken)  # another process would begin with other random numbers
    assert broken >= 3
    assert same(straight, weights(next(folder.glob("runs/*/model.safetensors"))))
    assert [float(row["epoch"]) for row in epochs(next(folder.glob("runs/*")))] == [0, 1, 2]


def test_another_seed_gives_other_weights(folder: Path) -> None:
    assert not same(
        weights(fit(run(folder), FitOptions())), weights(fit(run(folder, seed=1), FitOptions()))
    )


def test_a_finished_run_is_not_trained_again(folder: Path) -> None:
    path = fit(run(folder), FitOptions())
    before = path.stat().st_mtime_ns
    assert fit(run(folder), FitOptions(on_step=KillAt({1}))) == path
    assert path.stat().st_mtime_ns == before
    assert not list(path.parent.glob("last*"))


def test_the_best_epoch_on_validation_users_is_kept(folder: Path) -> None:
    path = fit(run(folder, "training.epochs=6", "optimizer.learning_rate=0.05"), FitOptions())
    rows = epochs(path.parent)
    best = max(range(len(rows)), key=lambda epoch: float(rows[epoch]["validation_ap"]))
    assert read_checkpoint(path).about["best_epoch"] == best


def test_patience_ends_a_training(folder: Path) -> None:
    path = fit(
        run(folder, "training.epochs=40", "training.patience=2", "optimizer.learning_rate=0.05"),
        FitOptions(),
    )
    about = read_checkpoint(path).about
    rows = epochs(path.parent)
    assert len(rows) == about["best_epoch"] + 3 < 40


def test_a_loss_that_explodes_stops_the_run_and_says_what_to_do(folder: Path) -> None:
    with pytest.raises(Diverged, match="learning_rate"):
        fit(run(folder, "optimizer.learning_rate=1e30", "training.validate=false"), FitOptions())


def test_two_at_once_are_refused(folder: Path) -> None:
    mine = run(folder)
    with lease(mine.run_folder(mine.data()) / "training.lease"), pytest.raises(LeaseHeld):
        fit(mine, FitOptions())


def test_scores_are_kept_and_asked_for_once(folder: Path) -> None:
    question = EvalRequest(fit(run(folder), FitOptions()), folder, "test")
    seen: list[int] = []
    first = score_split(question, device="cpu", on_batch=seen.append)
    again = score_split(
        question, device="cpu", on_batch=lambda examples: pytest.fail("scored twice")
    )
    assert sum(seen) == len(first.tracks) > 0
    assert (
        first.tracks.keys()
        == again.tracks.keys()
        == read_scores(question.layout, question.name).tracks.keys()
    )
    found = evaluate_run(question, again)
    asked = {user for user, _ in {**first.tracks, **first.absent}}
    assert {*found.ids, *found.dropped} == asked
    assert any("planted:3" in mark for mark in again.provenance.marks)
    assert "small widths" in again.provenance.marks


def test_features_of_another_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    path = fit(run(folder), FitOptions())
    other = synthesize_users(tmp_path / "other", replace(PLANTED, seed=4))
    with pytest.raises(SettingsError, match="the model was trained on"):
        load_trained_model(path, other, "cpu")


def test_a_batch_is_scored_as_each_video_alone(folder: Path) -> None:
    path = fit(run(folder), FitOptions())
    restored = load_trained_model(path, folder, "cpu")
    assert restored.recipe.training.scoring_batch_size > 1
    together = score_split(EvalRequest(path, folder, "test"), device="cpu")
    alone = run(folder, "training.scoring_batch_size=1")
    apart = score_split(EvalRequest(fit(alone, FitOptions()), folder, "test"), device="cpu")
    for key, track in together.tracks.items():
        assert torch.allclose(
            torch.from_numpy(track.scores), torch.from_numpy(apart.tracks[key].scores), atol=1e-5
        )


COMMAND = [sys.executable, "-m", "trainer", "fit", "phd_ca"]


def command(folder: Path) -> list[str]:
    return [
        *COMMAND,
        str(folder),
        "--small",
        *[word for change in CHANGES for word in ("--set", change)],
    ]


@pytest.mark.slow
def test_the_real_command_survives_real_kills(folder: Path, tmp_path: Path) -> None:
    subprocess.run(command(folder), check=True, cwd=REPOSITORY, capture_output=True)
    straight = weights(next(folder.glob("runs/*/model.safetensors")))
    (folder / "runs").rename(tmp_path / "straight")
    for delay in (3.0, 4.0, 5.0, 6.0):
        with subprocess.Popen(
            command(folder), cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as one:
            time.sleep(delay)
            os.kill(one.pid, signal.SIGKILL)
    subprocess.run(command(folder), check=True, cwd=REPOSITORY, capture_output=True)
    assert same(straight, weights(next(folder.glob("runs/*/model.safetensors"))))


@pytest.mark.slow
def test_two_processes_train_together(folder: Path) -> None:
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "trainer",
    ]
    arguments = command(folder)[3:]
    ended = subprocess.run(
        [*launch, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    path = next(folder.glob("runs/*/model.safetensors"))
    assert read_checkpoint(path).about["best_epoch"] >= 0
    assert len(ended.stdout.splitlines()) == 1
