"""The real command, disturbed in mid-shard: told to stop, started twice, its folder read-only, its
lease left behind.

It ends soon with exit code 4 and says why, nothing is lost, and the next run equals a calm one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.child_processes.exit_status import STOP_SIGNALS
from storage.base.paths import Layout
from storage.features.store import FeatureStore
from storage.files.lease_record import LeaseHolder
from storage.files.process_identity import Owner, current_process
from tests.conftest import REPOSITORY
from tests.support.loopback_site import Site, site
from tests.support.mount_namespace import in_namespace, need_namespace
from tests.support.small_build import (
    IDS,
    IMPATIENT,
    LUIGI,
    PATIENCE_SECONDS,
    Command,
    alive_in_session,
    film,
    wait_until,
)

SOON_SECONDS = 15.0
"""Less than the grace, and than the 30 s after which Slurm kills; the end itself takes a second."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("disturbed") / "videos")


@pytest.fixture(scope="module")
def calm(videos: Path) -> Command:
    command = Command(videos.parent / "calm", videos)
    code, output = command.run()
    assert code == 0, output
    return command


def stopped(command: Command, order: signal.Signals, *, everybody: bool) -> str:
    """Give an order when one more video is in the spool; what the command said. It has to end well,
    and alone.
    """
    before = command.spooled()
    running = command.start()
    wait_until(lambda: command.spooled() > before, running)
    if everybody:
        os.killpg(running.pid, order)
    else:
        running.send_signal(order)
    told_at = time.monotonic()
    output: str = running.communicate(timeout=SOON_SECONDS)[0]
    assert running.returncode == 4, output
    assert (
        f"{order.name}: stopping. What is finished is kept; run the same command again to go on."
        in output
    )
    assert "Traceback" not in output
    assert time.monotonic() - told_at < SOON_SECONDS
    assert alive_in_session(running.pid) == []
    assert before < command.spooled() < len(IDS)
    assert not list(command.root.glob("phd2/**/*.lease"))
    return output


def test_an_order_ends_the_run_soon_and_the_next_one_goes_on(calm: Command, tmp_path: Path) -> None:
    command = Command(tmp_path / "data", calm.videos)
    assert "stopped by SIGTERM." in stopped(command, signal.SIGTERM, everybody=True)
    code, output = command.run()
    assert code == 0, output
    assert "6 ids = 6 done" in output
    assert command.digests() == calm.digests()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "everybody", "workers"),
    [
        *((order, everybody, "1") for order in sorted(STOP_SIGNALS) for everybody in (False, True)),
        (signal.SIGTERM, False, "2"),
        (signal.SIGTERM, True, "2"),
    ],
)
def test_every_order_to_one_and_to_all(
    order: signal.Signals, everybody: bool, workers: str, calm: Command, tmp_path: Path
) -> None:
    command = Command(tmp_path / "data", calm.videos, ("--workers", workers))
    stopped(command, order, everybody=everybody)
    code, output = command.run()
    assert code == 0, output
    assert command.digests() == calm.digests()


@pytest.fixture
def served(videos: Path) -> Iterator[Site]:
    with site() as up:
        for video_id in IDS:
            up.files[video_id] = (videos / f"{video_id}.mp4").read_bytes()
        yield up


@pytest.mark.slow
def test_a_transfer_in_hand_is_dropped_and_continued(
    served: Site, calm: Command, tmp_path: Path
) -> None:
    """The site stalls in the middle of the third video; what has arrived of it is kept for the next
    run.
    """
    served.stalls_at = IDS[2]
    command = Command(
        tmp_path / "data", calm.videos, ("--download-source", f"{served.address}/{{id}}")
    )
    running = command.start()
    wait_until(lambda: served.stalled.is_set() and command.spooled() == 2, running)
    running.send_signal(signal.SIGTERM)
    served.go_on.set()
    output = running.communicate(timeout=SOON_SECONDS)[0]
    assert running.returncode == 4, output
    assert "stopped by SIGTERM." in output
    assert "Traceback" not in output
    (part,) = command.root.glob("phd2/videos/**/media.part")
    assert 0 < part.stat().st_size < len(served.files[IDS[2]])
    assert command.spooled() == 2
    code, output = command.run()
    assert code == 0, output
    assert command.digests() == calm.digests()


DEAF = """
import signal, time
from tasks.execution import shutdown
shutdown.GRACE_SECONDS = 0.5
shutdown.SHUTDOWN.listen()
print("ready", flush=True)
while True:
    time.sleep(600)
"""


