"""A progress bar with rate and remaining time."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm


class _Lines:
    """Writes each state of a bar as a line of its own: a log has no use for carriage returns."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write the text without what redraws a bar."""
        line = text.strip("\r\n ")
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Hand everything to the stream."""
        self._stream.flush()


class ProgressBar:
    """Counts towards a total: a bar on a terminal, a line every half minute in a batch log."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def start(self, what: str, total: int) -> None:
        """Start a new bar; an earlier one ends."""
        self.close()
        is_terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=what,
            total=total,
            unit=self._unit,
            # A log file gets a line every half minute, not one for every update.
            mininterval=0.1 if is_terminal else 30.0,
            file=sys.stderr if is_terminal else _Lines(sys.stderr),
            ascii=None if is_terminal else True,
        )

    def advance_to(self, done: int, note: str = "") -> None:
        """Set the number done so far, with an optional note beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)

    def advance(self, more: int) -> None:
        """Add to the number done."""
        if self._bar is not None:
            self._bar.update(more)

    def close(self) -> None:
        """End the bar where it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
