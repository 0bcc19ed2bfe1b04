"""SIGKILL at random moments of a real build: nothing is corrupt, incomplete or lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SEED = int(os.environ.get("SEED", "20260721"))


def campaign(folder: Path, kills: int) -> dict[str, int]:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.support.kill_loop",
        str(folder),
        str(kills),
        str(SEED),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, int] = json.loads(done.stdout)
    return result


def check(result: dict[str, int], kills: int) -> None:
    sys.stdout.write(f"{result}\n")
    assert result["kills"] >= kills
    assert result["whole"] >= 5, "too few builds came through: the delays do not suit this machine"
    wrong = {kind: result[kind] for kind in ("corrupt", "short", "lost", "mismatches")}
    assert wrong == {"corrupt": 0, "short": 0, "lost": 0, "mismatches": 0}, f"with SEED={SEED}"


@pytest.mark.campaign(3600)
@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_kills_at_random_moments(kills: int, tmp_path: Path) -> None:
    check(campaign(tmp_path, kills), kills)


@pytest.mark.soak
def test_thousands_of_kills(tmp_path: Path) -> None:
    kills = int(os.environ.get("KILLS", "5000"))
    check(campaign(tmp_path, kills), kills)
