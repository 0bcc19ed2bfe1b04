"""A record that many processes change at once: no change is lost, none is torn, and a kill leaves
nothing to mend.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.download.access.shared_state import KEPT, Record, SharedState
from storage.base.errors import IntegrityError
from tests.conftest import REPOSITORY

COUNTER = """
import sys
from pathlib import Path
from pipeline.download.access.shared_state import SharedState
state = SharedState(Path(sys.argv[1]))
print("begun", flush=True)
for _ in range(int(sys.argv[2])):
    state.change(lambda record: ({"count": record.get("count", 0) + 1}, None))
"""


def counter(folder: Path, times: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", COUNTER, str(folder), str(times)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def put(after: Record, _: Record) -> tuple[Record, None]:
    return after, None


def test_no_change_of_many_processes_is_lost(tmp_path: Path) -> None:
    processes = [counter(tmp_path, 25) for _ in range(4)]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 4
    assert SharedState(tmp_path).read() == {"count": 100}  # 4 processes, 25 changes each
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{number:09d}.json" for number in range(100 - KEPT + 1, 101)]


def test_a_kill_at_any_instant_leaves_a_record_that_others_go_on_from(tmp_path: Path) -> None:
    for round_number in range(5):
        process = counter(tmp_path, 1_000_000)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.01 + 0.013 * round_number)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        before = SharedState(tmp_path).read().get("count", 0)
        assert isinstance(before, int)
        after = {"count": before + 1}
        SharedState(tmp_path).change(functools.partial(put, after))
        assert SharedState(tmp_path).read() == after
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "never made")
    assert state.change(lambda record: (record, "answer")) == "answer"
    assert not (tmp_path / "never made").exists()


def test_meddling_is_told(tmp_path: Path) -> None:
    SharedState(tmp_path).change(lambda _: ({"count": 1}, None))
    path = tmp_path / "000000001.json"
    path.write_bytes(path.read_bytes().replace(b": 1", b": 2"))
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        SharedState(tmp_path).read()
