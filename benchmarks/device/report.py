"""What a run on a device has found so far: told as it comes, and kept as Markdown and JSON."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Report:
    """What is known so far, on disk after every section."""

    folder: Path
    found: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    broken: list[str] = field(default_factory=list)
    """What could not be measured."""

    def attempt(self, work: Callable[[], None], what: str) -> None:
        """Do it; what breaks is told and remembered, and costs no other part of the report."""
        try:
            work()
        except Exception:  # noqa: BLE001  minutes on such a machine are dear
            self.broken.append(what)
            self.section(
                f"{what} broke",
                [("traceback",), (traceback.format_exc()[-1500:],)],
                traceback.format_exc(),
            )

    def section(self, title: str, table: Sequence[Sequence[Any]], rows: Any) -> None:
        """A heading and a table, whose first row is its head; `rows` is what the JSON keeps."""
        head, *body = table
        lines = [f"\n## {title}\n", _row(head), "|" + "-|" * len(head), *map(_row, body)]
        lines.append(f"\n({time.perf_counter() - self.began:.0f} s since the start)")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        self.text += lines
        self.found[title] = rows
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "device.md").write_text("\n".join(self.text) + "\n")
        (self.folder / "device.json").write_text(json.dumps(self.found, indent=1, default=str))


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
