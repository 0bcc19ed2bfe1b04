"""Interprets the exit status of a child process: what ended it, in code and in words."""

from __future__ import annotations

import signal

from storage.base.errors import SystemicFault

STOP_SIGNALS = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
"""Signals that people and batch systems send to all processes of a run: Ctrl-C; `kill`, Slurm and a
shutdown; a closed terminal; Slurm's warning before its time limit (`--signal=USR1@60`). A child
that ends by one of them says nothing about its video.
"""
_FROM_OUTSIDE = STOP_SIGNALS | {signal.SIGKILL, signal.SIGQUIT, signal.SIGXCPU}
"""The kernel also sends SIGKILL when the machine runs out of memory, to a process of its choice."""


def fault_if_stopped(status: int) -> SystemicFault | None:
    """The fault to raise if a child ended because the run was ordered to stop; else None.

    A negative `status` is the number of a signal.
    """
    if -status not in STOP_SIGNALS:
        return None
    return SystemicFault(
        f"a child was ended by {describe_exit(status)}. Nothing was lost; run again."
    )


def killed_from_outside(status: int) -> bool:
    """Whether another process ended the child: no crash of its own has such a `status`."""
    return -status in _FROM_OUTSIDE


def describe_exit(status: int) -> str:
    """`SIGSEGV`, `signal 40`, `exit status 3`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
