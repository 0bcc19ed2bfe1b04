"""Errors inside an extractor: which line of its own code they come from."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path


class ExtractorError(ValueError):
    """An extractor raised an error; the message says which and where.

    `__cause__` is the error itself.
    """


def describe_error(error: BaseException, extractor: object) -> str:
    """`ValueError: no such layer, in my_features/network.py:47`: an error and its origin.

    `extractor` is the object, its class, or a function of its spec. The line is the last one of
    that package that the error passed; the last line of
    all if it passed none, as when a library calls back.
    """
    text = str(error).strip() or "no message"
    described = f"{type(error).__name__}: {text}"
    line = _last_line(error, _own_paths(extractor))
    return f"{described}, in {line}" if line else described


def _own_paths(extractor: object) -> list[Path]:
    """The folders of the top-level package with its code, or its single file."""
    # Functions and classes know their module, objects do not.
    name = getattr(extractor, "__module__", type(extractor).__module__)
    module = sys.modules.get(str(name).partition(".")[0])
    folders = [Path(folder).resolve() for folder in getattr(module, "__path__", ())]
    file = getattr(module, "__file__", None)
    if folders or file is None:
        return folders
    return [Path(file).resolve()]


def _last_line(error: BaseException, own_paths: list[Path]) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_inside(Path(frame.filename), own_paths)]
    last = next(reversed(own or frames), None)
    return f"{last.filename}:{last.lineno}" if last is not None else ""


def _is_inside(path: Path, own_paths: list[Path]) -> bool:
    return any(path.resolve().is_relative_to(own) for own in own_paths)
