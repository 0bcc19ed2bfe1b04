"""Leases between real processes: a holder that was stopped, one whose node died, one whose folder
was moved away.

The two minutes of watching are seconds here; nothing else is changed.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from storage.base.errors import LeaseHeld, LeaseLost
from storage.base.fingerprint import readable_json
from storage.files import file_lock, lease_record
from storage.files.atomic_write import publish
from storage.files.file_lock import lease
from storage.files.lease_record import LeaseHolder, LeaseWatcher, read_lease
from storage.files.process_identity import Owner, current_process
from tests.conftest import REPOSITORY
from tests.support.feature_samples import race

HOLDER = """
import os, signal, sys
from pathlib import Path
from storage.files import atomic_write
from storage.files import append_log
from storage.features import spool
from storage.files.atomic_write import publish, publish_file, remove
from storage.base.errors import LeaseLost
from storage.files import lease_record
from storage.files.file_lock import check_held, lease

root = Path(sys.argv[1])
lease_record.HEARTBEAT_SECONDS = float(sys.argv[2])

def adopted():
    (root / "features").mkdir(parents=True, exist_ok=True)
    (root / "features" / ".film").write_bytes(b"x")
    publish_file(root / "features" / ".film", root / "features" / "film.mp4")

def stopped_at(wanted):
    # The next time this step comes, stand still before it.
    def stop(step, path):
        if step == wanted:
            atomic_write.before_step = atomic_write._nothing
            os.kill(os.getpid(), signal.SIGSTOP)
    def arm():
        atomic_write.before_step = stop
    return arm

DEEDS = {
    **{step.name: stopped_at(step) for step in atomic_write.Step},
    "part": lambda: publish(root / "features" / "shard_000.p000.h5", b"x", replace=False),
    "manifest": lambda: publish(root / "features" / "shard_000.json", b"x", replace=True),
    "settings": lambda: publish(root / "features" / "settings.json", b"x", replace=False),
    "record": lambda: append_log.append(root / "spool" / "finished.journal", b"x"),
    "cleared spool": lambda: spool.clear(root / "spool"),
    "removed part": lambda: remove(root / "features" / "shard_000.json"),
    "film": adopted,
    "block of a download": lambda: check_held(once_in_seconds=1.0),
}
try:
    with lease(root / "leases" / "shard_000.lease", on_lost=lambda: print("told", flush=True)):
        print("held", flush=True)
        for line in sys.stdin:
            try:
                DEEDS[line.strip()]()
                print("done", flush=True)
            except LeaseLost as error:
                print(f"lost: {error}", flush=True)
except LeaseLost:
    sys.exit(4)
