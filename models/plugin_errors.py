"""Where in a plug-in's own code an error was raised, for a message instead of a traceback."""

from __future__ import annotations

import traceback

EXPECTED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)
"""What a mistake in a plug-in's code or data raises."""


def place_in_package(error: BaseException, package: str) -> str:
    """`PATH, line 31, in read_marks`: the last frame of the error in a top-level package.

    Empty if no frame is in it, so that other code is at fault.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        if package and module.partition(".")[0] == package:
            place = f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
    return place


def describe(error: BaseException) -> str:
    """`ValueError: its message`, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