def test_what_does_not_end_is_left_after_the_grace(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", DEAF], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        _, told = running.communicate(timeout=SOON_SECONDS)
    assert running.returncode == 4
    assert "not ended after 0.5 s: leaving at once. Nothing finished is lost." in told


NOHUP = """
import os, signal
from tasks.execution.shutdown import SHUTDOWN
signal.signal(signal.SIGHUP, signal.SIG_IGN)
SHUTDOWN.listen()
os.kill(os.getpid(), signal.SIGHUP)
print("lives")
"""


def test_what_nohup_ignores_stays_ignored() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOHUP], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


def test_a_second_launcher_is_told_who_holds_the_shard_and_harms_nothing(
    served: Site, calm: Command, tmp_path: Path
) -> None:
    served.stalls_at = IDS[1]
    command = Command(
        tmp_path / "data", calm.videos, ("--download-source", f"{served.address}/{{id}}")
    )
    with command.start() as first:
        wait_until(lambda: served.stalled.is_set() and command.spooled() == 1, first)
        code, output = command.run()
        assert code == 4, output
        assert f"shard_000.lease is held by process {first.pid} on " in output
        assert "Let it finish" in output
        assert "Traceback" not in output
        served.go_on.set()
        told = first.communicate()[0]
    assert first.returncode == 0, told
    assert command.digests() == calm.digests()


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
def test_launchers_at_once_share_the_work_or_say_that_they_cannot(
    turn: int, calm: Command, tmp_path: Path
) -> None:
    command = Command(tmp_path / "data", calm.videos, ("--data-shards", "3"))
    launchers = [command.start() for _ in range(3)]
    for running in launchers:
        output = running.communicate()[0]
        assert running.returncode in (0, 4), output
        assert running.returncode == 0 or "is held by process" in output
        assert "Traceback" not in output
    code, output = command.run()
    assert code == 0, output
    assert "6 ids = 6 done" in output
    assert command.digests() == calm.digests()


def test_a_command_that_was_stopped_for_minutes_ends_and_publishes_nothing(
    calm: Command, tmp_path: Path
) -> None:
    first = Command(tmp_path / "data", calm.videos)
    lease = Layout(first.root, "phd2").lease(0)
    running = first.start()
    wait_until(lambda: first.spooled() > 0, running)
    running.send_signal(signal.SIGSTOP)
    code, output = replace(first, program=IMPATIENT).run()
    assert code == 0, output
    assert f"shard 000 is held by process {running.pid} on " in output
    assert f"shard_000.lease was not touched for 3 s by process {running.pid} on " in output
    built = first.digests(), files_of(first.root / "phd2" / "features")
    assert built[0] == calm.digests()
    running.send_signal(signal.SIGCONT)
    told = running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert running.returncode == 4, told
    assert (
        f"the lease {lease} is gone: another process took it over and has finished, or its folder"
        in told
    )
    assert "Traceback" not in told
    assert (first.digests(), files_of(first.root / "phd2" / "features")) == built


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lease_folder_away(root: Path) -> Path:
    return root


def catalog_away(root: Path) -> Path:
    return root / "phd2"


def variant_away(root: Path) -> Path:
    return next(root.glob("phd2/features/frames-*"))


@pytest.mark.slow
@pytest.mark.parametrize("what", [lease_folder_away, catalog_away, variant_away])
def test_a_folder_that_is_renamed_ends_the_run_and_no_store_without_settings_appears(
    what: Callable[[Path], Path], calm: Command, tmp_path: Path
) -> None:
    command = Command(tmp_path / "data", calm.videos)
    running = command.start()
    wait_until(lambda: command.spooled() > 0, running)
    running.send_signal(signal.SIGSTOP)
    folder = what(command.root)
    away = folder.rename(tmp_path / "away")
    kept = files_of(away)
    running.send_signal(signal.SIGCONT)
    told = running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert running.returncode == 4, told
    assert "its folder was renamed or removed" in told
    assert "Traceback" not in told
    assert not folder.exists()
    assert files_of(away).keys() >= {path for path in kept if path.suffix in (".json", ".h5")}
    assert not list(tmp_path.rglob("*.h5"))


def left_by(owner: Owner, host: str) -> bytes:
    return LeaseHolder(host, owner, "0123456789abcdef").to_bytes()


