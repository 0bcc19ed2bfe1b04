"""Detects a child process that hangs, by its CPU time, so that a busy machine does not matter.

The clock alone decides only if the child gives no sign of life and uses no CPU time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

IDLE_SHARE = 0.01
"""A child that used less than this share of the time of a CPU used none: timers wake a process that
waits for ever.
"""
LONGEST_GAP_SECONDS = 1.0
"""Between two looks no more than this counts as silence: we may have been stopped together with the
child.
"""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_STOPPED_STATES = "TtD"
"""Stopped, traced, or waiting for a disk: states that no decoder brings about."""


@dataclass(frozen=True)
class TimeLimits:
    """What a child may take for one piece of work."""

    stall_seconds: float
    """Without a sign of life: by the clock if it uses no CPU time meanwhile, else of CPU time."""
    cpu_seconds: float
    """CPU time in total. If the system does not report it: seconds of waiting."""
    stall_name: str = ""
    """The settings of these two, for messages."""
    cpu_name: str = ""


class Hung(Exception):
    """The child hangs; the message says how, and names the limit."""

    def __init__(self, detail: str, *, from_outside: bool = False) -> None:
        super().__init__(detail)
        self.from_outside = from_outside
        """Whether the cause is outside the child: it was stopped, or a disk does not answer."""


@dataclass(frozen=True)
class Usage:
    """What the kernel reports of a process."""

    state: str
    """One letter, as in `ps`."""
    cpu_seconds: float
    """Of all its threads, in user mode and in the kernel."""


def usage(pid: int) -> Usage | None:
    """The usage of a process; None if the system does not report it, or the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The command's name stands in brackets and may itself hold brackets and blanks.
        fields = text.rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return Usage(fields[0], ticks / _TICKS_PER_SECOND)
    except (OSError, ValueError, IndexError):
        return None


class HangWatch:
    """Watches one child. Call `check` often while waiting for it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.start(TimeLimits(float("inf"), float("inf")))

    def start(self, limits: TimeLimits) -> None:
        """Begin a new piece of work."""
        now = usage(self._pid)
        self.limits = limits
        self._started_at_cpu = now.cpu_seconds if now else 0.0
        self._waited_seconds = 0.0
        self._checked_at = time.monotonic()
        self.heartbeat()

    def heartbeat(self) -> None:
        """The child gave a sign of life, or was not waited for until now."""
        self._has_heartbeat = True

    def check(self) -> None:
        """Raise Hung if the child hangs."""
        clock = time.monotonic()
        now = usage(self._pid)
        # Only a part of a long gap counts: this process may have been stopped with the child.
        gap_seconds = min(clock - self._checked_at, LONGEST_GAP_SECONDS)
        self._checked_at = clock
        cpu_seconds = now.cpu_seconds if now else 0.0
        if self._has_heartbeat:
            self._has_heartbeat = False
            self._silent_seconds = 0.0
            self._heartbeat_at_cpu = self._active_at_cpu = cpu_seconds
        else:
            self._silent_seconds += gap_seconds
            self._waited_seconds += gap_seconds
        # A little CPU time is used even by a process that waits for ever.
        if cpu_seconds - self._active_at_cpu >= IDLE_SHARE * self.limits.stall_seconds:
            self._active_at_cpu = cpu_seconds
            self._silent_seconds = 0.0
        self._compare(cpu_seconds, now)

    def _compare(self, cpu_seconds: float, now: Usage | None) -> None:
        limits = self.limits
        if self._silent_seconds >= limits.stall_seconds:
            raise self._hung_in_silence(now)
        if cpu_seconds - self._heartbeat_at_cpu > limits.stall_seconds:
            raise Hung(
                f"no sign of life for {limits.stall_seconds:g} s of CPU time"
                f"{_setting(limits.stall_name)}"
            )
        if now is None:
            used_seconds, unit = self._waited_seconds, "waiting"
        else:
            used_seconds, unit = cpu_seconds - self._started_at_cpu, "CPU time"
        if used_seconds > limits.cpu_seconds:
            raise Hung(
                f"not done after {limits.cpu_seconds:g} s of {unit}{_setting(limits.cpu_name)}"
            )

    def _hung_in_silence(self, now: Usage | None) -> Hung:
        is_stopped = now is not None and now.state in _STOPPED_STATES
        cause = ": it was stopped, or waits for a disk" if is_stopped else ""
        limits = self.limits
        return Hung(
            f"no sign of life for {limits.stall_seconds:g} s, and no CPU time used"
            f"{cause}{_setting(limits.stall_name)}",
            from_outside=is_stopped,
        )


def _setting(name: str) -> str:
    return f"; {name}" if name else ""
