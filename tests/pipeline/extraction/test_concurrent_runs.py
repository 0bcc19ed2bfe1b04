"""Eight writers on one shard: one at a time builds it, nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SEED = int(os.environ.get("SEED", "20260721"))


def crowd(folder: Path, rounds: int, *, kills: bool) -> dict[str, int]:
    arguments = [str(folder), str(rounds), str(SEED), str(int(kills))]
    command = [sys.executable, "-W", "error", "-m", "tests.support.concurrent_runs", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    result: dict[str, int] = json.loads(done.stdout)
    return result


def check(result: dict[str, int]) -> None:
    wrong = {kind: result[kind] for kind in ("odd", "corrupt", "short", "mismatches")}
    assert wrong == dict.fromkeys(wrong, 0), f"with SEED={SEED}: {result}"
    assert result["lost_lease"] > result["rounds"], "the writers hardly met: this shows nothing"


@pytest.mark.campaign(3600)
@pytest.mark.parametrize("rounds", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_rounds_of_eight_writers(rounds: int, tmp_path: Path) -> None:
    check(crowd(tmp_path, rounds, kills=False))


@pytest.mark.soak
def test_hundreds_of_rounds_with_a_kill_in_each(tmp_path: Path) -> None:
    rounds = int(os.environ.get("KILLS", "5000")) // 10
    result = crowd(tmp_path, rounds, kills=True)
    check(result)
    assert result["killed"] > rounds // 4, (
        "too few kills struck: the delays do not suit this machine"
    )
