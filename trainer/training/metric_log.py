"""What a training shows while it runs: `log.csv` and TensorBoard curves. Refuses to know what the
numbers mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from storage.files.atomic_write import publish


class MetricLog:
    """Writes the curves of one run; a resumed run goes on where its checkpoint was taken, not where
    it was killed.
    """

    def __init__(
        self, folder: Path, epochs: Sequence[Mapping[str, float]], *, is_writing: bool
    ) -> None:
        self._folder = folder
        self._is_writing = is_writing
        self._events: Any = None
        if is_writing:
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=len(epochs))

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()

    def add(self, epochs: Sequence[Mapping[str, float]]) -> None:
        """Show the last of these epochs; `log.csv` always has all of them."""
        if not self._is_writing:
            return
        number, last = len(epochs) - 1, epochs[-1]
        for name, value in last.items():
            self._events.add_scalar(name, value, number)
        self._events.flush()
        publish(self._folder / "log.csv", _table(epochs), replace=True)


def _table(epochs: Sequence[Mapping[str, float]]) -> bytes:
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(epochs)
    return text.getvalue().encode()
