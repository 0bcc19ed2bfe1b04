"""When a child hangs: told by its CPU seconds and by silence, on a clock and with a kernel that the
test plays.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.child_processes import hang_watch
from pipeline.child_processes.exit_status import (
    STOP_SIGNALS,
    describe_exit,
    fault_if_stopped,
    killed_from_outside,
)
from pipeline.child_processes.hang_watch import HangWatch, Hung, TimeLimits, Usage, usage
from pipeline.child_processes.run_to_end import run_to_end

LIMITS = TimeLimits(60.0, 600.0, "stall", "whole")


class Kernel:
    """A clock and a process that do what they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.cpu_seconds = 0.0
        self.state = "R"
        self.tells = True
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(hang_watch, "usage", lambda _: self._usage())

    def _usage(self) -> Usage | None:
        return Usage(self.state, self.cpu_seconds) if self.tells else None

    def go_on(
        self, watch: HangWatch, seconds: float, share: float, every_seconds: float = 0.1
    ) -> None:
        """So many seconds of waiting, in which the child gets this share of a CPU."""
        for _ in range(round(seconds / every_seconds)):
            self.now += every_seconds
            self.cpu_seconds += share * every_seconds
            watch.check()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def watch(kernel: Kernel) -> HangWatch:
    watch = HangWatch(1)
    watch.start(LIMITS)
    return watch


@pytest.mark.parametrize("share", [1.0, 1 / 15, 1 / 50])
def test_a_busy_machine_blames_nobody(kernel: Kernel, watch: HangWatch, share: float) -> None:
    """A load of 30 on two cores leaves a child a fifteenth of one: an hour for a film of four
    minutes of work.
    """
    while kernel.cpu_seconds < 540:
        kernel.go_on(
            watch, 50 / share, share, every_seconds=0.1 / share
        )  # a sign of life each 50 s of work
        watch.heartbeat()


@pytest.mark.parametrize("share", [1.0, 1 / 15, 1 / 50])
def test_work_without_an_end_is_counted_in_cpu_seconds(
    kernel: Kernel, watch: HangWatch, share: float
) -> None:
    def decode() -> None:
        while True:
            kernel.go_on(watch, 10 / share, share, every_seconds=0.1 / share)
            watch.heartbeat()

    with pytest.raises(Hung, match="not done after 600 s of CPU time; whole"):
        decode()
    assert kernel.cpu_seconds == pytest.approx(600, abs=1)


@pytest.mark.parametrize("share", [1.0, 1 / 15])
def test_spinning_without_a_sign_of_life_is_counted_in_cpu_seconds(
    kernel: Kernel, watch: HangWatch, share: float
) -> None:
    with pytest.raises(Hung, match="no sign of life for 60 s of CPU time; stall"):
        kernel.go_on(watch, 100 / share, share)
    assert kernel.cpu_seconds == pytest.approx(60, abs=1)


@pytest.mark.parametrize(
    ("share", "state", "is_outside"),
    [(0, "S", False), (0.001, "S", False), (0, "T", True), (0, "D", True)],
)
def test_silence_is_counted_by_the_clock(
    kernel: Kernel, watch: HangWatch, share: float, state: str, is_outside: bool
) -> None:
    kernel.state = state
    with pytest.raises(
        Hung, match=r"no sign of life for 60 s, and no CPU time used.*; stall"
    ) as caught:
        kernel.go_on(watch, 200, share)
    assert kernel.now == pytest.approx(60, abs=1)
    assert caught.value.from_outside == is_outside


def test_our_own_sleep_is_no_silence_of_the_child(kernel: Kernel, watch: HangWatch) -> None:
    """Ctrl-Z stops both; so does a laptop's lid."""
    kernel.state = "S"
    kernel.go_on(watch, 50, 0)
    kernel.now += 40_000
    kernel.go_on(watch, 5, 0)
    watch.heartbeat()
    kernel.go_on(watch, 59, 0)


def test_where_the_system_tells_nothing_waiting_counts(kernel: Kernel, watch: HangWatch) -> None:
    kernel.tells = False

    def wait() -> None:
        while True:
            kernel.go_on(watch, 10, 0)
            watch.heartbeat()

    with pytest.raises(Hung, match="not done after 600 s of waiting; whole"):
        wait()


def test_the_kernel_tells_of_this_process() -> None:
    before = usage(os.getpid())
    assert before is not None
    sum(range(2_000_000))
    after = usage(os.getpid())
    assert after is not None
    assert after.state == "R"
    assert before.cpu_seconds <= after.cpu_seconds <= sum(os.times()[:2]) + 0.1
    assert usage(2**30) is None


ALLOWED = TimeLimits(1.0, 60.0)
FIRST_TIME = """
import os, signal, sys
from pathlib import Path
been = Path(sys.argv[1])
if not been.exists():
    been.touch()
    {deed}
print("well")
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSTOP"])
def test_a_program_that_somebody_else_ended_is_run_once_more(tmp_path: Path, name: str) -> None:
    deed = f"os.kill(os.getpid(), signal.{name})"
    command = [sys.executable, "-c", FIRST_TIME.format(deed=deed), str(tmp_path / "been")]
    assert run_to_end(command, tmp_path, ALLOWED) == (0, b"well\n")


@pytest.mark.parametrize(
    ("deed", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV),
        ("os.abort()", -signal.SIGABRT),
        ("sys.exit(3)", 3),
    ],
)
def test_a_program_that_fails_by_itself_is_not(tmp_path: Path, deed: str, status: int) -> None:
    command = [sys.executable, "-c", FIRST_TIME.format(deed=deed), str(tmp_path / "been")]
    assert run_to_end(command, tmp_path, ALLOWED) == (status, b"")


@pytest.mark.parametrize("deed", ["time.sleep(600)", "signal.pause()", "threading.Event().wait()"])
def test_a_program_that_waits_for_ever_is_given_up(tmp_path: Path, deed: str) -> None:
    with pytest.raises(Hung, match="no sign of life for 1 s, and no CPU time used"):
        run_to_end(
            [sys.executable, "-c", f"import signal, threading, time; {deed}"], tmp_path, ALLOWED
        )


def test_every_status_has_words() -> None:
    assert [describe_exit(status) for status in (0, 3, -signal.SIGKILL, -63, -99)] == [
        "exit status 0", "exit status 3", "SIGKILL", describe_exit(-63), "signal 99",
    ]  # fmt: skip
    assert {status for status in range(-64, 256) if fault_if_stopped(status)} == {
        -order for order in STOP_SIGNALS
    }
    outside = {-status for status in range(-64, 256) if killed_from_outside(status)}
    assert outside == STOP_SIGNALS | {signal.SIGKILL, signal.SIGQUIT, signal.SIGXCPU}
