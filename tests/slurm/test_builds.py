"""Builds on a real Slurm of one node: by Dask's jobs and by an array, attacked on the way, equal to
an inline build.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.one_node import Slurm, missing, one_node
from tests.support import process_watch as watching
from tests.support.sample_builds import Built, build, command, finish, start, with_catalog_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

JOB = ("--slurm-cores", "1", "--slurm-memory-gigabytes", "2", "--slurm-interface", "lo")
SLOWED = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.support.crashing_worker", "DELAY": "5"}
PATIENCE_SECONDS = 240.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    lacking = missing()
    if lacking:
        pytest.skip(f"LOUD SKIP: no Slurm can be started here: {lacking}; this test proves nothing")
    with one_node(tmp_path_factory.mktemp("slurm")) as up:
        yield up


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Built:
    built = build(tmp_path_factory.mktemp("inline"))
    assert built.exit_code == 0, built.output
    return built


def until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:g} s"
        time.sleep(0.3)


def workers_of(folder: Path) -> list[int]:
    """Dask workers below this data root, wherever Slurm started them, that have a decoder at
    work.
    """
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    busy = [
        pid
        for pid in pids
        if any(
            watching.says(child, "pipeline.decoding.worker.worker_main")
            for child in watching.children(pid)
        )
    ]
    return [pid for pid in busy if watching.says(pid, "spawn_main") and cwd(pid) == folder]


def cwd(pid: int) -> Path | None:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd").readlink()
    return None


def environment(slurm: Slurm) -> dict[str, str]:
    return {name: slurm.environment[name] for name in ("SLURM_CONF", "PATH")}


def check(built: Built, inline: Built) -> None:
    assert built.exit_code == 0, built.output
    assert built.digest == inline.digest
    assert built.ids_in_parts() == inline.ids_in_parts()
    assert built.faults() == []
    assert built.left_behind() == []


def test_jobs_of_dask_give_the_inline_features_though_a_worker_is_killed_and_the_wall_time_ends(
    slurm: Slurm, inline: Built, tmp_path: Path
) -> None:
    """One job of a minute, which is too short for the videos: it leaves in time, and another takes
    its place.
    """
    folder = with_catalog_of(inline, tmp_path)
    options = ("--cluster-kind", "slurm", *JOB, "--slurm-jobs", "1", "--slurm-time", "1")
    running = start(
        folder, *options, "--cluster-allowed-failures", "9", **SLOWED, **environment(slurm)
    )
    until(lambda: workers_of(folder) or running.poll() is not None, "a worker has a video in hand")
    assert running.poll() is None, finish(running, folder).output
    os.kill(workers_of(folder)[0], signal.SIGKILL)
    seen: set[str] = set()

    def over() -> bool:
        seen.update(slurm.jobs())
        return running.poll() is not None

    until(over, "the build ends")
    check(finish(running, folder), inline)
    assert len(seen) >= 2, "a second job took over"
    until(lambda: not slurm.jobs(), "no job is left")
    assert not list(folder.rglob(".dask-jobqueue*")), "certificates of a run are gone with it"


def test_an_array_gives_the_inline_features_though_elements_are_warned_killed_and_cancelled(
    slurm: Slurm, inline: Built, tmp_path: Path
) -> None:
    folder = with_catalog_of(inline, tmp_path)
    written = subprocess.run(
        command("WriteSlurmArray", "--catalog", "sample", *JOB, "--slurm-time", "10"),
        cwd=folder, capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    match = re.search(r"^sbatch (\S+)$", written.stdout, flags=re.MULTILINE)
    assert match is not None, written.stdout
    number = slurm.ask("sbatch", "--parsable", match[1])
    until(lambda: list(slurm.jobs().values()).count("RUNNING") >= 2, "two elements run")
    time.sleep(2)
    slurm.ask(
        "scancel", "--signal=TERM", "--batch", f"{number}_0"
    )  # the warning before the wall time
    slurm.ask("scancel", f"{number}_1")
    until(
        lambda: slurm.jobs().get(f"{number}_0") == "PENDING",
        "the warned element is back in the queue",
    )
    slurm.ask("scontrol", "update", f"JobId={number}_0", "StartTime=now")
    until(lambda: set(slurm.jobs()) <= {f"{number}_0"} or not slurm.jobs(), "the others have ended")
    assert f"{number}_1" not in slurm.jobs(), "what somebody cancelled stays cancelled"
    until(lambda: not slurm.jobs(), "the array is done")
    logs = "\n".join(
        path.read_text() for path in (folder / "data" / "sample" / "cluster").glob("*.log")
    )
    assert "back into the queue" in logs
    again = slurm.ask("sbatch", "--parsable", "--array=1", match[1])
    until(lambda: not slurm.jobs(), f"element 1 of {again} is done")
    check(build(folder), inline)
