"""Calls of an extractor's code: an error inside becomes one sentence that names the extractor.

Without this, an error of an extractor, which may be another person's package, looks like one of
ours.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from models.extractors.base.contract import Extractor
from models.extractors.base.failures import ExtractorError, describe_error
from storage.base.errors import ExtractorFailed, HighlightsError
from storage.base.extras import missing_library

_printed: set[tuple[str, str]] = set()
_printing = threading.Lock()


@dataclass(frozen=True)
class Caller:
    """For which variant and which video an extractor is called; error messages name them."""

    variant: str
    """`c3d`, or `c3d.word` for a second group of settings."""
    plugin: str
    """Distribution and version of a plug-in, such as `my-features 0.1.0`; empty for ours."""
    video_id: str

    @property
    def extractor(self) -> str:
        """The extractor, as messages name it."""
        return f"{self.variant} of {self.plugin}" if self.plugin else self.variant

    @property
    def advice(self) -> str:
        """What to do after the extractor has failed."""
        correct = f"Correct {self.plugin}" if self.plugin else "Correct its code, or report it"
        return (
            "No video was marked, and finished videos are kept. "
            f"{correct}, or take {self.variant} out of [extract] extractors; "
            "then run the same command again."
        )


@contextmanager
def naming_errors(caller: Caller, extractor: Extractor, method: str) -> Iterator[None]:
    """Inside, an error of the extractor's `method` becomes ExtractorFailed.

    Other errors stay as they are, see `is_of_extractor`.
    """
    try:
        yield
    except Exception as error:
        if not is_of_extractor(error):
            raise
        raise extractor_failure([caller], extractor, method, error) from error


def is_of_extractor(error: BaseException) -> bool:
    """Whether an error that leaves an extractor is a fault of its code.

    It is not if it was raised on purpose, if memory ran out, if a library of ours is not installed,
    or if the process is to end.
    """
    if isinstance(error, ModuleNotFoundError) and missing_library(error):
        return False
    return isinstance(error, Exception) and not isinstance(error, HighlightsError | MemoryError)


def extractor_failure(
    callers: Sequence[Caller], extractor: Extractor, method: str, error: BaseException
) -> ExtractorFailed:
    """The error for a person. The traceback is printed once for each place in the code.

    `callers` are those of one batch, which may hold windows of several videos.
    """
    first = callers[0]
    described = describe_error(error, extractor)
    _print_traceback_once(first.extractor, described, error)
    videos = ", ".join(dict.fromkeys(caller.video_id for caller in callers))
    return ExtractorFailed(
        f"extractor {first.extractor} failed in {method}, at video {videos}: {described}. "
        f"The traceback is printed once, above. {first.advice}"
    )


def build_failure(
    caller: Caller, build: Callable[..., Extractor], weights: str, error: BaseException
) -> ExtractorFailed:
    """The same for an extractor that cannot be built; `build` is that of its spec."""
    described = describe_error(error, build)
    _print_traceback_once(caller.extractor, described, error)
    of_weights = f" with the weights {weights}" if weights else ""
    return ExtractorFailed(
        f"extractor {caller.extractor} cannot be built{of_weights}: {described}. "
        f"The traceback is printed once, above. {caller.advice}"
    )


def self_test_failure(plugin: str, error: ExtractorError) -> ExtractorFailed:
    """The same for an extractor that fails on the clip of the self-test."""
    _print_traceback_once(plugin, str(error), error.__cause__ or error)
    correct = f"Correct {plugin}" if plugin else "Correct its code, or report it"
    return ExtractorFailed(
        f"extractor {error}, in the self-test before the first video. The traceback is printed "
        f"once, above. {correct}, then run the same command again."
    )


def _print_traceback_once(extractor: str, described: str, error: BaseException) -> None:
    with _printing:
        if (extractor, described) in _printed:
            return
        _printed.add((extractor, described))
        lines = "".join(traceback.format_exception(error))
        sys.stderr.write(
            f"traceback of the extractor's error ({extractor or 'built in'}):\n{lines}"
        )
        sys.stderr.flush()
