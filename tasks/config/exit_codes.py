"""The exit codes of a run, and the hook that makes Luigi return them.

Luigi has one code for "a task failed". Ours says why, so that a batch script can distinguish a
retry from a repair.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import sys
import textwrap
import traceback
from collections.abc import Callable
from enum import IntEnum

import luigi
from luigi.retcodes import retcode

from storage.base.errors import (
    DiskFull,
    ExtractorFailed,
    HighlightsError,
    IntegrityError,
    LeaseHeld,
    SettingsError,
    SystemicFault,
)
from storage.base.extras import exit_if_missing, missing_library


class Exit(IntEnum):
    """One exit code per outcome."""

    DONE = 0
    """Every id ended in a final state."""
    BUG = 1
    """Something unforeseen; the traceback is printed."""
    SETTINGS = 2
    """Settings are wrong; nothing was started."""
    PENDING = 3
    """Finished, but some videos wait for a retry or sit in quarantine."""
    PAUSED = 4
    """The machine, the network or a signal stopped the run, or another run holds the shard: run the
    command again later.
    """
    DAMAGED = 5
    """A file on disk differs from its record; `python -m storage audit` reports details."""
    EXTRACTOR = 6
    """An extractor failed, or every row that it gave is NaN or infinite: its code, its weights or
    its precision must be corrected. No video was marked because of an error in its code.
    """


class RunIncomplete(HighlightsError):
    """The run ended, and some videos are pending or in quarantine; the message counts them."""


_EXIT_OF: dict[type[HighlightsError], Exit] = {
    SettingsError: Exit.SETTINGS,
    RunIncomplete: Exit.PENDING,
    ExtractorFailed: Exit.EXTRACTOR,
    LeaseHeld: Exit.PAUSED,
    DiskFull: Exit.PAUSED,
    SystemicFault: Exit.PAUSED,
    IntegrityError: Exit.DAMAGED,
}

_GRAVITY = (
    Exit.DONE,
    Exit.PENDING,
    Exit.PAUSED,
    Exit.EXTRACTOR,
    Exit.SETTINGS,
    Exit.DAMAGED,
    Exit.BUG,
)
"""From the least to the most serious."""
# Luigi forks its workers when there is more than one: the outcome has to lie in shared memory.
_SHOWN_CHARACTERS = 80
_outcome = multiprocessing.Value(ctypes.c_int, 0)
_printed: set[str] = set()
"""Messages of errors that this process has printed: every shard may meet the same one."""


def exit_code_of(error: BaseException) -> Exit:
    """The exit code of an error; BUG for any error that is not raised on purpose."""
    for kind in type(error).__mro__:
        if kind in _EXIT_OF:
            return _EXIT_OF[kind]
    return Exit.BUG


def record_failure(error: BaseException) -> None:
    """Record that a task failed with this error; the most serious error decides the exit code."""
    code = exit_code_of(error)
    with _outcome.get_lock():
        if _GRAVITY.index(code) > _GRAVITY.index(Exit(_outcome.value)):
            _outcome.value = code


def install_exit_codes() -> None:
    """Make Luigi return our codes, and print errors other than bugs without a traceback."""
    # A run that a signal stopped leaves tasks that were not run.
    for name in ("task_failed", "not_run", "scheduling_error"):
        setattr(retcode, name, property(lambda _: _outcome.value or Exit.BUG))
    logging.getLogger("luigi-interface").addFilter(_without_traceback)


def report_incomplete(task: luigi.Task) -> None:
    """Record and print why a task cannot say whether it is complete, of which Luigi only warns."""
    try:
        task.complete()
    except Exception as error:  # noqa: BLE001  # any error is reported
        report_broken_task(task, error)


def report_broken_task(task: object, error: BaseException) -> None:
    """Record and print an error of a task that Luigi could not schedule."""
    del task
    missing = missing_library(error) if isinstance(error, ModuleNotFoundError) else ""
    if missing:
        error = SettingsError((missing,))
    record_failure(error)
    if missing or isinstance(error, HighlightsError):
        sys.stderr.write(f"{missing or error}\n")
    else:
        traceback.print_exception(error)


def check_before_start(check: Callable[[], object]) -> None:
    """Run a check of settings while Luigi still reads the command line.

    A SettingsError, or a missing library of an extra, ends the process with exit code 2.
    """
    try:
        check()
    except ModuleNotFoundError as error:
        # Luigi would end without a word.
        exit_if_missing(error)
        raise
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(Exit.SETTINGS) from error


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HighlightsError):
        record.msg, record.args, record.exc_info = _text_once(str(error)), (), None
    return True


def _text_once(message: str) -> str:
    """The message; of one that was printed before, only its beginning."""
    if message not in _printed:
        _printed.add(message)
        return message
    first_line = message.partition("\n")[0]
    shown = textwrap.shorten(first_line, _SHOWN_CHARACTERS, placeholder="...")
    return f"the same again: {shown}"
