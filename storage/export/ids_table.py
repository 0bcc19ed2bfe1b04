"""`ids.csv` and `video_metadata.jsonl`: every selected id with its state, and what is said of it.

Ids are written exactly: they consist of A-Z a-z 0-9 _ -, so a cell that begins with `-` can call no
function and name no program in a spreadsheet. Titles and details come from
outside. In `ids.csv` they are made for reading: see `inert`. `video_metadata.jsonl` has the exact
texts.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from storage.base.records import TITLE
from storage.catalog.catalog import Catalog
from storage.export.source.selection import Selection, VariantChoice

COLUMNS = (
    "video_id", "variant", "state", "reason", "detail", "rows_stored", "rows_written",
    "clips_filled", "duration_seconds", "title",
)  # fmt: skip
NO_STATUS = "not_built"
"""The state of an id that no build has looked at yet."""
CSV_RULE = (
    "video_id is exact. In detail and title, line breaks and other control characters are blanks, "
    "semicolons are commas, and a text that begins with one of = + - @ or ' (also in full width) "
    "has an apostrophe in front, so that no spreadsheet computes it; video_metadata.jsonl has the "
    "exact titles."
)
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_FORMULA_STARTS = tuple("=+-@'＝＋－＠")


@dataclass(frozen=True)
class WrittenCounts:
    """What an export wrote of one video in one variant."""

    rows_stored: int
    rows_written: int
    clips_filled: int
    duration_seconds: float | None


def inert(text: str) -> str:
    """A text from outside as a cell that a spreadsheet shows and does not compute.

    Semicolons go, because a spreadsheet in a country that separates cells with them would begin a
    new cell there, quoted or not.
    """
    shown = _BREAKS.sub(" ", text).replace(";", ",").strip()
    return f"'{shown}" if shown.startswith(_FORMULA_STARTS) else shown


def ids_csv(
    selection: Selection, written: Mapping[tuple[str, str], WrittenCounts]
) -> Iterator[bytes]:
    """The lines of `ids.csv`: for each variant every selected id.

    `written` has the counts of each (variant, id) that was written.
    """
    titles = {
        video_id: found.get(TITLE, "")
        for video_id, found in selection.catalog.shareable_metadata.items()
    }
    yield _line(COLUMNS)
    for variant in selection.variants:
        for video_id in selection.ids:
            counts = written.get((variant.name, video_id))
            status = _status(variant, video_id)
            yield _line(
                [video_id, variant.name, *status, *_cells(counts), inert(titles.get(video_id, ""))]
            )


def _status(variant: VariantChoice, video_id: str) -> tuple[str, str, str]:
    status = variant.reader.statuses.get(video_id)
    if status is None:
        return NO_STATUS, "", ""
    return str(status.state), status.reason, inert(status.detail)


def _cells(counts: WrittenCounts | None) -> Sequence[object]:
    if counts is None:
        return 0, 0, 0, ""
    duration = "" if counts.duration_seconds is None else repr(counts.duration_seconds)
    return counts.rows_stored, counts.rows_written, counts.clips_filled, duration


def _line(cells: Iterable[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(list(cells))
    return text.getvalue().encode()


def metadata_lines(catalog: Catalog, ids: Sequence[str]) -> Iterator[bytes]:
    """One JSON object on each line: the id of a selected video and its metadata, exactly."""
    for video_id in ids:
        found = catalog.shareable_metadata.get(video_id)
        if found:
            content = {"video_id": video_id, "metadata": dict(sorted(found.items()))}
            # ASCII: neither a line separator of Unicode nor a terminal's control code gets out.
            yield f"{json.dumps(content, ensure_ascii=True)}\n".encode()
