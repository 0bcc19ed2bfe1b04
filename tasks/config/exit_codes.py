"""What the process's exit code means, and how Luigi is brought to return it.

Luigi has one code for "a task failed". Ours says why, so that a batch script can tell a retry from
a repair.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import sys
from collections.abc import Callable
from enum import IntEnum

from luigi.retcodes import retcode

from storage.base.errors import (
    DiskFull,
    HighlightsError,
    IntegrityError,
    LeaseHeld,
    SettingsError,
    SystemicFault,
)


class Exit(IntEnum):
    """One exit code per outcome."""

    DONE = 0
    """Every id ended in a final state."""
    BUG = 1
    """Something unforeseen; the traceback is printed."""
    SETTINGS = 2
    """Settings need mending; nothing was started."""
    PENDING = 3
    """Finished, but some videos wait for a retry or sit in quarantine."""
    PAUSED = 4
    """The machine, the network or a signal stopped us, or another run holds the shard; run again
    later.
    """
    DAMAGED = 5
    """Something on disk is not what its record says; `python -m storage audit` tells more."""


class RunIncomplete(HighlightsError):
    """The run ended, and some videos are pending or in quarantine; the message counts them."""


_EXIT_OF: dict[type[HighlightsError], Exit] = {
    SettingsError: Exit.SETTINGS,
    RunIncomplete: Exit.PENDING,
    LeaseHeld: Exit.PAUSED,
    DiskFull: Exit.PAUSED,
    SystemicFault: Exit.PAUSED,
    IntegrityError: Exit.DAMAGED,
}

# Luigi forks its workers when there is more than one: the outcome has to live in memory they share.
_outcome = multiprocessing.Value(ctypes.c_int, 0)


def exit_of(error: BaseException) -> Exit:
    """The exit code an error stands for; BUG for anything not raised on purpose."""
    return next((_EXIT_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_OF), Exit.BUG)


def note(error: BaseException) -> None:
    """Remember why a task failed; the gravest reason wins, and a bug is graver than all."""
    gravity = (Exit.DONE, Exit.PENDING, Exit.PAUSED, Exit.SETTINGS, Exit.DAMAGED, Exit.BUG)
    with _outcome.get_lock():
        if gravity.index(exit_of(error)) > gravity.index(Exit(_outcome.value)):
            _outcome.value = exit_of(error)


def install() -> None:
    """Let Luigi return our code when a task failed, and say what went wrong without a traceback
    when it is no bug.
    """
    for name in (
        "task_failed",
        "not_run",
    ):  # a run that was told to stop leaves tasks that were not run
        setattr(retcode, name, property(lambda _: _outcome.value or Exit.BUG))
    logging.getLogger("luigi-interface").addFilter(_in_plain_words)


def before_anything_starts(check: Callable[[], object]) -> None:
    """Run a check of settings while Luigi still reads the command line; what it finds wrong ends
    the process.
    """
    try:
        check()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(Exit.SETTINGS) from error


def _in_plain_words(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HighlightsError):
        record.msg, record.args, record.exc_info = str(error), (), None
    return True
