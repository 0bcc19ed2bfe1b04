"""Shards on Dask workers of this machine: the same features, whatever becomes of them, and nothing
is heard outside.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from distributed.security import Security

from tasks.config import cluster_settings
from tasks.config.cluster_settings import ClusterSettings
from tasks.config.slurm_settings import SlurmSettings
from tasks.execution.cluster import connect
from tests.conftest import REPOSITORY
from tests.support import process_watch as watching
from tests.support.sample_builds import (
    Built,
    build_in_fork,
    finish,
    start,
    with_catalog_of,
)

SEED = int(os.environ.get("SEED", "20260721"))
LOCAL = ("--cluster-kind", "local", "--cluster-workers", "2", "--cluster-cores-per-worker", "1")
LETHAL = {"DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.support.crashing_worker"}
POISON = "6NLUYwGWFwX"
KILLS = 3


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Built:
    built = build_in_fork(tmp_path_factory.mktemp("inline"))
    assert built.exit_code == 0, built.output
    return built


@dataclass
class Attacked:
    """A local build whose workers were killed, and what was seen of it meanwhile."""

    built: Built
    kills: int = 0
    listening: set[tuple[str, int]] = field(default_factory=set)
    answers: dict[int, bytes] = field(default_factory=dict)
    """Port → what it says to a stranger who speaks TLS, or failing that HTTP."""


def stranger(port: int) -> bytes:
    """What somebody without our certificate gets from a port: TLS first, then plain HTTP."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=2) as plain,
        context.wrap_socket(plain) as tls,
    ):
        return tls.recv(100)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=2) as plain,
    ):
        plain.settimeout(2)
        plain.sendall(b"GET /status HTTP/1.0\r\n\r\n")
        return plain.recv(100)
    return b""


def knock(seen: Attacked) -> None:
    seen.answers = {port: stranger(port) for _, port in sorted(seen.listening)}


def watch_and_kill(running: subprocess.Popen[str], folder: Path, kills: int) -> Attacked:
    """Look where a running build listens, and kill so many workers, each with a video in hand."""
    rng = random.Random(SEED)
    seen = Attacked(Built(folder, -1, ""))
    knocking: threading.Thread | None = None
    while running.poll() is None and (seen.kills < kills or not seen.listening):
        time.sleep(rng.uniform(0.1, 0.6))
        busy = [pid for pid in watching.children(running.pid) if watching.children(pid)]
        busy = [pid for pid in busy if watching.says(pid, "spawn_main")]
        if not busy:
            continue
        if not seen.listening:
            for pid in (running.pid, *watching.descendants(running.pid)):
                seen.listening |= watching.listening(pid)
            knocking = threading.Thread(target=knock, args=(seen,))
            knocking.start()
        if seen.kills < kills:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(busy), signal.SIGKILL)
                seen.kills += 1
    seen.built = finish(running, folder)
    if knocking is not None:
        knocking.join()
    return seen


def check_listening(seen: Attacked, at_least: int) -> None:
    assert len(seen.listening) >= at_least
    assert {address for address, _ in seen.listening} == {"127.0.0.1"}
    told = {port: answer for port, answer in seen.answers.items() if answer}
    assert all(answer.startswith(b"HTTP/1.1 404") for answer in told.values()), told
    assert len(told) < len(seen.answers), "ports that speak TLS say nothing to a stranger"


@pytest.mark.slow
def test_a_build_whose_workers_are_killed_equals_an_undisturbed_one(
    inline: Built, tmp_path: Path
) -> None:
    folder = with_catalog_of(inline, tmp_path)
    running = start(folder, *LOCAL, "--cluster-allowed-failures", str(KILLS), **LETHAL, DELAY="0.5")
    attacked = watch_and_kill(running, folder, KILLS)
    assert attacked.kills == KILLS, "the build was over too soon to prove anything"
    assert attacked.built.exit_code == 0, attacked.built.output
    assert attacked.built.digest == inline.digest, f"with SEED={SEED}"
    assert statuses(attacked.built) == statuses(inline)
    check_left(attacked.built, inline)
    assert "videos: 12/12 videos" in attacked.built.output
    assert "13/12" not in attacked.built.output
    check_listening(attacked, at_least=5)  # a scheduler, two nannies and two workers


def statuses(built: Built) -> dict[str, str]:
    return {video_id: str(entry.status) for video_id, entry in built.entries.items()}


def check_left(built: Built, inline: Built) -> None:
    """No video is lost or doubled, and nothing is left behind."""
    assert built.ids_in_parts() == inline.ids_in_parts()
    assert built.faults() == []
    assert built.left_behind() == []


