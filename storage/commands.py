"""How `python -m storage`, `python -m pipeline` and `python -m trainer` end: with an exit code, or
without a word.

Refuses to know what a command does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from storage.files.os_errors import disk_fault

WRONG_USE = 2
"""The exit code of a command that cannot run as it was given or installed."""
IN_THE_WAY = 4
"""The exit code of a machine, or another process, that is in the way."""
READER_LEFT = 128 + signal.SIGPIPE
"""What a shell says of a program that SIGPIPE ended. The signal itself stays ignored, as Python has
it: a child process that ends early must be an error to be told, not the end of its parent.
"""


EXTRAS = {
    "av": "features",
    "cv2": "features",
    "ffmpeg": "features",
    "imageio_ffmpeg": "features",
    "luigi": "features",
    "matplotlib": "features",
    "PIL": "features",
    "pymatreader": "features",
    "safetensors": "features",
    "torch": "features",
    "torchvision": "features",
    "tqdm": "features",
    "yt_dlp": "download",
    "sklearn": "train",
    "tensorboard": "train",
    "cryptography": "cluster",
    "dask": "cluster",
    "dask_jobqueue": "cluster",
    "distributed": "cluster",
    "ultralytics": "ultralytics",
    "decord": "decord",
    "torchcodec": "torchcodec",
}
"""Library → the extra of this project that installs it."""


def missing_library(error: ModuleNotFoundError) -> str:
    """What to install where a library is missing; empty if the library is none of ours."""
    library = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(library)
    if extra is None:
        return ""
    return f"{library} is not installed: pip install 'video-highlights[{extra}]'"


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Exit with what `main` returns; if whoever reads our output has left, as `head` does, exit 141
    in silence.
    """
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:  # before OSError, whose kind it is
        if not any(_reader_has_left(stream) for stream in (sys.stdout, sys.stderr)):
            raise
        # What is still in the buffers is written when Python ends, and would complain again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        code = READER_LEFT
    except ModuleNotFoundError as error:
        message = missing_library(error)
        if not message:
            raise
        sys.stderr.write(f"{message}\n")
        code = WRONG_USE
    except OSError as error:
        if not _is_of_the_disk(error):
            raise
        sys.stderr.write(f"{disk_fault(error, Path(error.filename))}\n")
        code = IN_THE_WAY
    sys.exit(code)


def _is_of_the_disk(error: OSError) -> bool:
    """Whether a file or folder cannot be used as it is: nothing of ours is wrong, and a traceback
    would not help.

    A file that is not there at all is expected somewhere, so that one that nobody expected is a
    bug; but a link whose target is gone looks like a file that is there.
    """
    if not isinstance(error.filename, str | os.PathLike):
        return False
    return not isinstance(error, FileNotFoundError) or Path(error.filename).is_symlink()


def _reader_has_left(stream: IO[str]) -> bool:
    """Whether nobody holds the other end of the pipe that this stream writes to."""
    asked = select.poll()
    asked.register(stream.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in asked.poll(0))