@pytest.mark.slow
def test_a_lease_of_the_dead_is_taken_over_at_once_and_one_of_a_dead_node_after_the_other_shards(
    calm: Command, tmp_path: Path
) -> None:
    command = Command(tmp_path / "data", calm.videos, ("--data-shards", "3"), IMPATIENT)
    lease, here = Layout(command.root, "phd2").lease(0), current_process()
    lease.parent.mkdir(parents=True)
    lease.write_bytes(left_by(replace(here, host_tag="ffffffff"), "elsewhere"))
    code, output = command.run()
    assert code == 0, output
    assert output.index("is held by process") < output.index(
        "was not touched for 3 s by process"
    ), output
    written = [
        path.stat().st_mtime_ns
        for path in sorted(command.root.glob("phd2/features/*/shard_*.json"))
    ]
    assert len(written) == 3
    assert written[0] > max(written[1:]), "the shards that nobody held did not come first"
    assert command.digests() == calm.digests()
    again = Command(tmp_path / "again", calm.videos)
    lease = Layout(again.root, "phd2").lease(0)
    lease.parent.mkdir(parents=True)
    lease.write_bytes(
        left_by(replace(here, started=str(int(here.started) + 1)), "here")
    )  # our pid, reused
    os.utime(lease, (0, time.time() + 86_400))
    code, output = again.run()
    assert code == 0, output
    assert "waiting for a sign of life" not in output
    assert not lease.exists()
    assert again.digests() == calm.digests()


@pytest.mark.slow
def test_a_folder_that_becomes_read_only_is_told_and_nothing_is_lost(
    calm: Command, tmp_path: Path
) -> None:
    need_namespace()
    command = Command(tmp_path / "data", calm.videos)
    command.root.mkdir()
    script = """
    set -e
    mount -t tmpfs none "$DISK"
    "$@" & run=$!
    while ! ls "$DISK"/phd2/features/*/spool/000/*.journal 2>/dev/null >&2; do kill -0 $run; sleep 0.01; done
    # The lease is open for writing, so the disk itself cannot be remounted: a read-only view of it
    # is put over it.
    mount --bind "$DISK" "$DISK"
    mount -o remount,ro,bind "$DISK"
    code=0; wait $run || code=$?; echo "first $code"
    code=0; "$@" || code=$?; echo "second $code"
    umount "$DISK"
    code=0; "$@" || code=$?; echo "third $code"
    cp -a "$DISK"/. "$KEPT"
    """
    kept = tmp_path / "kept"
    kept.mkdir()
    done = in_namespace(script, command.words, DISK=command.root, KEPT=kept)
    assert re.findall(r"^(?:first|second|third) \d$", done, re.MULTILINE) == [
        "first 4",
        "second 4",
        "third 0",
    ], done
    assert (
        done.count(
            "Read-only file system. Nothing was lost; check the disk and its permissions, and run"
        )
        == 2
    ), done
    assert "Traceback" not in done
    assert replace(command, root=kept).digests() == calm.digests()


SAMPLE = [LUIGI, "--module", "tasks", "BuildPHD2Features", "--extract-extractors", "frames"]


@pytest.mark.slow
def test_the_sample_on_a_disk_that_is_too_small_and_grows(tmp_path: Path) -> None:
    """Too small for a folder, for the drawn videos, for the spool, for a part; and then large
    enough.
    """
    need_namespace()
    script = """
    mount -t tmpfs none "$DISK"
    cd "$DISK"
    for size in 16k 200k 800k 1400k 1700k 2200k 2700k 8m; do
        mount -o remount,size=$size "$DISK"
        code=0; "$@" || code=$?; echo "size $size code $code"
    done
    cp -a data "$KEPT"
    """
    small, large, kept = (tmp_path / name for name in ("small", "large", "kept"))
    for folder in (small, large, kept):
        folder.mkdir()
    said = in_namespace(script, SAMPLE, DISK=small, KEPT=kept)
    codes = re.findall(r"^size \S+ code (\S+)$", said, re.MULTILINE)
    assert codes == ["4"] * (len(codes) - 1) + ["0"], said
    assert len(codes) == 8
    assert said.count("no room to write ") >= 7
    assert "Traceback" not in said
    subprocess.run(SAMPLE, cwd=large, check=True, capture_output=True)
    stores = [FeatureStore(folder / "data" / "sample")["frames"] for folder in (kept, large)]
    assert stores[0].digest() == stores[1].digest()
