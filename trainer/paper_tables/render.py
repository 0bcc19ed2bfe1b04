"""Renders a measured table as text, Markdown or CSV: published beside measured, with footnotes.

There is one line per row and metric. A mark that makes a number not a result, such as `planted:0`,
is in the number's own cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal

from storage.base.fingerprint import readable_json
from storage.files.atomic_write import publish
from trainer.evaluation.statistics import ConfidenceInterval
from trainer.paper_tables.published import Table
from trainer.paper_tables.reproduce import RowResult, TableRequest

Format = Literal["text", "markdown", "csv"]
HEADINGS = ("system", "metric", "published", "measured", "95 %", "sd", "seeds", "users", "ids")
GAIN_HEADINGS = (
    "system",
    "compared with",
    "metric",
    "more by",
    "95 %, paired",
    "sd",
    "seeds",
    "users",
    "ids",
)
_EMPTY_CELLS = ("",) * 5
"""In place of interval, sd, seeds, users and ids, where nothing is measured."""
_CSV_HEADINGS = (
    "table",
    "group",
    "system",
    "made_by",
    "metric",
    "unit",
    "published",
    "measured",
    "low",
    "high",
    "seed_sd",
    "seeds",
    "users",
    "users_dropped",
    "ids_sha256",
    "protocol",
    "marks",
    "why_not",
    "more_than",
)
_UNITS = {"percent": "percent", "share": "shares of 1", "count": "counts"}


def render_table(request: TableRequest, rows: Sequence[RowResult], form: Format) -> Iterator[str]:
    """The lines of a report."""
    if form == "csv":
        yield from _csv(request, rows).splitlines()
        return
    align = _aligned if form == "text" else _markdown
    bullet = "- " if form == "markdown" else ""
    sample = _sample_name(request.table)
    headings = tuple(sample if heading == "users" else heading for heading in HEADINGS)
    yield from _title_lines(request, rows, form)
    yield from align([headings, *_measured_lines(request, rows)])
    yield ""
    gains = list(_gain_lines(request, rows))
    if gains:
        yield from align([GAIN_HEADINGS, *gains])
        yield ""
    for footnote in _footnotes(request, rows):
        yield f"{bullet}{footnote}"


def save_report(request: TableRequest, rows: Sequence[RowResult]) -> None:
    """Write the report under `ROOT/<catalog>/report/` as `.md`, `.csv` and `.json`.

    The `.json` says what the others are made of. It is written last, so it never describes a report
    that is not there.
    """
    forms: dict[str, Format] = {"md": "markdown", "csv": "csv"}
    for suffix, form in forms.items():
        content = "\n".join(render_table(request, rows, form)) + "\n"
        file = request.layout.report / f"{request.name}.{suffix}"
        publish(file, content.encode(), replace=True)
    publish(record_file(request), _record(request), replace=True)


def is_report_current(request: TableRequest) -> bool:
    """Whether the report exists and is made of the present features, recipes and tables."""
    file = record_file(request)
    return file.is_file() and file.read_bytes() == _record(request)


def record_file(request: TableRequest) -> Path:
    """The `.json` of a report."""
    return request.layout.report / f"{request.name}.json"


def _record(request: TableRequest) -> bytes:
    return readable_json({"table": request.table.name, "made_of": request.fingerprint})


def _sample_name(table: Table) -> str:
    """What a number is the mean over."""
    return "videos" if table.domains else "users"


def _title_lines(request: TableRequest, rows: Sequence[RowResult], form: Format) -> Iterator[str]:
    table, sample = request.table, _sample_name(request.table)
    yield f"## {table.title}" if form == "markdown" else table.title
    yield ""
    yield f"published: {table.source}, on {table.catalog}"
    protocols = {interval.protocol for row in rows for interval in row.intervals.values()}
    if protocols:
        chosen = ""
        if request.among is not None:
            chosen = f"those of {len(request.among)} chosen ids among "
        ids = f"{chosen}{table.split} {sample}"
        measured = f"{request.layout.catalog}, {ids}, {', '.join(sorted(protocols))}"
        unit = _UNITS[table.unit]
        yield f"measured: {measured}; {unit}; mean [95 % over {sample}], sd from seed to seed"
    yield ""


def _measured_lines(
    request: TableRequest, results: Sequence[RowResult]
) -> Iterator[tuple[str, ...]]:
    table = request.table
    for result in results:
        row = result.row
        name = f"{row.group}: {row.name}" if row.group else row.name
        why_not = "quoted" if row.quoted else "not measured"
        for metric, heading in table.metrics.items():
            published = table.number(row.published[metric]) if metric in row.published else "-"
            cells: tuple[str, ...] = (why_not, *_EMPTY_CELLS)
            if metric in result.intervals:
                cells = _number_cells(table, result, result.intervals[metric])
            yield (name, heading, published, *cells)


def _gain_lines(request: TableRequest, results: Sequence[RowResult]) -> Iterator[tuple[str, ...]]:
    table = request.table
    for result in results:
        for other, intervals in result.gains.items():
            for metric, heading in table.metrics.items():
                cells: tuple[str, ...] = ("not compared: not the same users", *_EMPTY_CELLS)
                if metric in intervals:
                    cells = _number_cells(table, result, intervals[metric])
                yield (result.row.name, other, heading, *cells)


def _number_cells(table: Table, result: RowResult, interval: ConfidenceInterval) -> tuple[str, ...]:
    marks = f" ({', '.join(result.marks)})" if result.marks else ""
    return (
        f"{table.measured(interval.mean)}{marks}",
        f"[{table.measured(interval.low)}, {table.measured(interval.high)}]",
        "-" if interval.seed_sd is None else table.measured(interval.seed_sd),
        str(interval.seeds),
        f"{interval.n} of {interval.n + interval.n_dropped}",
        interval.short_hash,
    )


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    columns = zip(*lines, strict=True)
    widths = [max(map(len, column)) for column in columns]
    for line in lines:
        padded = map(str.ljust, line, widths)
        yield "  ".join(padded).rstrip()


def _markdown(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    headings, *others = lines
    yield f"| {' | '.join(headings)} |"
    yield f"|{'-|' * len(headings)}"
    for line in others:
        yield f"| {' | '.join(line)} |"


def _footnotes(request: TableRequest, results: Sequence[RowResult]) -> Iterator[str]:
    """Notes about the table, then about its rows; a note about several rows is given once."""
    sample = _sample_name(request.table)
    for note in request.table.notes:
        yield f"published: {note}"
    id_hashes = {
        interval.ids_sha256 for result in results for interval in result.intervals.values()
    }
    if len(id_hashes) > 1:
        yield f"not all rows are over the same {sample}: compare those with the same ids"
    rows_of_note: dict[str, list[str]] = {}
    # Kind by kind and not row by row, so that notes of one kind are next to each other.
    for notes_of in (_published_notes, _reasons, _gap_notes, _data_notes, _dropped_notes):
        for result in results:
            for note in notes_of(result, sample):
                rows_of_note.setdefault(note, []).append(result.row.name)
    for note, names in rows_of_note.items():
        yield f"{note} ({_row_names(names, len(results))})"


def _published_notes(result: RowResult, sample: str) -> list[str]:
    return [f"published: {result.row.note}"] if result.row.note else []


def _reasons(result: RowResult, sample: str) -> list[str]:
    """Why a row has no numbers."""
    if not result.why_not:
        return []
    if "not measured" in result.why_not:
        return [result.why_not]
    return [f"quoted {result.why_not}"]


def _gap_notes(result: RowResult, sample: str) -> list[str]:
    return [f"gap: {gap}" for gap in result.gaps]


def _data_notes(result: RowResult, sample: str) -> list[str]:
    return [f"data: {note}" for note in result.notes]


def _dropped_notes(result: RowResult, sample: str) -> list[str]:
    if not result.dropped:
        return []
    counts = sorted(result.dropped.items())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    return [f"{sample} without a number: {reasons}"]


def _row_names(names: Sequence[str], n_rows: int) -> str:
    unique = list(dict.fromkeys(names))
    if len(unique) == n_rows:
        return "all rows"
    # Neighbouring rows `CA, k = 0`, `CA, k = 1` ... are named once.
    stems = [stem for stem, _ in groupby(unique, key=lambda name: name.partition(", k = ")[0])]
    return "; ".join(stems)


def _csv(request: TableRequest, results: Sequence[RowResult]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEADINGS)
    table = request.table
    for result in results:
        for metric in table.metrics:
            writer.writerow(_csv_cells(table, result, metric, result.intervals.get(metric), ""))
        for other, gains in result.gains.items():
            for metric in table.metrics:
                writer.writerow(_csv_cells(table, result, metric, gains.get(metric), other))
    return text.getvalue()


def _csv_cells(
    table: Table,
    result: RowResult,
    metric: str,
    interval: ConfidenceInterval | None,
    more_than: str,
) -> list[object]:
    """The measured value of a row; with `more_than`, its gain over the row of that name."""
    row = result.row
    made_by = row.recipe or row.baseline or "quoted"
    published = "" if more_than else row.published.get(metric, "")
    start = [table.name, row.group, row.name, made_by, metric, table.unit, published]
    if interval is None:
        why_not = result.why_not
        if more_than and not why_not:
            why_not = "not the same users"
        return [*start, *[""] * 10, why_not, more_than]
    # Published numbers are in the unit of the table; measured ones are shares of 1.
    scale = 100 if table.unit == "percent" else 1
    numbers = [scale * interval.mean, scale * interval.low, scale * interval.high]
    sd = "" if interval.seed_sd is None else scale * interval.seed_sd
    users = [
        interval.seeds,
        interval.n,
        interval.n_dropped,
        interval.ids_sha256,
        interval.protocol,
    ]
    return [*start, *numbers, sd, *users, " ".join(result.marks), "", more_than]
