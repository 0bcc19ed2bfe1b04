"""What papers printed: their tables as data, row by row, with what makes each row here.

    tables/phd-gifs-1.toml      title, source, unit, metrics, notes, and rows: a name, what was
    published, and one of
                                recipe, baseline, or quoted (why the row is only quoted)

A row with `k = [0, 1, 2]` stands for three, with `{k}` replaced. Knows recipes and baselines by
name. Refuses to know stores and runs.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, Literal

from storage.base.errors import LookupFailed, SettingsError
from trainer.config.toml_binding import bind
from trainer.data.user_examples import Split
from trainer.evaluation.baselines import BASELINES, VIDEO_RANKERS


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    """As printed."""
    group: str = ""
    recipe: str = ""
    """What makes it: a recipe ..."""
    baseline: str = ""
    """... or a ranker that learns nothing ..."""
    quoted: str = ""
    """... or nothing here, and why."""
    changes: tuple[str, ...] = ()
    """Of the recipe, as `load_recipe` takes them; `{domain}` stands for each of the table's
    domains.
    """
    asked: tuple[str, ...] = ()
    """Other data settings when the trained network is asked; `{domain}` as above."""
    trained_on: str = ""
    """The dataset that the row's network is trained on, where it is another than the table's."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Metric → number, in the unit of the table."""
    note: str = ""
    """What one has to know to compare."""
    against: tuple[str, ...] = ()
    """Rows of the table with which this one is compared user by user."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.recipe, self.baseline, self.quoted))) != 1:
            raise ValueError(
                f"the row {self.name!r} has exactly one of recipe, baseline and quoted"
            )
        if self.baseline and self.baseline not in {*BASELINES, *VIDEO_RANKERS}:
            raise ValueError(f"the row {self.name!r} names no baseline there is: {self.baseline!r}")


@dataclass(frozen=True)
class Table:
    """A table of a paper, or a figure as one."""

    name: str
    title: str
    source: str
    metrics: Mapping[str, str]
    """Name of the metric → heading."""
    unit: Literal["percent", "share", "count"] = "percent"
    digits: int | None = None
    """As printed; None: 2 for percent, 3 for a share of 1."""
    catalog: str = "phd2"
    """The dataset it is about."""
    split: Split = "test"
    domains: tuple[str, ...] = ()
    """A network for each, in the order of their columns; metrics are then named as in
    `trainer.paper_tables.domain_cells`.
    """
    grouping: str = ""
    """The split of videos that rankers without a network are measured on; empty: that of the
    catalog's rule.
    """
    notes: tuple[str, ...] = ()
    """Misprints, and what the paper measured on."""
    rows: tuple[Row, ...] = ()

    def number(self, value: float) -> str:
        """A number in the table's unit, as the table prints it."""
        digits = self.digits if self.digits is not None else 2 if self.unit == "percent" else 3
        return f"{value:.{digits}f}"

    def measured(self, value: float) -> str:
        """The same for a measured number, which is a share of 1."""
        return self.number(100 * value if self.unit == "percent" else value)


def table_names() -> tuple[str, ...]:
    """The tables that come with the project, ascending."""
    return tuple(
        sorted(
            path.name.removesuffix(".toml")
            for path in _folder().iterdir()
            if path.name.endswith(".toml")
        )
    )


def load_table(name: str) -> Table:
    """A table by its name. LookupFailed lists the names; SettingsError tells what is wrong in the
    file.
    """
    if name not in table_names():
        raise LookupFailed(f"no table {name!r}; there are {', '.join(table_names())}")
    try:
        content = tomllib.loads((_folder() / f"{name}.toml").read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError((f"{name} is no TOML: {error}",)) from error
    _check_rows(name, content.get("rows", []))
    rows = tuple(
        bind(Row, row, f"{name}: row {row.get('name', '')!r}")
        for written in content.pop("rows", [])
        for row in _expanded(written)
    )
    table = replace(bind(Table, {"name": name, **content}, name), rows=rows)
    table = replace(table, rows=tuple(_with_mean(table, row) for row in rows))
    unknown = sorted({metric for row in rows for metric in row.published} - set(table.metrics))
    if unknown or not rows or len({row.name for row in rows}) != len(rows):
        raise SettingsError(
            (
                f"{name} has rows, each name once, and its metrics name all that is published: {unknown}",
            )
        )
    strangers = sorted(
        {other for row in rows for other in row.against} - {row.name for row in rows}
    )
    if strangers:
        raise SettingsError(
            (f"{name} compares rows with {', '.join(strangers)}, which it does not have",)
        )
    return table


def _check_rows(name: str, rows: Any) -> None:
    """What `_expanded` reads before a row is bound."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SettingsError((f"{name}: rows must be a list of tables, got {str(rows)[:100]}",))
    for row in rows:
        counted, asked = row.get("k", []), row.get("asked", [])
        if not isinstance(row.get("name"), str) or not row["name"].strip():
            raise SettingsError((f"{name}: a row's name must be a text, got {row.get('name')!r}",))
        if not isinstance(counted, list) or not all(
            type(k) is int and 0 <= k <= 1000 for k in counted
        ):
            raise SettingsError(
                (f"{name}: row {row['name']!r}: k must be a list of 0 to 1000, got {counted!r}",)
            )
        if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
            raise SettingsError(
                (f"{name}: row {row['name']!r}: asked must be a list of texts, got {asked!r}",)
            )


def _with_mean(table: Table, row: Row) -> Row:
    """The row with the mean of its columns, where a metric asks for it: what is printed is often
    something else.
    """
    means = {}
    for key in table.metrics:
        metric, _, kind = key.partition("@")
        columns = [row.published.get(f"{metric}:{domain}") for domain in table.domains]
        known = [value for value in columns if value is not None]
        if kind == "columns" and known and len(known) == len(columns):
            means[key] = sum(known) / len(known)
    return replace(row, published={**row.published, **means})


def _expanded(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "k" not in row:
        yield row
        return
    for k in row["k"]:
        asked = [change.replace("{k}", str(k)) for change in row.get("asked", [])]
        named = row["name"].replace("{k}", str(k))
        yield {key: value for key, value in row.items() if key != "k"} | {
            "name": named,
            "asked": asked,
        }


def _folder() -> Any:
    return resources.files("trainer") / "tables"
