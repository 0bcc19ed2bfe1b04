"""One way out to one site, shared by every process of a data root: how often it may ask, and when
it must keep still.

A token bucket paces all of them together. A site that says stop (429, a bot check) opens the
breaker: everybody waits, one probe at a time asks again, with pauses that double, until the site
answers. Knows no videos, no yt-dlp.

Times that processes share are wall clock, and trusted this far: the bucket holds a few tokens at
most, so a clock that leaps ahead gains those; one that is behind by up to `MAX_SKEW_SECONDS` waits,
beyond that the state starts from its time with an empty bucket; a pause never lasts longer than it
was set for, and one that ends early costs one probe.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pipeline.download.access.shared_state import SharedState
from pipeline.download.access.source import RequestPace
from storage.base.errors import SystemicFault
from storage.base.fingerprint import to_json_value
from storage.base.records import JSON
from storage.base.video_status import REASONS, Policy
from storage.files.process_identity import current_process, parse_owner

BURST_TOKENS = 5.0
MAX_SKEW_SECONDS = 600.0
PROBE_SECONDS = 900.0
"""How long a probe of another host may be out before somebody else tries."""
LOOK_EVERY_SECONDS = 30.0
"""A waiting process looks so often whether another one has found the site well."""
TELL_EVERY_SECONDS = 300.0
SHORTEST_WAIT_SECONDS = 0.1
"""Rounding may leave a token just short of whole; this is also the least that is worth sleeping."""
TEXTS_LIMIT = 8
"""So many videos in whose place text comes, with no success between, are no accident."""
TEXTS_MEMORY_SECONDS = 3600.0
"""A site that was silent for longer may have another opinion by now."""
STALE_LIMIT = 3
"""So many videos in a row that yt-dlp cannot make sense of are no accident."""
_DICE = secrets.SystemRandom()
_INCONCLUSIVE = frozenset({"network", "proxy", "offline"})


@dataclass(frozen=True)
class State:
    """What is shared. `trips` counts pauses since the site last answered; 0 means all is well."""

    tokens: float = BURST_TOKENS
    as_of: float = 0.0
    trips: int = 0
    epoch: int = 0
    """Raised at every trip: an answer to what was asked before it says nothing about now."""
    resume_at: float = 0.0
    pause_seconds: float = 0.0
    probe_owner: str = ""
    probe_until: float = 0.0
    texts: tuple[str, ...] = ()
    """Videos in whose place text came since the last video."""
    texts_as_of: float = 0.0


@dataclass(frozen=True)
class Permit:
    """Leave to ask once."""

    epoch: int
    is_probe: bool = False


@dataclass(frozen=True)
class Wait:
    """Not now; look again after so long."""

    seconds: float
    paused: bool


def try_acquire(
    state: State, now: float, me: str, pace: RequestPace
) -> tuple[State, Permit | Wait]:
    """Whether `me` may ask now, and the state after that."""
    if not state.trips:
        return _take_token(state, now, pace)
    if state.resume_at - now > state.pause_seconds:
        state = replace(state, resume_at=now + state.pause_seconds)
    if state.resume_at > now:
        return state, Wait(state.resume_at - now, paused=True)
    if _is_out(state, now, me):
        return state, Wait(min(LOOK_EVERY_SECONDS, max(state.probe_until - now, 1.0)), paused=True)
    probing = replace(state, probe_owner=me, probe_until=now + PROBE_SECONDS)
    return probing, Permit(state.epoch, is_probe=True)


def _is_out(state: State, now: float, me: str) -> bool:
    """Whether somebody else's probe may still come back."""
    owner = parse_owner(state.probe_owner)
    if owner is None or state.probe_owner == me or owner.is_dead():
        return False
    return 0 < state.probe_until - now <= PROBE_SECONDS


def _take_token(state: State, now: float, pace: RequestPace) -> tuple[State, Permit | Wait]:
    if not pace.videos_per_hour:
        return state, Permit(state.epoch)
    per_second = pace.videos_per_hour / 3600
    ahead = state.as_of - now
    if ahead > MAX_SKEW_SECONDS:
        state, ahead = replace(state, tokens=0.0, as_of=now), 0.0
    tokens = min(BURST_TOKENS, state.tokens + max(-ahead, 0.0) * per_second)
    if tokens < 1:
        return state, Wait(
            max((1 - tokens) / per_second + max(ahead, 0.0), SHORTEST_WAIT_SECONDS), paused=False
        )
    return replace(state, tokens=tokens - 1, as_of=max(state.as_of, now)), Permit(state.epoch)


