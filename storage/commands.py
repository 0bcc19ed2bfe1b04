"""Runs the `main` of a command line, and ends the process with its exit code.

For `python -m storage`, `python -m pipeline` and `python -m trainer`.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from storage.base.extras import WRONG_USE, missing_library
from storage.files.os_errors import disk_fault

BLOCKED = 4
"""The exit code if the machine or another process blocks a command."""
READER_LEFT = 128 + signal.SIGPIPE
"""The exit code that a shell gives a program ended by SIGPIPE.

The signal itself stays ignored, as Python sets it: a child process that ends early must be an error
that is reported, not the end of its parent.
"""


def run_and_exit(main: Callable[[], int], *, is_training: bool = False) -> NoReturn:
    """Exit with the code that `main` returns, and with 141 if the reader of our output has left.

    `head` leaves so after its last line; no message is printed then. `is_training` is for the
    message about a missing library: see `missing_library`.
    """
    try:
        try:
            code = main()
        finally:
            # Here, so that a closed pipe is noticed now and not while Python exits.
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:  # before OSError, of which it is a subclass
        if not any(_reader_has_left(stream) for stream in (sys.stdout, sys.stderr)):
            raise
        # Python writes its buffers at exit, which would raise again: send them to /dev/null.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        code = READER_LEFT
    except ModuleNotFoundError as error:
        message = missing_library(error, is_training=is_training)
        if not message:
            raise
        sys.stderr.write(f"{message}\n")
        code = WRONG_USE
    except OSError as error:
        if not _is_disk_error(error):
            raise
        sys.stderr.write(f"{disk_fault(error, Path(error.filename))}\n")
        code = BLOCKED
    sys.exit(code)


def _is_disk_error(error: OSError) -> bool:
    """Whether a file or folder cannot be used as it is, so that a traceback would not help.

    A missing file is handled wherever it may happen, so anywhere else it is a bug. But a link whose
    target is gone looks like a file that exists.
    """
    if not isinstance(error.filename, str | os.PathLike):
        return False
    return not isinstance(error, FileNotFoundError) or Path(error.filename).is_symlink()


def _reader_has_left(stream: IO[str]) -> bool:
    """Whether the other end of the pipe that this stream writes to is closed."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))
