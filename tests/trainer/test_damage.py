"""The commands of the trainer on something damaged: exit code 5, and one sentence that names the
file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users

SUCCESS = [
    "fit",
    "phd_ca",
    "--small",
    "--set",
    "training.epochs=1",
    "--set",
    "data.holdout_users=4",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return synthesize_users(
        tmp_path, SyntheticUserSettings(seed=3, train_users=8, test_users=3, max_videos=4, width=16)
    )


def flip(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 16
    path.write_bytes(content)
    return path


def _last_row(folder: Path) -> Path:
    return flip(sorted(folder.glob("features/*/*.h5"))[-1], -2)


def _table_of_offsets(folder: Path) -> Path:
    return flip(sorted(folder.glob("features/*/*.h5"))[0], 2048)


def _checksums(folder: Path) -> Path:
    return flip(sorted(folder.glob("features/*/*.sums"))[0], -1)


def _manifest(folder: Path) -> Path:
    return flip(sorted(folder.glob("features/*/shard_*.json"))[0], 500)


def _lost_manifest(folder: Path) -> Path:
    path = sorted(folder.glob("features/*/shard_*.json"))[0]
    path.unlink()
    return path


def _annotations(folder: Path) -> Path:
    return flip(folder / "annotations.csv", 300)


@pytest.mark.parametrize(
    "damage", [_last_row, _table_of_offsets, _checksums, _manifest, _lost_manifest, _annotations]
)
def test_a_training_on_a_damaged_store_ends_with_exit_code_5(
    folder: Path, damage: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = damage(folder)
    assert main([*SUCCESS[:2], str(folder), *SUCCESS[2:]]) == 5
    assert str(path) in capsys.readouterr().err
    assert not list(folder.glob("runs/*/model.safetensors"))


def test_a_damaged_checkpoint_scores_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SUCCESS[:2], str(folder), *SUCCESS[2:]]) == 0
    model = Path(capsys.readouterr().out.split()[-1])
    flip(model, model.stat().st_size // 2)
    assert main(["score", str(model), str(folder)]) == 5
    assert f"{model}: was altered" in capsys.readouterr().err
