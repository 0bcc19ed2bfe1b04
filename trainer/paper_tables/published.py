"""The papers' printed tables as data, row by row, with what makes each row here.

A file `tables/phd-gifs-1.toml` has title, source, unit, metrics, notes, and rows. A row has a name,
the published numbers, and one of recipe, baseline, or quoted (the reason why it is only quoted). A
row with `k = [0, 1, 2]` stands for three rows, with `{k}` replaced.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
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
    """The recipe that makes it, ..."""
    baseline: str = ""
    """... or a ranker that learns nothing, ..."""
    quoted: str = ""
    """... or the reason why it is only quoted."""
    changes: tuple[str, ...] = ()
    """Changes of the recipe, as `load_recipe` takes them; `{domain}` stands for each domain."""
    asked: tuple[str, ...] = ()
    """Data settings that differ when the trained network is evaluated; `{domain}` as above."""
    trained_on: str = ""
    """The dataset on which the row's network is trained, if it is not the table's."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Metric → number, in the unit of the table."""
    note: str = ""
    """What a reader has to know to compare."""
    against: tuple[str, ...] = ()
    """Rows of the table with which this row is compared user by user."""

    def __post_init__(self) -> None:
        origins = list(filter(None, (self.recipe, self.baseline, self.quoted)))
        if len(origins) != 1:
            raise ValueError(
                f"the row {self.name!r} must have exactly one of recipe, baseline and quoted"
            )
        if self.baseline and self.baseline not in {*BASELINES, *VIDEO_RANKERS}:
            raise ValueError(f"the row {self.name!r} names an unknown baseline: {self.baseline!r}")


@dataclass(frozen=True)
class Table:
    """A table of a paper, or a figure in the form of one."""

    name: str
    title: str
    source: str
    metrics: Mapping[str, str]
    """Name of the metric → heading."""
    unit: Literal["percent", "share", "count"] = "percent"
    digits: int | None = None
    """As printed; None: 2 for percent, 3 for a share of 1."""
    catalog: str = "phd2"
    """The dataset that the paper measured on."""
    split: Split = "test"
    domains: tuple[str, ...] = ()
    """A network for each, in the order of the columns. Metrics are then named as in
    `trainer.paper_tables.domain_cells`.
    """
    grouping: str = ""
    """The split of videos for rankers without a network; empty for that of the catalog's rule."""
    notes: tuple[str, ...] = ()
    """Misprints, and the data of the paper."""
    rows: tuple[Row, ...] = ()

    def number(self, value: float) -> str:
        """A number in the table's unit, as the table prints it."""
        digits = 2 if self.unit == "percent" else 3
        if self.digits is not None:
            digits = self.digits
        return f"{value:.{digits}f}"

    def measured(self, value: float) -> str:
        """A measured value, which is a share of 1, as the table prints it."""
        return self.number(100 * value if self.unit == "percent" else value)


def table_names() -> tuple[str, ...]:
    """The tables that come with the project, ascending."""
    files = [path.name for path in _folder().iterdir() if path.name.endswith(".toml")]
    return tuple(sorted(file.removesuffix(".toml") for file in files))


def load_table(name: str) -> Table:
    """A table by its name.

    Raises LookupFailed, with the known names, if there is no such table, and SettingsError if its
    file is invalid.
    """
    if name not in table_names():
        raise LookupFailed(f"no table {name!r}; there are {', '.join(table_names())}")
    try:
        content = tomllib.loads((_folder() / f"{name}.toml").read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError((f"{name} is not valid TOML: {error}",)) from error
    rows = _bind_rows(name, content.pop("rows", []))
    table = replace(bind(Table, {"name": name, **content}, name), rows=rows)
    _check_table(table)
    return replace(table, rows=tuple(_with_mean(table, row) for row in rows))


def _bind_rows(name: str, written: Any) -> tuple[Row, ...]:
    _check_rows(name, written)
    rows = []
    for row in written:
        place = f"{name}: row {row['name']!r}"
        rows += [bind(Row, expanded, place) for expanded in _expanded(row)]
    return tuple(rows)


def _check_table(table: Table) -> None:
    """Raise SettingsError for rows that do not fit the table or each other."""
    names: set[str] = set()
    published: set[str] = set()
    compared: set[str] = set()
    for row in table.rows:
        names.add(row.name)
        published.update(row.published)
        compared.update(row.against)
    unknown_metrics = sorted(published - set(table.metrics))
    has_different_names = len(names) == len(table.rows)
    if unknown_metrics or not table.rows or not has_different_names:
        raise SettingsError(
            (
                f"{table.name} must have rows with different names, and metrics for all published "
                f"numbers; without a metric: {unknown_metrics}",
            )
        )
    unknown_rows = sorted(compared - names)
    if unknown_rows:
        raise SettingsError(
            (f"{table.name} compares rows with {', '.join(unknown_rows)}, which it does not have",)
        )


def _check_rows(name: str, rows: Any) -> None:
    """Raise SettingsError unless rows have the form that `_expanded` reads."""
    if not _is_list_of(rows, lambda row: isinstance(row, dict)):
        raise SettingsError((f"{name}: rows must be a list of tables, got {str(rows)[:100]}",))
    for row in rows:
        row_name = row.get("name")
        if not isinstance(row_name, str) or not row_name.strip():
            raise SettingsError((f"{name}: a row's name must be a text, got {row_name!r}",))
        k, asked = row.get("k", []), row.get("asked", [])
        problem = ""
        if not _is_list_of(k, _is_count):
            problem = f"k must be a list of 0 to 1000, got {k!r}"
        elif not _is_list_of(asked, _is_text):
            problem = f"asked must be a list of texts, got {asked!r}"
        if problem:
            raise SettingsError((f"{name}: row {row_name!r}: {problem}",))


def _is_list_of(values: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and all(map(is_item, values))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    # type(), because a boolean is an int for isinstance().
    return type(value) is int and 0 <= value <= 1000


def _with_mean(table: Table, row: Row) -> Row:
    """The row with the mean of its columns, if a metric asks for it.

    The printed mean is often another number.
    """
    means: dict[str, float] = {}
    for key in table.metrics:
        metric, _, kind = key.partition("@")
        if kind != "columns":
            continue
        columns = []
        for domain in table.domains:
            value = row.published.get(f"{metric}:{domain}")
            if value is not None:
                columns.append(value)
        is_complete = len(columns) == len(table.domains)
        # A mean over some of the columns would be compared with a mean over all domains.
        if columns and is_complete:
            means[key] = sum(columns) / len(columns)
    return replace(row, published={**row.published, **means})


def _expanded(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The row itself; or, for a row with `k`, one row for each k."""
    if "k" not in row:
        yield row
        return
    without_k = dict(row)
    del without_k["k"]
    for k in row["k"]:
        name = row["name"].replace("{k}", str(k))
        asked = [change.replace("{k}", str(k)) for change in row.get("asked", [])]
        yield {**without_k, "name": name, "asked": asked}


def _folder() -> Any:
    # Package data, so that an installed project has the tables too.
    return resources.files("trainer") / "tables"
