"""Limits the requests to one site, over all processes of a data root.

A token bucket sets the pace of all of them together, and a circuit breaker pauses all of them when
the site says stop. Both are kept in one shared record; see `token_bucket`, `circuit_breaker` and
`shared_state`. Times in it are wall clock times of different machines: a clock that is behind by up
to `MAX_SKEW_SECONDS` waits; a pause that ends too early costs one probe.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.download.access.circuit_breaker import (
    LOOK_EVERY_SECONDS,
    CircuitBreaker,
    Permit,
    Wait,
    close_breaker,
    next_pause_seconds,
    open_breaker,
    try_probe,
)
from pipeline.download.access.shared_state import SharedState
from pipeline.download.access.source import RequestPace
from pipeline.download.access.text_streak import TEXTS_LIMIT, TextStreak
from pipeline.download.access.token_bucket import TokenBucket
from storage.base.errors import SystemicFault
from storage.base.fingerprint import to_json_value
from storage.base.records import JSON
from storage.base.video_status import REASONS, Policy
from storage.files.process_identity import current_process

MESSAGE_EVERY_SECONDS = 300.0
"""How often a long pause is reported."""
STALE_LIMIT = 3
"""So many videos in a row that yt-dlp does not understand are not a coincidence."""
_RANDOM = secrets.SystemRandom()
_INCONCLUSIVE = frozenset({"network", "proxy", "offline"})
"""Reasons of failures in which the site itself did not answer."""


@dataclass(frozen=True)
class LimiterState:
    """What processes share."""

    bucket: TokenBucket = field(default_factory=TokenBucket)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    streak: TextStreak = field(default_factory=TextStreak)

    @classmethod
    def from_record(cls, record: Mapping[str, JSON]) -> LimiterState:
        """The state that `record` holds. Keys that are missing have their default."""
        streak = _known_fields(TextStreak, record)
        streak["texts"] = tuple(streak.get("texts", ()))
        return cls(
            TokenBucket(**_known_fields(TokenBucket, record)),
            CircuitBreaker(**_known_fields(CircuitBreaker, record)),
            TextStreak(**streak),
        )

    def to_record(self) -> dict[str, JSON]:
        """The state as one flat record."""
        values = {**vars(self.bucket), **vars(self.breaker), **vars(self.streak)}
        return {name: to_json_value(value) for name, value in values.items()}


def _known_fields(kind: Any, record: Mapping[str, JSON]) -> dict[str, Any]:
    names = [one.name for one in fields(kind)]
    return {name: record[name] for name in names if name in record}


def try_acquire(
    state: LimiterState, now: float, me: str, pace: RequestPace
) -> tuple[LimiterState, Permit | Wait]:
    """Whether the process `me` may send a request at `now`, and the next state."""
    if state.breaker.is_open:
        breaker, answer = try_probe(state.breaker, now, me)
        return replace(state, breaker=breaker), answer
    bucket, wait_seconds = state.bucket.take(now, pace.videos_per_hour)
    state = replace(state, bucket=bucket)
    if wait_seconds:
        return state, Wait(wait_seconds, paused=False)
    return state, Permit(state.breaker.epoch)


class RateLimiter(Protocol):
    """What every request for a video passes: `SharedRateLimiter` or `NoLimit`."""

    def acquire(self) -> Permit:
        """Permission for one request."""
        ...

    @property
    def successes(self) -> int | None:
        """How many requests succeeded so far; None if they are not counted."""
        ...

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """Report the result of a request.

        Returns True if the caller should `acquire` and send the same request again, without
        counting an attempt.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        ...


