"""Scripts of Slurm arrays, run by bash with a stand-in for scontrol; and the settings of jobs and
clusters.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from storage.base.errors import SettingsError
from tasks.config.cluster_settings import ClusterSettings
from tasks.config.slurm_settings import SlurmSettings
from tasks.execution.slurm import array_script
from tests.support.luigi_server import run_luigi
from tests.support.sample_builds import command


def script(folder: Path, *words: str, shards: range = range(5), shards_per_job: int = 2) -> Path:
    text = array_script(
        SlurmSettings(), words, shards, shards_per_job, folder=str(folder), logs=str(folder)
    )
    path = folder / "array.sh"
    path.write_text(text)
    return path


def element(
    folder: Path, path: Path, number: int, state: str = "RUNNING", restarts: int = 0
) -> subprocess.Popen[str]:
    """Runs the script as Slurm would run one element; what scontrol was asked to do goes to a
    file.
    """
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    shim = tools / "scontrol"
    shim.write_text(
        f'#!/bin/sh\ncase $1 in show) echo "JobState={state} " ;; *) echo "$@" >> {folder}/asked; exit 1 ;; esac\n'
    )
    shim.chmod(0o755)
    given = {
        "SLURM_ARRAY_TASK_ID": number,
        "SLURM_ARRAY_JOB_ID": 7,
        "SLURM_RESTART_COUNT": restarts,
    }
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        **{name: str(value) for name, value in given.items()},
    }
    return subprocess.Popen(["bash", str(path)], env=environment, stdout=subprocess.PIPE, text=True)


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_each_shard_is_in_exactly_one_element(tmp_path: Path) -> None:
    path = script(tmp_path, "echo")
    assert "#SBATCH --array=0-2" in path.read_text()
    outputs = [element(tmp_path, path, number).communicate()[0].strip() for number in range(3)]
    assert outputs == ["--shards 0,1", "--shards 2,3", "--shards 4"]


@pytest.mark.parametrize(
    ("code", "ends", "requeued"),
    [
        (0, 0, False),
        (3, 0, False),
        (4, 4, True),
        (143, 143, True),
        (137, 137, True),
        (1, 1, False),
        (2, 2, False),
        (5, 5, False),
    ],
)
def test_an_exit_code_decides_what_slurm_does(
    tmp_path: Path, code: int, ends: int, requeued: bool
) -> None:
    running = element(tmp_path, script(tmp_path, "sh", "-c", f"exit {code}"), 1)
    running.communicate()
    assert running.returncode == ends
    assert asked(tmp_path) == (["requeue 7_1"] if requeued else [])


@pytest.mark.parametrize(
    ("state", "restarts"), [("CANCELLED", 0), ("PREEMPTED", 0), ("RUNNING", 100)]
)
def test_nobody_is_raised_from_the_dead(tmp_path: Path, state: str, restarts: int) -> None:
    element(tmp_path, script(tmp_path, "sh", "-c", "exit 4"), 1, state, restarts).communicate()
    assert asked(tmp_path) == []


def test_a_warning_is_handed_on_and_the_build_is_waited_for(tmp_path: Path) -> None:
    end = f"sleep 0.3; echo let go > {tmp_path}/gone; exit 4"
    lets_go = f"trap '{end}' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
    running = element(tmp_path, script(tmp_path, "bash", "-c", lets_go), 0)
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    running.communicate()
    assert running.returncode == 4
    assert (tmp_path / "gone").read_text() == "let go\n"
    assert asked(tmp_path) == ["requeue 7_0"]


def test_words_with_blanks_and_quotes_arrive_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "a folder; touch $HOME 'x'"
    folder.mkdir()
    running = element(folder, script(folder, "printf", "%s|", "it's $HOME `x` {y}"), 2)
    assert running.communicate()[0] == "it's $HOME `x` {y}|--shards|4|"


def test_a_line_break_cannot_get_into_a_script(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a Slurm script cannot hold"):
        script(tmp_path, "echo", "a\n#SBATCH --uid=0")


def test_the_command_writes_a_script_with_its_own_settings(tmp_path: Path) -> None:
    options = (
        "--slurm-partition",
        "long",
        "--slurm-gpus",
        "1",
        "--shards",
        "0-1",
        "--cluster-kind",
        "slurm",
    )
    words = command("WriteSlurmArray", "--catalog", "sample", *options)[1:]
    done = run_luigi(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "data" / "sample" / "cluster" / "array.sh"
    assert f"sbatch {path}" in done.stdout
    text = path.read_text()
    for line in (
        "--array=0-1",
        "--partition=long",
        "--gres=gpu:1",
        "--requeue --signal=B:TERM@120 --open-mode=append",
    ):
        assert f"\n#SBATCH {line}\n" in text
    build = next(line for line in text.splitlines() if "BuildFeatures" in line)
    assert "--frames-frames-per-second 1" in build
    assert re.findall(r"--cluster-kind (\w+)", build) == ["inline"]
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def faults(made: ClusterSettings | SlurmSettings) -> str:
    return "\n".join(made.faults())


def test_defaults_have_no_fault() -> None:
    assert faults(ClusterSettings()) == faults(SlurmSettings()) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "k8s"}, "kind must be one of inline, local, slurm, address; got 'k8s'"),
        ({"cores_per_worker": 0}, "cores_per_worker must be 1 or more; got 0"),
        ({"kind": "address"}, "address must be like tls://head-node:8786"),
        ({"kind": "address", "address": "tls://head"}, "address must be like tls://head-node:8786"),
        (
            {"kind": "address", "address": "tcp://head:8786"},
            "everybody who reaches it can run code as you",
        ),
        (
            {"kind": "address", "address": "tcp://10.0.0.7:8786"},
            "everybody who reaches it can run code as you",
        ),
        (
            {"kind": "address", "address": "tls://head:8786"},
            "tls_cert is needed for tls://head:8786",
        ),
        (
            {"kind": "address", "address": "tls://head:8786", "tls_key": "/absent"},
            "tls_key '/absent' is not a file",
        ),
    ],
)
def test_a_cluster_that_cannot_be_or_is_open_to_others_is_refused(
    changes: dict[str, str], told: str
) -> None:
    made: dict[str, object] = {**changes}
    assert told in faults(ClusterSettings(**made))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:8786", "tcp://[::1]:8786"]
)
def test_a_plain_connection_within_this_machine_is_fine(address: str) -> None:
    assert faults(ClusterSettings(kind="address", address=address)) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"partition": "a b"}, "partition may hold letters"),
        ({"account": "x\n#SBATCH --uid=0"}, "account may hold letters"),
        ({"time": "tomorrow"}, "time must be at least a minute"),
        ({"time": "0:30"}, "time must be at least a minute"),
        ({"gpus": 2}, "gpus must be 0 or 1"),
        ({"jobs": 0}, "jobs must be 1 or more"),
        ({"directives": ("--qos=long; rm -rf x",)}, "directives must be options of sbatch"),
        ({"scratch": "/a b"}, "scratch must be a folder on the node"),
        ({"prologue": "a\nb"}, "prologue must be one line of shell"),
    ],
)
def test_what_a_job_cannot_ask_for_is_refused(changes: dict[str, object], told: str) -> None:
    assert told in faults(SlurmSettings(**changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("time_text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("2:00:00", 7200),
        ("1-0", 86400),
        ("1-02:30", 95400),
        ("1-00:00:01", 86401),
    ],
)
def test_times_are_read_as_slurm_reads_them(time_text: str, seconds: int) -> None:
    assert SlurmSettings(time=time_text).time_seconds == seconds


def test_a_worker_leaves_before_its_job_ends() -> None:
    assert SlurmSettings(time="1-0").lifetime_options == [
        "--lifetime",
        "86100s",
        "--lifetime-stagger",
        "150s",
    ]
    assert SlurmSettings(time="1").lifetime_options == [
        "--lifetime",
        "45s",
        "--lifetime-stagger",
        "7s",
    ]
