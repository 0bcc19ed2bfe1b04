"""Training, scoring and tables as tasks, through the real command, on a planted store under the
sample's name.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.luigi_server import TRAINER, run_luigi
from tests.support.sample_builds import command
from trainer.synthetic.user_features import SyntheticUserSettings, Timing, synthesize_users

TIMING = Timing(np.array([41.0, 62.0]), np.array([2.0, 4.0]), np.array([1, 2]), np.array([2, 3]))
PLANTED = SyntheticUserSettings(seed=1, train_users=6, test_users=2, max_videos=3, width=16)
OPTIONS = (
    "--catalog",
    "sample",
    "--small",
    "--changes",
    '["training.epochs=1", "data.holdout_users=2"]',
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    synthesize_users(root / "data", PLANTED, TIMING, name="sample")
    return root


def luigi(place: Path, task: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run_luigi(place, *command(task, *OPTIONS, *options)[1:], preload=TRAINER)


def test_a_network_is_trained_then_scored_and_neither_twice(place: Path) -> None:
    folder = place / "data" / "sample"
    ended = luigi(place, "ScoreModel", "--recipe", "highlight_svm", "--split", "test")
    assert ended.returncode == 0, ended.stderr
    (model,) = folder.glob("runs/*/model.safetensors")
    (scores,) = folder.glob("scores/*/run.json")
    assert scores.parent.name == f"{model.parent.name}.test"
    before = model.stat().st_mtime_ns, scores.stat().st_mtime_ns
    again = luigi(place, "ScoreModel", "--recipe", "highlight_svm", "--split", "test")
    assert again.returncode == 0, again.stderr
    assert (model.stat().st_mtime_ns, scores.stat().st_mtime_ns) == before


def test_a_table_is_made_and_shown(place: Path) -> None:
    ended = luigi(place, "ReproduceTable", "--tables", "mha-fusion-6, mha-fusion-4")
    assert ended.returncode == 0, ended.stderr
    assert "MHA+Fusion, Table 6" in ended.stdout
    assert "not measured" in ended.stdout  # the planted store has no objects and poses
    reports = {
        path.name.partition(".")[0]
        for path in (place / "data" / "sample" / "report").glob("*.json")
    }
    assert reports == {"mha-fusion-4", "mha-fusion-6"}


def test_a_planted_store_needs_no_dataset_of_its_name(tmp_path: Path) -> None:
    synthesize_users(tmp_path / "data", PLANTED, TIMING, name="planted")
    words = [*command("TrainModel", *OPTIONS, "--recipe", "highlight_svm")[1:]]
    words[words.index("sample")] = "planted"
    ended = run_luigi(tmp_path, *words, preload=TRAINER)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "data" / "planted").glob("runs/*/model.safetensors"))
    words[words.index("planted")] = "plated"
    absent = run_luigi(tmp_path, *words, preload=TRAINER)
    assert absent.returncode == 2
    assert "unknown dataset 'plated'" in absent.stderr