class NoLimit:
    """A rate limiter that never waits. What a site says is the caller's matter."""

    successes: int | None = None

    def acquire(self) -> Permit:
        """Permission at once."""
        return Permit(0)

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """Never ask for a repetition."""
        return False

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SharedRateLimiter:
    """A rate limiter that all processes of a data root share by the files in one folder."""

    def __init__(
        self,
        folder: Path,
        pace: RequestPace,
        *,
        notify: Callable[[str], None],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
        jitter: Callable[[], float] = _RANDOM.random,
    ) -> None:
        """`notify` prints a line for people; `now`, `sleep` and `jitter` are replaced in tests."""
        self._state = SharedState(folder)
        self._pace = pace
        self._notify = notify
        self._now = now
        self._stopped = threading.Event()
        self._sleep = sleep or self._wait_for_stop
        self._jitter = jitter
        self._last_stop = ""
        self._stale_in_a_row = 0
        self.successes: int | None = 0
        self.paused_seconds = 0.0
        """How long this limiter slept because of an open breaker."""

    def acquire(self) -> Permit:
        """Permission for one request, after waiting for the pace and for pauses.

        Raises SystemicFault if the pauses take too long, or if `stop` is called.
        """
        message = _WaitMessage(self._notify)
        while True:
            answer = self._change(
                lambda state: try_acquire(state, self._now(), current_process().token, self._pace)
            )
            if isinstance(answer, Permit):
                return answer
            # Sleep in short pieces: another process may close the breaker meanwhile.
            seconds = min(answer.seconds, LOOK_EVERY_SECONDS)
            if answer.paused:
                message.show(answer.seconds, self._last_stop)
                self._count_pause(seconds)
            self.sleep(seconds)
            message.waited(seconds)

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """Report the result of a request: a key of REASONS, or empty for success.

        Returns True if the site refuses everybody, so that the caller should acquire and ask again.
        Raises SystemicFault when the site, or yt-dlp, fails so that more requests are in vain.
        """
        # Counted before the breaker: these stops hold for every policy.
        self._count_stale(reason)
        self._count_texts(reason, video_id)
        if not reason or REASONS[reason].policy is not Policy.PAUSE:
            self._close_breaker(permit, answered=reason not in _INCONCLUSIVE)
            return False
        self._last_stop = REASONS[reason].meaning
        self._open_breaker(permit, retry_after_seconds)
        return True

    def sleep(self, seconds: float) -> None:
        """Wait. Raises SystemicFault if `stop` is called."""
        self._sleep(seconds)
        if self._stopped.is_set():
            raise SystemicFault(
                "stopped while waiting; nothing was lost, run the same command again."
            )

    def stop(self) -> None:
        """End every wait, now and later: the run ends."""
        self._stopped.set()

    def _wait_for_stop(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _open_breaker(self, permit: Permit, retry_after_seconds: float | None) -> None:
        # Drawn once: `change` may call the function below several times.
        jitter = self._jitter()

        def opened(state: LimiterState) -> tuple[LimiterState, None]:
            seconds = next_pause_seconds(
                state.breaker.trips, self._pace, retry_after_seconds, jitter
            )
            breaker = open_breaker(state.breaker, permit, self._now(), seconds)
            return replace(state, breaker=breaker), None

        self._change(opened)

    def _close_breaker(self, permit: Permit, *, answered: bool) -> None:
        def closed(state: LimiterState) -> tuple[LimiterState, None]:
            breaker = close_breaker(state.breaker, permit, answered=answered)
            return replace(state, breaker=breaker), None

        self._change(closed)

    def _change(self, decide: Callable[[LimiterState], tuple[LimiterState, Any]]) -> Any:
        def on_record(record: Mapping[str, JSON]) -> tuple[Mapping[str, JSON], Any]:
            before = LimiterState.from_record(record)
            after, answer = decide(before)
            # The record of an earlier release may lack keys; an equal state is not written again.
            return (record if after == before else after.to_record()), answer

        return self._state.change(on_record)

    def _count_pause(self, seconds: float) -> None:
        self.paused_seconds += seconds
        if self.paused_seconds <= self._pace.max_paused_seconds:
            return
        hours = self._pace.max_paused_seconds / 3600
        cause = self._last_stop or "reported by another process"
        raise SystemicFault(
            f"the site keeps saying stop ({cause}), and this run has paused for {hours:g} hours, "
            "which [download] max_pause_hours allows. No video was marked; run the same command "
            "again later, or from another network."
        )

    def _count_stale(self, reason: str) -> None:
        self._stale_in_a_row = self._stale_in_a_row + 1 if reason == "stale_downloader" else 0
        if self._stale_in_a_row < STALE_LIMIT:
            return
        row = REASONS["stale_downloader"]
        raise SystemicFault(
            f"{row.meaning}: {STALE_LIMIT} requests in a row failed so. {row.advice}."
        )

    def _count_texts(self, reason: str, video_id: str) -> None:
        if not reason:
            self.successes = (self.successes or 0) + 1
            self._change(lambda state: (replace(state, streak=state.streak.after_video()), None))
        elif reason == "text_answer" and self._is_limit_of_texts(video_id):
            row = REASONS[reason]
            raise SystemicFault(
                f"for {TEXTS_LIMIT} videos, with no video between, {row.meaning}. "
                f"None of them was given up; {row.advice}."
            )

    def _is_limit_of_texts(self, video_id: str) -> bool:
        def counted(state: LimiterState) -> tuple[LimiterState, bool]:
            streak, is_limit = state.streak.after_text(self._now(), video_id)
            return replace(state, streak=streak), is_limit

        return bool(self._change(counted))


class _WaitMessage:
    """Reports how long a pause still lasts: at once, and then every few minutes of waiting."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._silent_seconds = MESSAGE_EVERY_SECONDS

    def waited(self, seconds: float) -> None:
        self._silent_seconds += seconds

    def show(self, left_seconds: float, why: str) -> None:
        if self._silent_seconds < MESSAGE_EVERY_SECONDS:
            return
        self._silent_seconds = 0.0
        minutes, seconds = divmod(round(left_seconds), 60)
        clock = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        cause = why or "another process was refused"
        self._notify(f"downloads pause ({cause}): asking again in {clock}")
