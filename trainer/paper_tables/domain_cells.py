"""The cells of a table whose columns are domains: one network each, and their averages.

A metric of such a table is named `ap_step:dog` (the mean over the videos of a domain), `ap_step`
(the mean of the domains' means), or `ap_step@videos` (the mean over all videos of all domains).
`ap_step@columns` is measured as `ap_step`; its published number is the mean of the printed columns,
which often differs from the printed mean. An average is given only if every domain has a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from trainer.config.recipe import Recipe, load_recipe
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation, confidence_intervals
from trainer.metrics.ranking import Floats
from trainer.paper_tables.published import Row, Table


@dataclass(frozen=True)
class Cell:
    """One network's part of a row; in a table without domains, all of it."""

    domain: str
    recipe: Recipe
    data_changes: tuple[str, ...]
    """Data settings that differ when the trained network is evaluated."""


def check_changes(table: Table, changes: tuple[str, ...], *, small: bool) -> None:
    """Raise SettingsError if no recipe of the table accepts these changes.

    If only some accept them, the rows of the others report it when they are made.
    """
    if not changes:
        return
    first_domain = next(iter(table.domains), "")
    first_refusal: SettingsError | None = None
    for row in table.rows:
        if not row.recipe:
            continue
        # A change is accepted or refused for every domain alike, so one of them is tried.
        own = _for_domain(row.changes, first_domain)
        try:
            load_recipe(row.recipe, changes=(*own, *changes), small=small)
        except SettingsError as error:
            first_refusal = first_refusal or error
        else:
            return
    if first_refusal is not None:
        raise first_refusal


def row_cells(table: Table, row: Row, changes: tuple[str, ...], *, small: bool) -> tuple[Cell, ...]:
    """The networks that a row trains. The row's own changes override `changes` of all recipes."""
    made = []
    for domain in table.domains or ("",):
        own = _for_domain(row.changes, domain)
        recipe = load_recipe(row.recipe, changes=(*changes, *own), small=small)
        made.append(Cell(domain, recipe, _for_domain(row.asked, domain)))
    return tuple(made)


def _for_domain(changes: Sequence[str], domain: str) -> tuple[str, ...]:
    return tuple(change.replace("{domain}", domain) for change in changes)


def merge_evaluations(runs: Sequence[Evaluation]) -> Evaluation:
    """One evaluation over the IDs of several, which are of different domains.

    If their protocols have different names, the result names all of them. Raises ValueError if an
    ID occurs twice.
    """
    measured = [run for run in runs if run.ids]
    if not measured:
        return runs[0]
    if len(measured) == 1:
        return measured[0]
    ids: list[str] = []
    groups: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for run in measured:
        ids += run.ids
        groups.update(run.groups)
    for run in runs:
        dropped.update(run.dropped)
    # The runs are put one after the other, then their IDs are sorted, values with them.
    ascending = np.argsort(ids)
    return Evaluation(
        protocol=", ".join(dict.fromkeys(run.protocol for run in measured)),
        ids=tuple(ids[position] for position in ascending),
        values=_joined_values(measured, ascending),
        dropped=dropped,
        groups=groups,
    )


def _joined_values(runs: Sequence[Evaluation], ascending: NDArray[np.intp]) -> dict[str, Floats]:
    """Metric → the values of all runs, in the order of `ascending`."""
    joined = {}
    for metric in runs[0].values:
        values = np.concatenate([run.values[metric] for run in runs])
        joined[metric] = values[ascending]
    return joined


def metric_intervals(table: Table, seeds: Sequence[Evaluation]) -> dict[str, ConfidenceInterval]:
    """Intervals of the table's metrics; those without values in `seeds` are left out."""
    overall = confidence_intervals(seeds)
    has_all_domains = set(table.domains) <= set(seeds[0].groups.values())
    intervals: dict[str, ConfidenceInterval] = {}
    for key in table.metrics:
        name, _, domain = key.partition(":")
        metric, _, kind = name.partition("@")
        if metric not in overall:
            continue
        interval = None
        if domain:
            interval = _domain_interval(seeds, metric, domain)
        elif has_all_domains and kind == "videos":
            # Without groups, every video counts the same.
            ungrouped = [replace(run, groups={}) for run in seeds]
            interval = confidence_intervals(ungrouped)[metric]
        elif has_all_domains:
            interval = overall[metric]
        if interval is not None:
            intervals[key] = interval
    return intervals


def _domain_interval(
    seeds: Sequence[Evaluation], metric: str, domain: str
) -> ConfidenceInterval | None:
    """The interval over a domain's videos; None if a seed has no video of it."""
    of_domain = [_only_domain(run, domain) for run in seeds]
    if not all(run.ids for run in of_domain):
        return None
    return confidence_intervals(of_domain)[metric]


def _only_domain(run: Evaluation, domain: str) -> Evaluation:
    chosen = set()
    for identity in run.ids:
        if run.groups.get(identity) == domain:
            chosen.add(identity)
    # A dropped ID has no group, but its name begins with the domain.
    for identity in run.dropped:
        if identity.startswith(f"{domain}/"):
            chosen.add(identity)
    return run.only(chosen)
