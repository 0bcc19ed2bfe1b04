"""What every form of export provides: a writer, and a plain reader that gives the rows back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.base.records import Array
from storage.export.source.rows import ExportedRows
from storage.export.source.selection import Refusal, Selection


@dataclass(frozen=True)
class ExportPlan:
    """What is written, and where."""

    folder: Path
    """The destination: new, and empty but for our own files."""
    selection: Selection
    clip_seconds: float
    """0 for rows as stored."""


class Writer(Protocol):
    """Writes videos one after the other, by ascending id."""

    def add(self, video_id: str, variants: Mapping[str, ExportedRows]) -> None:
        """Write one video: full name of a variant → its rows. Variants without it are absent."""

    def close(self) -> None:
        """Write what is left; the export is complete on disk afterwards."""


Plain = Mapping[str, Array]
"""Name → array; of a ragged array `NAME/values` and `NAME/lengths`."""
ReadBack = Iterator[tuple[str, str, Plain]]
"""Full name of a variant, video id, and the arrays as read from the written files."""


def no_data_files(plan: ExportPlan) -> Mapping[str, str]:
    """For forms that Hugging Face's hub does not load."""
    return {}


@dataclass(frozen=True)
class ExportFormat:
    """One form of export."""

    description: str
    opened_with: str
    """How a user opens it, in one line of Python."""
    writer: Callable[[ExportPlan], Writer]
    read_back: Callable[[ExportPlan], ReadBack]
    """Reads the files with a plain reader: not with the code that wrote them."""
    as_written: Callable[[ExportPlan, ExportedRows], Plain]
    """The arrays that `read_back` must give for these rows, to the bit."""
    refusal: Refusal
    data_files: Callable[[ExportPlan], Mapping[str, str]] = no_data_files
    """Name of each part of the data set → pattern of its files, for the head of a card."""
    default_clip_seconds: float = 0.0
    libraries: tuple[str, ...] = ()
    """Libraries beside numpy that it needs, whose versions are recorded."""