@pytest.fixture(scope="module")
def poisoned(inline: Built, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """One worker after the other is killed by the same video."""
    folder = with_catalog_of(inline, tmp_path_factory.mktemp("poisoned"))
    options = (*LOCAL, "--cluster-workers", "1", "--cluster-allowed-failures", "1")
    running = start(folder, *options, **LETHAL, POISON=POISON, DELAY="0.1")
    return watch_and_kill(running, folder, 0)


def test_a_video_that_kills_every_worker_is_one_verdict(poisoned: Attacked, inline: Built) -> None:
    built = poisoned.built
    assert built.exit_code == 3, built.output
    message = "2 workers died while processing this video; video quarantined"
    assert f"{POISON}: {message}" in built.output
    expected = "quarantined:crash (workers died while processing this video)"
    assert statuses(built) == statuses(inline) | {POISON: expected}
    digests = {
        video_id: entry.digest for video_id, entry in built.entries.items() if video_id != POISON
    }
    assert digests == {
        video_id: entry.digest for video_id, entry in inline.entries.items() if video_id != POISON
    }


def test_each_video_is_counted_once(poisoned: Attacked) -> None:
    assert "videos: 12/12 videos" in poisoned.built.output
    assert "13/12" not in poisoned.built.output


def test_nothing_is_heard_beyond_this_machine_and_strangers_are_told_nothing(
    poisoned: Attacked,
) -> None:
    check_listening(poisoned, at_least=3)  # a scheduler, a nanny and a worker


def test_it_can_be_asked_for_again_and_then_equals_an_undisturbed_build(
    poisoned: Attacked, inline: Built
) -> None:
    again = build_in_fork(poisoned.built.folder, "--retry", "crash")
    assert again.exit_code == 0, again.output
    assert again.digest == inline.digest
    assert statuses(again) == statuses(inline)
    check_left(again, inline)


@dataclass
class Foreign:
    """A Dask scheduler that somebody started, and a worker of it, with certificates in files."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def certificates(self) -> dict[str, Path]:
        return {
            name: self.folder / f"{name}.pem" for name in ("tls_ca_file", "tls_cert", "tls_key")
        }

    def up(self) -> None:
        tls = [
            word
            for name, path in self.certificates().items()
            for word in (f"--{name.replace('_', '-')}", str(path))
        ]
        scheduler = [
            "dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--protocol",
            "tls",
        ]
        worker = [
            "dask_worker",
            f"tls://127.0.0.1:{self.port}",
            "--nthreads",
            "1",
            "--host",
            "tls://127.0.0.1",
        ]
        for program in (
            [*scheduler, "--dashboard-address", "127.0.0.1:0"],
            [*worker, "--no-dashboard"],
        ):
            words = [sys.executable, "-m", f"distributed.cli.{program[0]}", *program[1:], *tls]
            environment = {**os.environ, **LETHAL, "DELAY": "1", "PYTHONPATH": str(REPOSITORY)}
            quiet = subprocess.DEVNULL
            self.processes.append(
                subprocess.Popen(
                    words, cwd=self.folder, env=environment, stdout=quiet, stderr=quiet
                )
            )

    def down(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        self.processes.clear()


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Foreign]:
    folder = tmp_path / "foreign"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        theirs = Foreign(folder, free.getsockname()[1])
    made = Security.temporary().get_tls_config_for_role("client")
    for name, path in theirs.certificates().items():
        path.write_text(made[name.removeprefix("tls_")])
    theirs.up()
    yield theirs
    theirs.down()


@pytest.mark.slow
def test_a_scheduler_of_somebody_elses_may_die_and_the_same_command_goes_on(
    foreign: Foreign, inline: Built, tmp_path: Path
) -> None:
    folder = with_catalog_of(inline, tmp_path / "run")
    there = ["--cluster-kind", "address", "--cluster-address", f"tls://127.0.0.1:{foreign.port}"]
    for name, path in foreign.certificates().items():
        there += [f"--cluster-{name.replace('_', '-')}", str(path)]
    running = start(folder, *there)
    features = folder / "data" / "sample" / "features"
    while not list(features.rglob("spool/*/*")) and running.poll() is None:
        time.sleep(0.1)
    foreign.down()
    stopped = finish(running, folder)
    assert stopped.exit_code == 4, stopped.output
    assert "the connection to the Dask scheduler is lost" in stopped.output
    foreign.up()
    went_on = finish(start(folder, *there), folder)
    assert went_on.exit_code == 0, went_on.output
    assert went_on.digest == inline.digest
    assert went_on.faults() == []
    assert went_on.left_behind() == []


def get(address: str) -> int:
    """The state of a response to a plain request."""
    try:
        with urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310  # loopback
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_dashboard_is_served_on_loopback_where_a_setting_asks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bokeh", reason="bokeh, of the extra [dashboard], is not installed")
    cluster = ClusterSettings(kind="local", workers=1, cores_per_worker=1, dashboard=True)
    with connect(cluster, SlurmSettings(), device="cpu", folder=tmp_path, shards=1):
        (address,) = re.findall(r"http://127\.0\.0\.1:[0-9]+/status", capsys.readouterr().out)
        assert get(address) == 200
        # Dask's proxy would lead to any port of this machine.
        assert get(address.replace("/status", "/proxy/22/127.0.0.1/status")) == 404
        assert {host for host, _ in watching.listening(os.getpid())} == {"127.0.0.1"}


def test_a_dashboard_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_settings, "find_spec", lambda name: None)
    *_, fault = ClusterSettings(kind="local", dashboard=True).faults()
    assert "[dashboard]" in fault
