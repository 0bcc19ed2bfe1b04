"""A circuit breaker: what happens after a site says stop.

A stop (HTTP 429, a bot check) opens the breaker. While it is open, no process asks until the pause
is over; then one probe at a time asks. A probe that is answered closes the breaker, another stop
doubles the pause. The functions are pure, except that they ask the system whether the process that
sent a probe is still alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.download.access.source import RequestPace
from storage.files.process_identity import parse_owner

PROBE_SECONDS = 900.0
"""How long to wait for a probe of another host before a new one is sent."""
LOOK_EVERY_SECONDS = 30.0
"""How often a waiting process looks whether another one has closed the breaker."""


@dataclass(frozen=True)
class Permit:
    """Permission for one request."""

    epoch: int
    """The breaker's `epoch` when the permit was given."""
    is_probe: bool = False


@dataclass(frozen=True)
class Wait:
    """No permission yet; ask again after `seconds`."""

    seconds: float
    paused: bool
    """Whether the breaker is open; otherwise only the pace is the cause."""


@dataclass(frozen=True)
class CircuitBreaker:
    """The state of a breaker. Times are seconds since 1970."""

    trips: int = 0
    """Pauses since the site last answered; 0 means that the breaker is closed."""
    epoch: int = 0
    """Raised at every trip. An answer to a request of an earlier epoch says nothing about now."""
    resume_at: float = 0.0
    pause_seconds: float = 0.0
    probe_owner: str = ""
    """The process that sent the probe, as `storage.files.process_identity` spells it."""
    probe_until: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests must wait."""
        return self.trips > 0


def try_probe(breaker: CircuitBreaker, now: float, me: str) -> tuple[CircuitBreaker, Permit | Wait]:
    """Whether the process `me` may probe at `now` through an open breaker, and its next state."""
    if breaker.resume_at - now > breaker.pause_seconds:
        # The clock went back. A pause never lasts longer than it was set for.
        breaker = replace(breaker, resume_at=now + breaker.pause_seconds)
    if breaker.resume_at > now:
        return breaker, Wait(breaker.resume_at - now, paused=True)
    if _is_probed_by_another(breaker, now, me):
        left_seconds = max(breaker.probe_until - now, 1.0)
        return breaker, Wait(min(LOOK_EVERY_SECONDS, left_seconds), paused=True)
    probing = replace(breaker, probe_owner=me, probe_until=now + PROBE_SECONDS)
    return probing, Permit(breaker.epoch, is_probe=True)


def _is_probed_by_another(breaker: CircuitBreaker, now: float, me: str) -> bool:
    """Whether the probe of another process may still be answered."""
    owner = parse_owner(breaker.probe_owner)
    is_other_process = owner is not None and breaker.probe_owner != me
    if owner is None or not is_other_process:
        return False
    if owner.is_dead():
        return False
    left_seconds = breaker.probe_until - now
    return 0 < left_seconds <= PROBE_SECONDS


def open_breaker(
    breaker: CircuitBreaker, permit: Permit, now: float, seconds: float
) -> CircuitBreaker:
    """The breaker after the site said stop: paused for `seconds`."""
    if permit.epoch != breaker.epoch:
        # This request was sent before the last trip: its refusal is the one that counted already.
        return breaker
    return CircuitBreaker(
        trips=breaker.trips + 1,
        epoch=breaker.epoch + 1,
        resume_at=now + seconds,
        pause_seconds=seconds,
    )


def close_breaker(breaker: CircuitBreaker, permit: Permit, *, answered: bool) -> CircuitBreaker:
    """The breaker after a request that was not refused.

    It closes if the request was the probe and the site `answered`. A probe without an answer (a
    network error) leaves it open for the next probe.
    """
    is_current_probe = permit.is_probe and permit.epoch == breaker.epoch
    if not is_current_probe:
        return breaker
    without_probe = replace(breaker, probe_owner="", probe_until=0.0)
    if not answered:
        return without_probe
    return replace(without_probe, trips=0)


def next_pause_seconds(
    trips: int, pace: RequestPace, retry_after_seconds: float | None, jitter: float
) -> float:
    """How long to pause after a stop: what the site asks for or more.

    Args:
        trips: pauses before this one, since the site last answered. Each doubles the pause.
        pace: the first and the longest pause.
        retry_after_seconds: what the site asks for; None if it does not say.
        jitter: 0 to 1; lengthens the pause by up to a quarter, so that processes spread out.
    """
    asked_seconds = retry_after_seconds or 0.0
    if asked_seconds and not trips:
        seconds = asked_seconds
    else:
        doubled = pace.first_pause_seconds * 2**trips
        seconds = max(asked_seconds, min(doubled, pace.longest_pause_seconds))
    return min(seconds, pace.max_paused_seconds) * (1 + jitter / 4)
