"""What reading a published dataset ends in: its catalog, and everything in it that looked odd.

Odd things are counted in the catalog and listed in full beside it, so that nothing is mended or
dropped unseen. Refuses to know how any dataset is spelled.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.base.records import JSON
from storage.catalog.catalog import Catalog
from storage.files import atomic_write

EXAMPLES = 20
"""How many cases of an oddity the catalog itself shows."""
EXAMPLE_CHARACTERS = 100
"""A value in a message is cut here: it may be anything."""
DROPPED = "dropped:"
"""What the names of rows and videos that were left out begin with."""
_ADDRESS = re.compile(r"\b(https?://|www\.|youtu\.be/|youtube\.com/)", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedDataset:
    """A catalog and its oddities."""

    catalog: Catalog
    oddities: Mapping[str, Sequence[str]]
    """Name of the oddity → every case, sorted; empty where it was looked for and not found. Names
    of rows that were left out start with `DROPPED`.
    """


class DatasetReader(Protocol):
    """How a row of `table.py` is called: split → bytes as published."""

    def __call__(
        self, sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
    ) -> ParsedDataset:
        """Read the sources into a catalog of that name; without a `shard_count`, about 300 videos a
        shard.

        Raises `SettingsError` where the sources are not that dataset.
        """
        ...


def summarize_oddities(oddities: Mapping[str, Sequence[str]]) -> dict[str, JSON]:
    """What a catalog keeps of its oddities: `{name: {"count": n, "examples": [the first 20,
    sorted]}}`.
    """
    return {
        name: {"count": len(cases), "examples": [*sorted(cases)[:EXAMPLES]]}
        for name, cases in oddities.items()
    }


def quote_value(case: str) -> str:
    """A published value as a message shows it, and what it seems to be, where that helps."""
    shown = repr(case[:EXAMPLE_CHARACTERS] + ("..." if len(case) > EXAMPLE_CHARACTERS else ""))
    return f"{shown}, which is an address: write the id alone" if _ADDRESS.search(case) else shown


def write_oddities(path: Path, oddities: Mapping[str, Sequence[str]]) -> None:
    """Publish every case as CSV with the columns `oddity,case`, sorted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("oddity", "case"))
    writer.writerows((name, case) for name in sorted(oddities) for case in sorted(oddities[name]))
    atomic_write.publish(path, text.getvalue().encode(), replace=True)
