"""The metric log of a training run: `log.csv` and TensorBoard."""

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
    """Writes the metrics of each epoch; a resumed run continues from its checkpoint."""

    def __init__(
        self, folder: Path, epochs: Sequence[Mapping[str, float]], *, is_writing: bool
    ) -> None:
        self._folder = folder
        self._is_writing = is_writing
        self._events: Any = None
        if is_writing:
            # Removes from TensorBoard what a killed run wrote after its last checkpoint.
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
        """Write the last of these epochs to TensorBoard, and all of them to `log.csv`."""
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