"""
DEEDS = (
    "part",
    "manifest",
    "settings",
    "record",
    "cleared spool",
    "removed part",
    "block of a download",
)


CONTAINER = (
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


@contextmanager
def holder(
    root: Path, beat_seconds: float = 3600.0, *around: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of shard 0, and does what it is told line by line."""
    command = [*around, sys.executable, "-c", HOLDER, str(root), str(beat_seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as running:
        assert answer(running) == "held"
        try:
            yield running
        finally:
            running.kill()


def answer(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def told(running: subprocess.Popen[str], deed: str) -> str:
    assert running.stdin is not None
    running.stdin.write(f"{deed}\n")
    running.stdin.flush()
    return answer(running)


def ended(running: subprocess.Popen[str]) -> int:
    assert running.stdin is not None
    running.stdin.close()
    return running.wait(60)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes are 1.2 seconds, and one look follows the other."""
    monkeypatch.setattr(lease_record, "WATCH_SECONDS", 1.2)
    monkeypatch.setattr(lease_record, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(file_lock, "_WATCHER", LeaseWatcher())


def test_a_holder_that_was_stopped_loses_its_lease_and_publishes_nothing(
    tmp_path: Path, soon: None
) -> None:
    path = tmp_path / "leases" / "shard_000.lease"
    with holder(tmp_path) as first:
        for deed in ("part", "manifest", "record"):
            assert told(first, deed) == "done"
        first.send_signal(signal.SIGSTOP)
        lines: list[str] = []
        with lease(path, notify=lines.append):
            name = f"process {first.pid} on {socket.gethostname()}"
            assert lines[0].startswith(
                f"shard_000.lease is held by {name}; waiting for a sign of life"
            )
            assert lines[-1].endswith(f"was not touched for 1.2 s by {name}: taken over")
            publish(tmp_path / "features" / "mine", b"mine", replace=False)
            before = files(tmp_path)
            first.send_signal(signal.SIGCONT)
            for deed in (*DEEDS, "film"):
                assert told(first, deed).startswith(f"lost: the lease {path} belongs to process ")
            assert ended(first) == 4
            assert files(tmp_path) == before
    assert not path.exists()


@pytest.mark.parametrize(
    ("step", "deed"),
    [
        ("FOLDER", "settings"),
        ("OPEN", "part"),
        ("FSYNC", "part"),
        ("LINK", "part"),
        ("REPLACE", "manifest"),
        ("OPEN", "record"),
        ("WRITE", "record"),
        ("UNLINK", "removed part"),
    ],
)
def test_a_holder_that_is_stopped_in_the_middle_of_publishing_does_not_end_it(
    tmp_path: Path, soon: None, step: str, deed: str
) -> None:
    with holder(tmp_path) as first:
        if step != "FOLDER":
            for earlier in ("manifest", "record"):
                assert told(first, earlier) == "done"
        assert told(first, step) == "done"
        assert first.stdin is not None
        first.stdin.write(f"{deed}\n")
        first.stdin.flush()
        while state_of(first.pid) != "T":
            time.sleep(0.01)
        with lease(tmp_path / "leases" / "shard_000.lease", notify=lambda _: None):
            before = files(tmp_path)
            first.send_signal(signal.SIGCONT)
            assert answer(first).startswith("lost: ")
            assert {
                name: content for name, content in files(tmp_path).items() if ".tmp-" not in name
            } == {name: content for name, content in before.items() if ".tmp-" not in name}
            assert ended(first) == 4


def state_of(pid: int) -> str:
    """The state of a process, as in `ps`."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    "beats", ["000000000001.00000000", "000000000000.12345678", "999999999999.00000000"]
)
def test_two_copies_of_one_running_holder_find_each_other_out(tmp_path: Path, beats: str) -> None:
    """A machine that was copied while it ran: nonce, process and file are the same, and both raise
    the counter.
    """
    path = tmp_path / "leases" / "shard_000.lease"
    with holder(tmp_path) as first:
        assert told(first, "part") == "done"
        with path.open("r+b") as file:
            file.write(path.read_bytes().replace(b"000000000000.00000000", beats.encode()))
        assert told(first, "manifest").startswith(
            f"lost: the lease {path} belongs to process {first.pid} on "
        )
        assert ended(first) == 4


def test_a_holder_hears_of_its_loss_without_publishing(tmp_path: Path) -> None:
    with holder(tmp_path, beat_seconds=0.05) as first:
        (tmp_path / "leases" / "shard_000.lease").write_bytes(b"{}")
        assert answer(first) == "told"
        assert ended(first) == 4


def renamed(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def removed(root: Path) -> None:
    shutil.rmtree(root)


def replaced_by_a_copy(root: Path) -> None:
    renamed(root)
    shutil.copytree(root.with_name("elsewhere"), root)


def lease_deleted(root: Path) -> None:
    (root / "leases" / "shard_000.lease").unlink()


@pytest.mark.parametrize("change", [renamed, removed, replaced_by_a_copy, lease_deleted])
def test_a_data_root_that_is_another_ends_the_run_and_nothing_appears_in_it(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = tmp_path / "data"
    with holder(root) as first:
        assert told(first, "settings") == "done"
        change(root)
        before = files(tmp_path)
        for deed in DEEDS:
            assert told(first, deed).startswith(
                f"lost: the lease {root / 'leases' / 'shard_000.lease'} "
            )
        assert files(tmp_path) == before
        assert root.exists() == (change not in (renamed, removed))
        assert ended(first) == 4
    assert root.exists() == (change not in (renamed, removed))


def dead_elsewhere(**changes: str) -> Callable[[], bytes]:
    def record() -> bytes:
        owner = replace(current_process(), **changes)  # type: ignore[arg-type]
        return LeaseHolder("node", owner, "0123456789abcdef").to_bytes()

    return record


@pytest.mark.parametrize(
    "content",
    [
        dead_elsewhere(host_tag="ffffffff"),
        dead_elsewhere(boot_tag="ffffffff"),
        dead_elsewhere(namespace="7"),
        # our own record, copied with its data root: the process lives, the counter does not rise
        dead_elsewhere(),
        lambda: b"",  # a power cut, on a disk without hard links
        lambda: b"\xff\x00",
    ],
    ids=["other host", "other boot", "other container", "copied", "empty", "damaged"],
)
def test_a_lease_that_nobody_touches_is_taken_over_without_deleting_anything(
    tmp_path: Path, soon: None, content: Callable[[], bytes]
) -> None:
    path = tmp_path / "shard_000.lease"
    path.write_bytes(content())
    with pytest.raises(LeaseHeld, match=r"no need to delete a file"), lease(path):
        pass
    lines: list[str] = []
    with lease(path, notify=lines.append):
        sight = read_lease(path)
        assert sight is not None
        assert sight.record is not None
        assert sight.record.owner == current_process()
    assert lines[-1].endswith("taken over")
    assert list(tmp_path.iterdir()) == []


def test_many_leases_of_one_dead_node_are_watched_together(tmp_path: Path, soon: None) -> None:
    paths = [tmp_path / f"shard_{number:03d}.lease" for number in range(5)]
    for path in paths:
        path.write_bytes(dead_elsewhere(host_tag="ffffffff")())
        with pytest.raises(LeaseHeld), lease(path):
            pass
    waits = []
    for path in paths:
        lines: list[str] = []
        with lease(path, notify=lines.append):
            waits.append(len(lines))
    assert waits == [2, 1, 1, 1, 1]  # the first is waited for, the others are taken over at once


def test_a_holder_at_work_is_respected_as_soon_as_its_counter_rises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_record, "LOOK_SECONDS", 0.05)
    path = tmp_path / "leases" / "shard_000.lease"
    with holder(tmp_path, beat_seconds=0.05) as first:
        lines: list[str] = []
        with pytest.raises(LeaseHeld, match=rf"held by process {first.pid} on .*Let it finish"):  # noqa: SIM117
            with lease(path, notify=lines.append):
                pass
        assert lines[0].endswith(
            "; waiting for a sign of life, or for 120 s without one (0 s so far)"
        )
        assert told(first, "part") == "done"
        assert ended(first) == 0
    assert not path.exists()


def test_a_lease_that_is_let_go_is_ours_without_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_record, "LOOK_SECONDS", 0.05)
    path, codes = tmp_path / "leases" / "shard_000.lease", list[int]()
    with holder(tmp_path) as first, lease(path, notify=lambda _: codes.append(ended(first))):
        assert codes == [0]


def test_the_lease_of_an_older_release_is_never_outwaited(tmp_path: Path, soon: None) -> None:
    path = tmp_path / "shard_000.lease"
    owner = replace(current_process(), host_tag="ffffffff")
    path.write_bytes(
        readable_json({"host": "node", "owner": owner.token, "nonce": "0123456789abcdef"})
    )
    with (
        pytest.raises(
            LeaseHeld, match=r"older release, which gives no sign of life: .* delete the file"
        ),
        lease(path, notify=lambda _: None),
    ):
        pass


def test_only_what_was_looked_at_counts_as_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop that slept for a night, with holder and watcher on it: both go on, and the lease
    stays.
    """
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path, watches = tmp_path / "lease", LeaseWatcher()

    def seen(after_seconds: float, beats: int = 0) -> float:
        now[0] += after_seconds
        path.write_bytes(
            readable_json(
                {
                    "beats": f"{beats:012d}",
                    "host": "a",
                    "owner": current_process().token,
                    "nonce": "0" * 16,
                }
            )
        )
        return watches.observe(path, read_lease(path))

    assert [seen(1), seen(1), seen(3), seen(40_000)] == [
        0,
        1,
        4,
        4 + lease_record.LONGEST_GAP_SECONDS,
    ]
    assert [seen(1, beats=1), seen(1, beats=1)] == [0, 1]
    path.unlink()
    assert watches.observe(path, read_lease(path)) == 0
    assert seen(1, beats=1) == 0


def test_machines_of_one_identity_never_hold_one_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight clones: one host name, one machine id, equal process numbers, boots of their own."""
    path, inside = tmp_path / "shard_000.lease", tmp_path / "inside"

    def clone(number: int) -> int:
        mine = replace(current_process(), boot_tag=f"{number:08x}", pid=1000, started="77")
        monkeypatch.setattr("storage.files.process_identity._owner_of", lambda _: mine)
        held = 0
        while held < 5:
            try:
                with lease(path):
                    publish(
                        inside, str(number).encode(), replace=False
                    )  # fails if somebody else is inside
                    time.sleep(0.002)
                    inside.unlink()
                held += 1
            except LeaseHeld:
                time.sleep(0.001)
        return 0

    assert race(8, clone) == [0] * 8
    assert list(tmp_path.iterdir()) == []


TAKER = """
import sys
from pathlib import Path
from storage.base.errors import LeaseHeld
from storage.files.file_lock import lease
try:
    with lease(Path(sys.argv[1])):
        print("taken")
except LeaseHeld as held:
    print(held.owner)
"""


def test_containers_of_one_host_cannot_judge_each_others_processes(tmp_path: Path) -> None:
    """One kernel, one boot, one host name; but process 7 of one is not process 7 of the other."""
    try:
        subprocess.run([*CONTAINER, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"LOUD SKIP: no pid namespace here ({error}); nothing is proved about containers"
        )
    path = tmp_path / "leases" / "shard_000.lease"
    try_it = [sys.executable, "-c", TAKER, str(path)]
    with holder(tmp_path, 3600.0, *CONTAINER) as first:
        seen = read_lease(path)
        assert seen is not None
        assert seen.record is not None
        name = f"process {seen.record.owner.pid} on {socket.gethostname()}"
        for around in ((), CONTAINER):
            done = subprocess.run(
                [*around, *try_it], cwd=REPOSITORY, capture_output=True, text=True, check=True
            )
            assert done.stdout.strip() == name
        assert told(first, "part") == "done"
        assert ended(first) == 0
    with lease(path):
        done = subprocess.run(
            [*CONTAINER, *try_it], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"process {current_process().pid} on {socket.gethostname()}"


def test_the_counter_rises_in_the_file_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_record, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / "shard_000.lease"
    with lease(path):
        sights = [read_lease(path)]
        while len(sights) < 4:
            if (sight := read_lease(path)) != sights[-1]:
                sights.append(sight)
    assert all(
        sight is not None and sight.record == sights[0].record
        for sight in sights
        if sights[0] is not None
    )
    assert len({sight.beats for sight in sights if sight is not None}) == 4


def test_what_stops_a_block_after_the_loss_is_told_as_the_loss(tmp_path: Path) -> None:
    def work(error: BaseException) -> None:
        with lease(tmp_path / "shard_000.lease"):
            (tmp_path / "shard_000.lease").unlink()
            raise error

    with pytest.raises(
        LeaseLost, match=r"is gone: .* its folder was renamed or removed, or the file was deleted"
    ):
        work(LeaseHeld(tmp_path, "somebody"))
    with pytest.raises(KeyError, match="a bug"):
        work(KeyError("a bug"))


def test_an_owner_of_another_boot_is_never_known_to_be_dead() -> None:
    here = current_process()
    others: list[Owner] = [
        replace(here, boot_tag="ffffffff", pid=2**30),
        replace(here, boot_tag="00000000", pid=2**30),
        replace(here, namespace="7", pid=2**30),
        replace(here, host_tag="ffffffff", pid=2**30),
    ]
    assert [owner.is_dead() for owner in others] == [False] * 4
    assert [owner.is_of_other_boot() for owner in others] == [True, True, False, False]
    assert replace(here, pid=2**30).is_dead()
