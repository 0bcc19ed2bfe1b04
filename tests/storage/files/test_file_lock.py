from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from storage.base.errors import LeaseHeld, LeaseLost, SystemicFault
from storage.files.file_lock import lease, remove_dead_leases
from storage.files.lease_record import LeaseHolder
from storage.files.process_identity import Owner, current_process, parse_owner
from tests.support.feature_samples import race

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def plant(path: Path, owner: Owner, nonce: str = "0123456789abcdef") -> None:
    path.write_bytes(LeaseHolder(socket.gethostname(), owner, nonce).to_bytes())


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def zombie() -> Owner:
    child = os.fork()
    if child == 0:
        os._exit(0)
    while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    return replace(
        current_process(),
        pid=child,
        started=Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19],
    )


HOLDERS: dict[str, tuple[Callable[[], Owner], bool]] = {
    "dead pid": (lambda: replace(current_process(), pid=dead_pid()), True),
    "a pid beyond all pids": (lambda: replace(current_process(), pid=2**40), True),
    "our own pid, reused": (
        lambda: replace(current_process(), started=str(int(current_process().started) + 1)),
        True,
    ),
    "init's pid, reused": (lambda: replace(current_process(), pid=1, started="999999999999"), True),
    "other boot": (lambda: replace(current_process(), boot_tag="ffffffff"), False),
    "other boot, live pid": (lambda: replace(current_process(), boot_tag="ffffffff", pid=1), False),
    "other boot, other container": (
        lambda: replace(current_process(), boot_tag="ffffffff", namespace="7"),
        False,
    ),
    "killed, not yet buried": (zombie, True),
    "ourselves": (current_process, False),
    "live parent": (lambda: replace(current_process(), pid=os.getppid(), started="0"), False),
    "other host": (lambda: replace(current_process(), host_tag="ffffffff", pid=dead_pid()), False),
    "other host, other boot": (
        lambda: replace(current_process(), host_tag="ffffffff", boot_tag="ffffffff"),
        False,
    ),
    "other container": (lambda: replace(current_process(), namespace="7", pid=dead_pid()), False),
    "a boot that nobody knows": (
        lambda: replace(current_process(), boot_tag="00000000", pid=dead_pid()),
        False,
    ),
}


@pytest.mark.parametrize("age_days", [-1, 0, 1])
@pytest.mark.parametrize("name", HOLDERS)
def test_a_dead_holder_is_followed_and_a_live_one_respected_whatever_the_clock_says(
    tmp_path: Path, name: str, age_days: int
) -> None:
    holder, is_dead = HOLDERS[name]
    path = tmp_path / "shard_000.lease"
    plant(path, holder())
    os.utime(path, (time.time() - 86_400 * age_days,) * 2)
    before = path.read_bytes()
    if is_dead:
        with lease(path):
            assert parse_owner(json.loads(path.read_bytes())["owner"]) == current_process()
        assert list(tmp_path.iterdir()) == []
    else:
        with (
            pytest.raises(LeaseHeld, match=rf"held by process \d+ on {socket.gethostname()}"),
            lease(path),
        ):
            pass
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_lease_is_held_inside_the_block_and_free_after_it_even_after_an_error(
    tmp_path: Path,
) -> None:
    path = tmp_path / "leases" / "shard_000.lease"

    def work() -> None:
        with lease(path):
            with pytest.raises(LeaseHeld, match=f"process {os.getpid()}"), lease(path):
                pass
            raise KeyError("inside")

    for _ in range(2):
        with pytest.raises(KeyError, match="inside"):
            work()
        assert not path.exists()


def test_a_lease_that_became_somebody_elses_is_told_and_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "shard_000.lease"
    with pytest.raises(LeaseLost, match=f"belongs to process {os.getpid()} on "), lease(path):
        plant(path, current_process(), nonce="f" * 16)
    assert path.exists()


def test_a_forked_child_that_leaves_the_block_does_not_free_its_parents_lease(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shard_000.lease"
    with contextlib.ExitStack() as stack:
        stack.enter_context(lease(path))
        child = os.fork()
        if child == 0:
            stack.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize("fails", [False, True], ids=["after a good end", "after an error"])
def test_a_lease_that_cannot_be_removed_is_told_unless_something_worse_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def work() -> None:
        with lease(tmp_path / "shard_000.lease"):
            monkeypatch.setattr(Path, "unlink", read_only)
            if fails:
                raise KeyError("inside")

    with pytest.raises(
        KeyError if fails else SystemicFault, match="inside" if fails else "Read-only file system"
    ):
        work()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b'{"host": "a", "owner": "b", "nonce": "c"}', b"[1]"]
)
def test_an_unreadable_lease_is_respected_and_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shard_000.lease"
    path.write_bytes(content)
    with (
        pytest.raises(
            LeaseHeld, match=r"held by an unknown process \(unreadable record\)\. Let it"
        ),
        lease(path),
    ):
        pass
    assert path.read_bytes() == content
    assert remove_dead_leases(tmp_path) == []


def test_without_hard_links_a_lease_still_excludes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "shard_000.lease"
    plant(path, HOLDERS["dead pid"][0]())
    with lease(path), pytest.raises(LeaseHeld), lease(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("turns", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_of_eight_takers_of_a_stale_lease_never_two_hold_it(turns: int, tmp_path: Path) -> None:
    for turn in range(turns):
        path, inside = tmp_path / f"shard_{turn:03d}.lease", tmp_path / "inside"
        plant(path, HOLDERS["dead pid"][0]())

        def take(_: int, path: Path = path, inside: Path = inside) -> int:
            try:
                with lease(path):
                    os.close(
                        os.open(inside, os.O_CREAT | os.O_EXCL)
                    )  # fails if somebody else is inside
                    time.sleep(0.002)
                    inside.unlink()
            except LeaseHeld:
                return 3
            return 0

        codes = race(8, take)
        assert set(codes) <= {0, 3}
        assert 0 in codes
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rounds", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_takers_killed_at_random_never_leave_a_lease_that_nobody_can_take(
    rounds: int, tmp_path: Path
) -> None:
    path = tmp_path / "shard_000.lease"

    def take(number: int) -> int:
        signal.setitimer(
            signal.ITIMER_REAL, 0.0003 * (number + 1)
        )  # SIGALRM kills wherever it strikes
        for _ in range(200):
            try:
                with lease(path):
                    pass
            except LeaseHeld:
                continue
        return 0

    for _ in range(rounds):
        race(8, take)
        with lease(path):
            pass


def test_tidy_removes_the_leases_of_the_dead_only(tmp_path: Path) -> None:
    plant(tmp_path / "shard_000.lease", HOLDERS["dead pid"][0]())
    plant(tmp_path / "shard_001.lease", current_process())
    plant(tmp_path / "shard_002.lease.0123456789abcdef", HOLDERS["dead pid"][0]())
    plant(tmp_path / "shard_003.lease", HOLDERS["other boot"][0]())
    assert [path.name for path in remove_dead_leases(tmp_path)] == [
        "shard_000.lease",
        "shard_002.lease.0123456789abcdef",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "shard_001.lease",
        "shard_003.lease",
    ]


@pytest.mark.parametrize(
    "token", ["", "a-b-c", "00000000-00000000-0-0-0", "00000000-00000000-0--5-0", "x" * 99]
)
def test_a_token_that_is_not_ours_names_nobody(token: str) -> None:
    assert parse_owner(token) is None
    assert parse_owner(current_process().token) == current_process()