def open_breaker(state: State, permit: Permit, now: float, pause_seconds: float) -> State:
    """The site said stop. What was asked before the last trip does not count again."""
    if permit.epoch != state.epoch:
        return state
    return replace(
        state,
        trips=state.trips + 1,
        epoch=state.epoch + 1,
        resume_at=now + pause_seconds,
        pause_seconds=pause_seconds,
        probe_owner="",
        probe_until=0.0,
    )


def close_breaker(state: State, permit: Permit, *, answered: bool) -> State:
    """The site answered, or nobody did. Only the probe closes the breaker."""
    if not permit.is_probe or permit.epoch != state.epoch:
        return state
    return replace(state, trips=0 if answered else state.trips, probe_owner="", probe_until=0.0)


def count_text(state: State, now: float, video_id: str) -> tuple[State, bool]:
    """Note that text came in place of that video, or, without an id, that a video came; whether to
    stop.

    After a stop the count begins anew, so that the next run gets further even if the first videos
    have only text.
    """
    if not video_id:
        return (replace(state, texts=()) if state.texts else state), False
    recent = state.texts if abs(now - state.texts_as_of) <= TEXTS_MEMORY_SECONDS else ()
    texts = tuple(dict.fromkeys((*recent, video_id)))
    too_many = len(texts) >= TEXTS_LIMIT
    return replace(state, texts=() if too_many else texts, texts_as_of=now), too_many


def pause_seconds(
    state: State, pace: RequestPace, retry_after_seconds: float | None, jitter: float
) -> float:
    """How long to keep still: what the site asks for or more, doubling with every trip, up to a
    quarter longer.
    """
    told = retry_after_seconds or 0.0
    doubled = pace.first_pause_seconds * 2**state.trips
    base = told if told and not state.trips else max(told, min(doubled, pace.longest_pause_seconds))
    return min(base, pace.max_paused_seconds) * (1 + jitter / 4)


class RateLimiter(Protocol):
    """What every request passes: a `SharedRateLimiter`, or nothing at all."""

    def acquire(self) -> Permit:
        """Leave to ask once."""
        ...

    @property
    def successes(self) -> int | None:
        """How many requests succeeded on this way so far; None if nobody counts."""
        ...

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """How it went; True if the same request should be made again after `acquire`, at nobody's
        cost.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        ...


class NoLimit:
    """A way out that nobody paces: what a site says is the caller's matter."""

    def acquire(self) -> Permit:
        """At once."""
        return Permit(0)

    successes: int | None = None

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """Never ask again."""
        return False

    def sleep(self, seconds: float) -> None:
        """Just wait."""
        time.sleep(seconds)


