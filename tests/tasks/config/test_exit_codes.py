"""One exit code per outcome, also when Luigi forks its workers; and no traceback for what is no
bug.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.base.errors import (
    DiskFull,
    ExtractorFailed,
    HighlightsError,
    IntegrityError,
    LeaseHeld,
    LeaseLost,
    SettingsError,
    SystemicFault,
    UntrustedFile,
)
from tasks.config.exit_codes import Exit, RunIncomplete, exit_code_of
from tests.conftest import REPOSITORY
from tests.support.luigi_server import run_luigi

PLACE = Path("store")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(("x",)), 2),
        (RunIncomplete("x"), 3),
        (LeaseHeld(PLACE, "somebody"), 4),
        (LeaseLost(PLACE, "somebody"), 4),
        (SystemicFault("x"), 4),
        (DiskFull(PLACE, 2, 1), 4),
        (IntegrityError(PLACE, "x"), 5),
        (UntrustedFile(PLACE, "x"), 5),
        (ExtractorFailed("x"), 6),
        (HighlightsError("x"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_each_error_has_a_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == Exit(code)


FAILING = """
import luigi, tasks
from pathlib import Path
from storage.base.errors import *
from tasks.config.exit_codes import RunIncomplete

class Fails(luigi.Task):
    def run(self):
        raise {error}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("RunIncomplete('3 of 9 videos wait')", 3, "3 of 9 videos wait"),
        ("DiskFull(Path('x'), 2000, 10)", 4, "it needs 2,000 bytes and the disk has 10 free"),
        ("IntegrityError(Path('x'), 'is torn')", 5, "x: is torn"),
        ("ExtractorFailed('c3d failed in extract')", 6, "c3d failed in extract"),
        ("ZeroDivisionError('oh')", 1, "Traceback"),
    ],
)
def test_luigi_returns_it(tmp_path: Path, workers: str, error: str, code: int, told: str) -> None:
    (tmp_path / "failing.py").write_text(FAILING.format(error=error))
    done = run_luigi(
        tmp_path,
        *("--module", "failing", "Fails", "--workers", workers),
        environment={"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "PATH": ""},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stderr
    assert ("Traceback" in done.stderr) == (code == Exit.BUG)
