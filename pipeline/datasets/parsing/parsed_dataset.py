"""The result of reading a published dataset: its catalog and its oddities.

The catalog holds counts of the oddities, and `oddities.csv` beside it lists every case. So no
value is corrected or dropped silently.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.base.errors import DatasetError
from storage.base.records import JSON
from storage.catalog.catalog import Catalog
from storage.files import atomic_write

EXAMPLES = 20
"""Cases of each oddity that the catalog itself keeps."""
EXAMPLE_CHARACTERS = 100
"""Longest quoted value in a message; published values can be arbitrary text."""
DROPPED = "dropped:"
"""Prefix of an oddity whose rows or videos were left out."""
USER_SPLITS = ("train", "validation", "test")
"""The splits of users that training and scoring ask for."""
UNKNOWN_SPLIT = "users_in_a_split_that_is_not_train_validation_or_test"
_ADDRESS = re.compile(r"\b(https?://|www\.|youtu\.be/|youtube\.com/)", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedDataset:
    """A catalog and its oddities."""

    catalog: Catalog
    oddities: Mapping[str, Sequence[str]]
    """Oddity → every case, sorted; empty if it was checked for and did not occur. The name starts
    with `DROPPED` if its rows were left out.
    """

    def __post_init__(self) -> None:
        """Refuse a catalog without a video; list users of a split that training cannot find."""
        catalog = self.catalog
        if not len(catalog.videos):
            raise DatasetError((f"{catalog.name} lists no video: look at its files",))
        strays = [f"{user.user_id} {user.split}" for user in catalog.users]
        strays = [stray for stray in strays if stray.rpartition(" ")[2] not in USER_SPLITS]
        if strays:
            oddities = {**self.oddities, UNKNOWN_SPLIT: sorted(strays)}
            object.__setattr__(self, "oddities", oddities)


class DatasetReader(Protocol):
    """The signature of a dataset reader; `sources` is role → bytes as published."""

    def __call__(
        self, sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
    ) -> ParsedDataset:
        """Read the sources into a catalog of that name.

        Without a `shard_count`, a shard has about 300 videos. Raises `SettingsError` if the
        sources do not belong to the dataset.
        """
        ...


def summarize_oddities(oddities: Mapping[str, Sequence[str]]) -> dict[str, JSON]:
    """The form that a catalog keeps: `{name: {"count": n, "examples": [first 20, sorted]}}`."""
    return {
        name: {"count": len(cases), "examples": [*sorted(cases)[:EXAMPLES]]}
        for name, cases in oddities.items()
    }


def quote_value(case: str) -> str:
    """A published value in quotes, shortened; with a hint if it is an address, not an ID."""
    ending = "..." if len(case) > EXAMPLE_CHARACTERS else ""
    quoted = repr(case[:EXAMPLE_CHARACTERS] + ending)
    if _ADDRESS.search(case):
        return f"{quoted}, which is an address: write only the id"
    return quoted


def write_oddities(path: Path, oddities: Mapping[str, Sequence[str]]) -> None:
    """Write every case as CSV with the columns `oddity,case`, sorted."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("oddity", "case"))
    writer.writerows((name, case) for name in sorted(oddities) for case in sorted(oddities[name]))
    atomic_write.publish(path, text.getvalue().encode(), replace=True)