class SharedRateLimiter:
    """What a downloader passes before every request for a video, and tells afterwards how it
    went.
    """

    def __init__(
        self,
        folder: Path,
        pace: RequestPace,
        *,
        tell: Callable[[str], None],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
        jitter: Callable[[], float] = _DICE.random,
    ) -> None:
        self._state = SharedState(folder)
        self._pace = pace
        self._tell = tell
        self._now = now
        self._stopped = threading.Event()
        self._sleep = sleep or self._wait_for_stop
        self._jitter = jitter
        self._why = ""
        self._stale_in_a_row = 0
        self.successes: int | None = 0
        self.paused_seconds = 0.0
        """How long this gate kept its caller still because of the breaker, by its own sleeps."""

    def acquire(self) -> Permit:
        """Leave to ask once, after waiting for the pace and for pauses. Raises SystemicFault if
        that takes too long.
        """
        pause = _WaitMessage(self._tell)
        while True:
            answer = self._change(
                lambda state: try_acquire(state, self._now(), current_process().token, self._pace)
            )
            if isinstance(answer, Permit):
                return answer
            if answer.paused:
                pause.tell(answer.seconds, self._why)
                self._count_pause(min(answer.seconds, LOOK_EVERY_SECONDS))
            self.sleep(min(answer.seconds, LOOK_EVERY_SECONDS))
            pause.waited(min(answer.seconds, LOOK_EVERY_SECONDS))

    def report(
        self,
        permit: Permit,
        reason: str,
        retry_after_seconds: float | None = None,
        video_id: str = "",
    ) -> bool:
        """How it went: a key of REASONS, or empty for success. True if the way out is to blame:
        enter and ask again.

        Raises SystemicFault when the site, or yt-dlp, answers so that further requests are in vain.
        """
        self._count_stale(reason)
        self._count_texts(reason, video_id)
        if not reason or REASONS[reason].policy is not Policy.PAUSE:
            answered = reason not in _INCONCLUSIVE
            self._change(lambda state: (close_breaker(state, permit, answered=answered), None))
            return False
        self._why = REASONS[reason].meaning
        jitter = self._jitter()

        def tripped(state: State) -> tuple[State, None]:
            seconds = pause_seconds(state, self._pace, retry_after_seconds, jitter)
            return open_breaker(state, permit, self._now(), seconds), None

        self._change(tripped)
        return True

    def sleep(self, seconds: float) -> None:
        """Wait, unless `stop` is called. Raises SystemicFault then."""
        self._sleep(seconds)
        if self._stopped.is_set():
            raise SystemicFault(
                "stopped while waiting; nothing was lost, run the same command again."
            )

    def stop(self) -> None:
        """End every wait, now and later: the run is being left."""
        self._stopped.set()

    def _wait_for_stop(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def _change(self, decide: Callable[[State], tuple[State, Any]]) -> Any:
        def on_record(record: Mapping[str, JSON]) -> tuple[Mapping[str, JSON], Any]:
            before = _parsed(record)
            state, answer = decide(before)
            after = to_json_value(state)
            return (record if state == before or not isinstance(after, dict) else after), answer

        return self._state.change(on_record)

    def _count_pause(self, seconds: float) -> None:
        self.paused_seconds += seconds
        if self.paused_seconds > self._pace.max_paused_seconds:
            hours = self._pace.max_paused_seconds / 3600
            raise SystemicFault(
                f"the site keeps saying stop ({self._why or 'another process was told so'}), and this run has paused "
                f"for {hours:g} hours, which [download] max_pause_hours allows. No video was marked; run the same "
                "command again later, or from another network."
            )

    def _count_stale(self, reason: str) -> None:
        self._stale_in_a_row = self._stale_in_a_row + 1 if reason == "stale_downloader" else 0
        if self._stale_in_a_row >= STALE_LIMIT:
            row = REASONS["stale_downloader"]
            raise SystemicFault(
                f"{row.meaning}: {STALE_LIMIT} requests in a row failed so. {row.advice}."
            )

    def _count_texts(self, reason: str, video_id: str) -> None:
        if not reason:
            self.successes = (self.successes or 0) + 1
        if reason not in ("", "text_answer"):
            return
        too_many = self._change(
            lambda state: count_text(state, self._now(), video_id if reason else "")
        )
        if too_many:
            row = REASONS[reason]
            told = f"for {TEXTS_LIMIT} videos, with no video between, {row.meaning}"
            raise SystemicFault(f"{told}. None of them was given up; {row.advice}.")


class _WaitMessage:
    """Says how long a pause still lasts: at once, and then every few minutes of waiting."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._say = tell
        self._silent_seconds = TELL_EVERY_SECONDS

    def waited(self, seconds: float) -> None:
        self._silent_seconds += seconds

    def tell(self, left_seconds: float, why: str) -> None:
        if self._silent_seconds < TELL_EVERY_SECONDS:
            return
        self._silent_seconds = 0.0
        minutes, seconds = divmod(round(left_seconds), 60)
        cause = why or "another process was told to stop"
        self._say(
            f"downloads pause ({cause}): asking again in {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        )


def _parsed(record: Mapping[str, JSON]) -> State:
    known: dict[str, Any] = {
        name: record[name] for name in State.__dataclass_fields__ if name in record
    }
    return State(**{**known, "texts": tuple(known.get("texts", ()))})
