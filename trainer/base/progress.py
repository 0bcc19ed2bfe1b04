"""A bar with rate and time left for whoever watches a training. Refuses to know what is counted."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm


class ProgressBar:
    """Counts towards a total: a bar on a terminal, a line every half minute in a batch log."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def start(self, what: str, total: int) -> None:
        """Begin to count; an earlier count ends."""
        self.close()
        seconds = 0.1 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            desc=what, total=total, unit=self._unit, mininterval=seconds, file=sys.stderr
        )

    def advance_to(self, done: int, note: str = "") -> None:
        """Say that so many are done."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)

    def advance(self, more: int) -> None:
        """Say that so many more are done."""
        if self._bar is not None:
            self._bar.update(more)

    def close(self) -> None:
        """Leave the bar as it stands."""
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
