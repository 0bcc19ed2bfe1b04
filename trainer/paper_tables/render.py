"""A measured table as text, Markdown or CSV: published beside measured, and below it whatever one
has to know.

One line for a row and a metric. What makes a number no result stands in its own cell. Refuses to
know how rows are made.
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
_CSV_HEADINGS = (
    "table", "group", "system", "made_by", "metric", "unit", "published", "measured", "low", "high", "seed_sd", "seeds",
    "users", "users_dropped", "ids_sha256", "protocol", "marks", "why_not", "more_than",
)  # fmt: skip


def render_table(order: TableRequest, rows: Sequence[RowResult], form: Format) -> Iterator[str]:
    """The lines of a report."""
    if form == "csv":
        yield from _csv(order, rows).splitlines()
        return
    headings = tuple(_whom(order.table) if heading == "users" else heading for heading in HEADINGS)
    cells = [headings, *(cell for row in rows for cell in _cells(order, row))]
    yield from _head(order, rows, form)
    yield from _aligned(cells) if form == "text" else _markdown(cells)
    yield ""
    compared = [cell for row in rows for cell in _gain_cells(order, row)]
    if compared:
        yield from (
            _aligned([GAIN_HEADINGS, *compared])
            if form == "text"
            else _markdown([GAIN_HEADINGS, *compared])
        )
        yield ""
    yield from (f"- {line}" if form == "markdown" else line for line in _footnotes(order, rows))


def save_report(order: TableRequest, rows: Sequence[RowResult]) -> None:
    """Under `ROOT/<catalog>/report/`: `.md`, `.csv`, and, last, the `.json` that says what they are
    made of.
    """
    forms: dict[str, Format] = {"md": "markdown", "csv": "csv"}
    for suffix, form in forms.items():
        content = "\n".join(render_table(order, rows, form)) + "\n"
        publish(order.layout.report / f"{order.name}.{suffix}", content.encode(), replace=True)
    publish(
        record_file(order),
        readable_json({"table": order.table.name, "made_of": order.fingerprint}),
        replace=True,
    )


def is_report_current(order: TableRequest) -> bool:
    """Whether the report is there, made of the features, recipes and published numbers of now."""
    wanted = readable_json({"table": order.table.name, "made_of": order.fingerprint})
    return record_file(order).is_file() and record_file(order).read_bytes() == wanted


def record_file(order: TableRequest) -> Path:
    """What is written last."""
    return order.layout.report / f"{order.name}.json"


def _whom(table: Table) -> str:
    """What a number is the mean over."""
    return "videos" if table.domains else "users"


def _head(order: TableRequest, rows: Sequence[RowResult], form: Format) -> Iterator[str]:
    table, protocols = order.table, {found.protocol for row in rows for found in row.found.values()}
    unit = {"percent": "percent", "share": "shares of 1", "count": "counts"}[table.unit]
    yield f"## {table.title}" if form == "markdown" else table.title
    yield ""
    yield f"published: {table.source}, on {table.catalog}"
    if protocols:
        some = "" if order.among is None else f"those of {len(order.among)} chosen ids among "
        measured = f"{order.layout.catalog}, {some}{table.split} {_whom(table)}, {', '.join(sorted(protocols))}"
        yield f"measured: {measured}; {unit}; mean [95 % over {_whom(table)}], sd from seed to seed"
    yield ""


def _cells(order: TableRequest, measured: RowResult) -> Iterator[tuple[str, ...]]:
    row, table = measured.row, order.table
    name = f"{row.group}: {row.name}" if row.group else row.name
    for metric, heading in table.metrics.items():
        published = table.number(row.published[metric]) if metric in row.published else "-"
        if metric in measured.found:
            yield (name, heading, published, *_numbers(order, measured, measured.found[metric]))
        else:
            yield (
                name,
                heading,
                published,
                "quoted" if row.quoted else "not measured",
                "",
                "",
                "",
                "",
                "",
            )


def _gain_cells(order: TableRequest, measured: RowResult) -> Iterator[tuple[str, ...]]:
    for other, found in measured.gains.items():
        for metric, heading in order.table.metrics.items():
            if metric in found:
                yield (measured.row.name, other, heading, *_numbers(order, measured, found[metric]))
            else:
                yield (
                    measured.row.name,
                    other,
                    heading,
                    "not compared: not the same users",
                    "",
                    "",
                    "",
                    "",
                    "",
                )


def _numbers(
    order: TableRequest, measured: RowResult, found: ConfidenceInterval
) -> tuple[str, ...]:
    table, marks = order.table, f" ({', '.join(measured.marks)})" if measured.marks else ""
    return (
        f"{table.measured(found.mean)}{marks}",
        f"[{table.measured(found.low)}, {table.measured(found.high)}]",
        "-" if found.seed_sd is None else table.measured(found.seed_sd),
        str(found.seeds),
        f"{found.n} of {found.n + found.n_dropped}",
        found.short_hash,
    )


def _aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def _markdown(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    first, *others = cells
    yield f"| {' | '.join(first)} |"
    yield f"|{'-|' * len(first)}"
    yield from (f"| {' | '.join(line)} |" for line in others)


def _footnotes(order: TableRequest, rows: Sequence[RowResult]) -> Iterator[str]:
    """What concerns the table, then rows; the same word about several rows is said once."""
    yield from (f"published: {note}" for note in order.table.notes)
    if len({found.ids_sha256 for row in rows for found in row.found.values()}) > 1:
        yield f"not all rows are over the same {_whom(order.table)}: compare those with the same ids"
    told = [
        *((f"published: {row.row.note}", row) for row in rows if row.row.note),
        *((row.why_not if "not measured" in row.why_not else f"quoted {row.why_not}", row)
          for row in rows if row.why_not),
        *((f"gap: {gap}", row) for row in rows for gap in row.gaps),
        *((f"data: {note}", row) for row in rows for note in row.notes),
        *((f"{_whom(order.table)} without a number: {_reasons(row)}", row) for row in rows if row.dropped),
    ]  # fmt: skip
    by_word: dict[str, list[str]] = {}
    for word, row in told:
        by_word.setdefault(word, []).append(row.row.name)
    yield from (f"{word} ({_listed(names, len(rows))})" for word, names in by_word.items())


def _reasons(row: RowResult) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(row.dropped.items()))


def _listed(names: Sequence[str], rows: int) -> str:
    unique = list(dict.fromkeys(names))
    if len(unique) == rows:
        return "all rows"
    stems = [stem for stem, _ in groupby(unique, key=lambda name: name.partition(", k = ")[0])]
    return "; ".join(stems)


def _csv(order: TableRequest, rows: Sequence[RowResult]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEADINGS)
    for measured in rows:
        for metric in order.table.metrics:
            writer.writerow(_csv_cells(order, measured, metric, measured.found.get(metric), ""))
        for other, found in measured.gains.items():
            for metric in order.table.metrics:
                writer.writerow(_csv_cells(order, measured, metric, found.get(metric), other))
    return text.getvalue()


def _csv_cells(
    order: TableRequest,
    measured: RowResult,
    metric: str,
    found: ConfidenceInterval | None,
    more_than: str,
) -> list[object]:
    """A number of a row; or, with `more_than`, what the row has more than that other one."""
    row, table = measured.row, order.table
    made_by = row.recipe or row.baseline or "quoted"
    published = "" if more_than else row.published.get(metric, "")
    start = [table.name, row.group, row.name, made_by, metric, table.unit, published]
    if found is None:
        why_not = "not the same users" if more_than and not measured.why_not else measured.why_not
        return [*start, *[""] * 10, why_not, more_than]
    scale = 100 if table.unit == "percent" else 1
    numbers = [scale * found.mean, scale * found.low, scale * found.high]
    sd = "" if found.seed_sd is None else scale * found.seed_sd
    users = [found.seeds, found.n, found.n_dropped, found.ids_sha256, found.protocol]
    return [*start, *numbers, sd, *users, " ".join(measured.marks), "", more_than]
