"""Whether a child process hangs. Its work is counted in its own CPU seconds, so that a busy machine
blames nobody.

The clock decides on silence alone: no sign of life, and no CPU time used. Refuses to know what the
child does.
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
_STANDING_STILL = "TtD"
"""Stopped, traced, or waiting for a disk: states that no decoder brings about."""


@dataclass(frozen=True)
class TimeLimits:
    """What a child may take for one piece of work."""

    stall_seconds: float
    """Without a sign of life: by the clock if it uses no CPU time meanwhile, else of CPU time."""
    cpu_seconds: float
    """CPU time in all. Where the system does not tell it: seconds of waiting."""
    stall_name: str = ""
    """The settings that set these two, for messages."""
    cpu_name: str = ""


class Hung(Exception):
    """The child hangs; the message says how, and names the limit."""

    def __init__(self, detail: str, *, from_outside: bool = False) -> None:
        super().__init__(detail)
        self.from_outside = from_outside
        """Whether somebody else brought it to stand still: it was stopped, or a disk does not
        answer.
        """


@dataclass(frozen=True)
class Usage:
    """What the kernel says of a process."""

    state: str
    """One letter, as in `ps`."""
    cpu_seconds: float
    """Of all its threads, in user mode and in the kernel."""


def usage(pid: int) -> Usage | None:
    """Of a process; None where the system does not say, or it is gone."""
    try:
        # The command's name stands in brackets and may itself hold brackets and blanks.
        fields = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()
        )
        return Usage(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND)
    except (OSError, ValueError, IndexError):
        return None


class HangWatch:
    """Watches one child. `check` has to be called often while somebody waits for it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.start(TimeLimits(float("inf"), float("inf")))

    def start(self, allowed: TimeLimits) -> None:
        """A new piece of work."""
        seen = usage(self._pid)
        self.allowed = allowed
        self._began_at_cpu = seen.cpu_seconds if seen else 0.0
        self._waited_seconds = 0.0
        self._looked_at = time.monotonic()
        self.heartbeat()

    def heartbeat(self) -> None:
        """It gave a sign of life, or nobody waited for one until now."""
        self._is_new = True

    def check(self) -> None:
        """Raise Hung if it does."""
        now, seen = time.monotonic(), usage(self._pid)
        gap_seconds = min(now - self._looked_at, LONGEST_GAP_SECONDS)
        self._looked_at = now
        cpu_seconds = seen.cpu_seconds if seen else 0.0
        if self._is_new:
            self._is_new = False
            self._silent_seconds = 0.0
            self._heard_at_cpu = self._moved_at_cpu = cpu_seconds
        else:
            self._silent_seconds += gap_seconds
            self._waited_seconds += gap_seconds
        if cpu_seconds - self._moved_at_cpu >= IDLE_SHARE * self.allowed.stall_seconds:
            self._moved_at_cpu = cpu_seconds
            self._silent_seconds = 0.0
        self._judge(cpu_seconds, seen)

    def _judge(self, cpu_seconds: float, seen: Usage | None) -> None:
        allowed = self.allowed
        stall, whole = f"{allowed.stall_seconds:g} s", f"{allowed.cpu_seconds:g} s"
        if self._silent_seconds >= allowed.stall_seconds:
            stands_still = seen is not None and seen.state in _STANDING_STILL
            how = ": it was stopped, or waits for a disk" if stands_still else ""
            detail = f"no sign of life for {stall}, and no CPU time used{how}{_limit(allowed.stall_name)}"
            raise Hung(detail, from_outside=stands_still)
        if cpu_seconds - self._heard_at_cpu > allowed.stall_seconds:
            raise Hung(f"no sign of life for {stall} of CPU time{_limit(allowed.stall_name)}")
        used, unit = cpu_seconds - self._began_at_cpu, "CPU time"
        if seen is None:
            used, unit = self._waited_seconds, "waiting"
        if used > allowed.cpu_seconds:
            raise Hung(f"not done after {whole} of {unit}{_limit(allowed.cpu_name)}")


def _limit(name: str) -> str:
    return f"; {name}" if name else ""
