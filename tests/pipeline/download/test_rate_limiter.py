"""The pace and the breaker, on a clock that only moves when somebody sleeps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.download.access.circuit_breaker import (
    LOOK_EVERY_SECONDS,
    PROBE_SECONDS,
    CircuitBreaker,
    Permit,
    Wait,
    next_pause_seconds,
)
from pipeline.download.access.rate_limiter import LimiterState, SharedRateLimiter, try_acquire
from pipeline.download.access.source import RequestPace
from pipeline.download.access.token_bucket import BURST_TOKENS, MAX_SKEW_SECONDS, TokenBucket
from storage.base.errors import SystemicFault
from storage.files.process_identity import current_process

PACE = RequestPace(
    videos_per_hour=250, first_pause_seconds=60, longest_pause_seconds=600, max_paused_seconds=3600
)
UNPACED = replace(PACE, videos_per_hour=0)
START = 1_000_000.0
ELSEWHERE = f"00000000-{'0' * 8}-1-1-1"
"""A process of another host: nobody here can say whether it lives."""


class Time:
    """A clock for several gates."""

    def __init__(self) -> None:
        self.now = START
        self.slept = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def gate_at(
    folder: Path, clock: Time, pace: RequestPace = PACE, said: list[str] | None = None
) -> SharedRateLimiter:
    tell = (lambda _: None) if said is None else said.append
    return SharedRateLimiter(
        folder, pace, notify=tell, now=lambda: clock.now, sleep=clock.sleep, jitter=lambda: 0.0
    )


def test_all_gates_of_a_folder_together_keep_the_pace(tmp_path: Path) -> None:
    clock = Time()
    gates = [gate_at(tmp_path, clock) for _ in range(3)]
    for turn in range(65):
        gates[turn % 3].acquire()
    # 65 videos: 5 at once, then one every 3600 / 250 = 14.4 s.
    assert clock.slept == pytest.approx(60 * 14.4, abs=1)


def test_without_a_limit_nobody_waits_and_nothing_is_written(tmp_path: Path) -> None:
    clock = Time()
    for _ in range(1000):
        assert gate_at(tmp_path / "egress", clock, UNPACED).acquire() == Permit(0)
    assert (clock.slept, (tmp_path / "egress").exists()) == (0, False)


@pytest.mark.parametrize(
    ("retry_after", "trips", "seconds"),
    [
        (None, 0, 60),
        (None, 1, 120),
        (None, 2, 240),
        (None, 9, 600),  # the longest pause
        (5.0, 0, 5),  # what the site says, the first time
        (5.0, 1, 120),
        (1000.0, 1, 1000),
        (1e9, 0, 3600),  # never longer than the run may pause in all
    ],
)
def test_pauses_double_and_honour_what_the_site_says(
    retry_after: float | None, trips: int, seconds: float
) -> None:
    assert next_pause_seconds(trips, PACE, retry_after, jitter=0.0) == seconds
    assert next_pause_seconds(trips, PACE, retry_after, jitter=1.0) == seconds * 1.25


def test_a_trip_stops_everybody_and_one_probe_at_a_time_asks_again(tmp_path: Path) -> None:
    clock = Time()
    first, second = gate_at(tmp_path, clock, UNPACED), gate_at(tmp_path, clock, UNPACED)
    early, late = first.acquire(), second.acquire()
    assert first.report(early, "rate_limited")
    assert second.report(late, "bot_check")  # asked before the trip: pauses, but does not double
    probe = first.acquire()
    assert (probe.is_probe, clock.slept) == (True, 60)
    assert first.report(probe, "rate_limited")
    probe = second.acquire()
    assert (probe.is_probe, clock.slept) == (True, 60 + 120)
    assert not second.report(probe, "")
    assert first.acquire() == Permit(epoch=2)
    assert clock.slept == 180


@pytest.mark.parametrize(
    ("reason", "closes"), [("", True), ("not_found", True), ("unknown", True), ("network", False)]
)
def test_any_answer_of_the_site_closes_the_breaker_and_silence_does_not(
    tmp_path: Path, reason: str, closes: bool
) -> None:
    clock = Time()
    gate = gate_at(tmp_path, clock, UNPACED)
    gate.report(gate.acquire(), "rate_limited")
    assert not gate.report(gate.acquire(), reason)
    assert gate.acquire().is_probe is not closes


def test_an_answer_to_an_older_question_does_not_close_the_breaker(tmp_path: Path) -> None:
    clock = Time()
    gate = gate_at(tmp_path, clock, UNPACED)
    slow, quick = gate.acquire(), gate.acquire()
    gate.report(quick, "rate_limited")
    gate.report(slow, "")
    assert gate.acquire().is_probe
    assert clock.slept == 60


def tripped(resume_at: float = START) -> LimiterState:
    breaker = CircuitBreaker(trips=1, epoch=1, resume_at=resume_at, pause_seconds=60.0)
    return LimiterState(breaker=breaker)


def test_a_probe_that_never_comes_back_is_replaced() -> None:
    state, permit = try_acquire(tripped(), START, ELSEWHERE, PACE)
    assert permit == Permit(1, is_probe=True)
    _, waiting = try_acquire(state, START, "me", PACE)
    assert waiting == Wait(LOOK_EVERY_SECONDS, paused=True)
    assert try_acquire(state, START + PROBE_SECONDS, "me", PACE)[1] == Permit(1, is_probe=True)
    dead = replace(current_process(), pid=2**22 + 1, started="1").token
    state = replace(state, breaker=replace(state.breaker, probe_owner=dead))
    assert try_acquire(state, START, "me", PACE)[1] == Permit(1, is_probe=True)


def test_a_clock_that_jumps_back_never_lengthens_a_pause_beyond_its_own_length() -> None:
    day = 86_400.0
    state, waiting = try_acquire(tripped(resume_at=START + 60), START - day, "me", PACE)
    assert waiting == Wait(60.0, paused=True)
    assert try_acquire(state, START - day + 60, "me", PACE)[1] == Permit(1, is_probe=True)


@pytest.mark.parametrize(
    ("leap", "tokens_after"),
    [
        (365 * 86_400.0, BURST_TOKENS - 1),  # a leap ahead fills the bucket, and no more
        (0.0, None),
        (-MAX_SKEW_SECONDS, None),
        (-86_400.0, None),
    ],
)
def test_clocks_that_disagree_cannot_make_tokens(leap: float, tokens_after: float | None) -> None:
    empty = LimiterState(TokenBucket(tokens=0.0, as_of=START))
    state, answer = try_acquire(empty, START + leap, "me", PACE)
    if tokens_after is not None:
        assert state.bucket.tokens == tokens_after
        return
    skew = -leap if -leap <= MAX_SKEW_SECONDS else 0.0
    assert isinstance(answer, Wait)
    assert not answer.paused
    assert answer.seconds == pytest.approx(14.4 + skew)
    assert try_acquire(state, START + leap + 14.5 + skew, "me", PACE)[1] == Permit(0)


def test_a_site_that_never_recovers_ends_the_run_and_tells_why(tmp_path: Path) -> None:
    clock, said = Time(), list[str]()
    gate = gate_at(tmp_path, clock, UNPACED, said)

    def storm() -> None:
        while True:
            gate.report(gate.acquire(), "bot_check")

    with pytest.raises(
        SystemicFault,
        match=r"wants proof of a human.*paused for 1 hours.*max_pause_hours.*No video",
    ):
        storm()
    assert 3500 < clock.slept <= 3600
    assert said[0] == "downloads pause (the site wants proof of a human): asking again in 0:01:00"
    assert all(
        re.fullmatch(r"downloads pause \(.*\): asking again in \d+:\d\d:\d\d", line)
        for line in said
    )


def test_a_long_pause_is_told_every_few_minutes(tmp_path: Path) -> None:
    clock, said = Time(), list[str]()
    gate = gate_at(
        tmp_path,
        clock,
        replace(UNPACED, first_pause_seconds=1500, longest_pause_seconds=1500),
        said,
    )
    gate.report(gate.acquire(), "rate_limited")
    gate.acquire()
    lefts = [line.rpartition(" ")[2] for line in said]
    assert lefts == ["0:25:00", "0:20:00", "0:15:00", "0:10:00", "0:05:00"]


def test_three_videos_in_a_row_that_ytdlp_cannot_read_stop_the_run(tmp_path: Path) -> None:
    gate = gate_at(tmp_path, Time(), UNPACED)
    for reason in (
        "stale_downloader",
        "stale_downloader",
        "",
        "stale_downloader",
        "stale_downloader",
    ):
        gate.report(gate.acquire(), reason)
    with pytest.raises(
        SystemicFault, match=r"yt-dlp no longer understands the site.*update yt-dlp"
    ):
        gate.report(gate.acquire(), "stale_downloader")


def test_stopping_ends_every_wait(tmp_path: Path) -> None:
    gate = SharedRateLimiter(
        tmp_path, replace(UNPACED, first_pause_seconds=3600), notify=lambda _: None
    )
    gate.report(gate.acquire(), "rate_limited")
    gate.stop()
    with pytest.raises(SystemicFault, match="stopped while waiting; nothing was lost"):
        gate.acquire()
