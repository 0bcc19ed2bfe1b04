"""The cells of a table whose columns are domains: one network each, and what their averages are.

A metric of such a table is named `ap_step:dog` (the mean over the videos of a domain), `ap_step`
(the mean of the domains' means), or `ap_step@videos` (the mean over all videos, whatever their
domain). `ap_step@columns` is measured as `ap_step`; what was published under it is the mean of the
columns, whatever was printed. An average stands only where every domain has a number. Refuses to
know how networks are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from storage.base.errors import SettingsError
from trainer.config.recipe import Recipe, load_recipe
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation, confidence_intervals
from trainer.paper_tables.published import Row, Table


@dataclass(frozen=True)
class Cell:
    """One network's part of a row: in a table without domains, all of it."""

    domain: str
    recipe: Recipe
    asked: tuple[str, ...]
    """Other data settings when the trained network is asked."""


def check_changes(table: Table, changes: tuple[str, ...], *, small: bool) -> None:
    """Raise SettingsError if no recipe of the table takes these changes. One that some take is told
    row by row.
    """
    refusals = []
    for row in (row for row in table.rows if row.recipe and changes):
        own = tuple(
            change.replace("{domain}", next(iter(table.domains), "")) for change in row.changes
        )
        try:
            load_recipe(row.recipe, changes=(*own, *changes), small=small)
        except SettingsError as error:
            refusals.append(error)
        else:
            return
    if refusals:
        raise refusals[0]


def row_cells(table: Table, row: Row, changes: tuple[str, ...], *, small: bool) -> tuple[Cell, ...]:
    """What a row trains; what the row itself changes goes before what `changes` of all recipes
    say.
    """
    made = []
    for domain in table.domains or ("",):
        own = tuple(change.replace("{domain}", domain) for change in row.changes)
        asked = tuple(change.replace("{domain}", domain) for change in row.asked)
        made.append(
            Cell(domain, load_recipe(row.recipe, changes=(*changes, *own), small=small), asked)
        )
    return tuple(made)


def merge_evaluations(runs: Sequence[Evaluation]) -> Evaluation:
    """One evaluation over the ids of several, which are of different domains and otherwise alike.

    The protocol's name may tell them apart; then all are named. Raises ValueError for an id that
    comes twice.
    """
    first, *others = [run for run in runs if run.ids] or runs[:1]
    if not others:
        return first
    whole = (first, *others)
    order = np.argsort([one for run in whole for one in run.ids])
    ids = [one for run in whole for one in run.ids]
    return Evaluation(
        protocol=", ".join(dict.fromkeys(run.protocol for run in whole)),
        ids=tuple(ids[place] for place in order),
        values={
            name: np.concatenate([run.values[name] for run in whole])[order]
            for name in first.values
        },
        dropped={one: reason for run in runs for one, reason in run.dropped.items()},
        groups={one: name for run in whole for one, name in run.groups.items()},
    )


def metric_intervals(table: Table, seeds: Sequence[Evaluation]) -> dict[str, ConfidenceInterval]:
    """Estimates of the table's metrics that these evaluations, one a seed, have numbers for."""
    plain = confidence_intervals(seeds)
    found: dict[str, ConfidenceInterval] = {}
    for key in table.metrics:
        metric, _, domain = key.partition(":")
        metric, _, kind = metric.partition("@")
        if metric not in plain:
            continue
        if domain:
            parts = [_of_domain(run, domain) for run in seeds]
            if all(part.ids for part in parts):
                found[key] = confidence_intervals(parts)[metric]
        elif set(table.domains) <= set(seeds[0].groups.values()):
            over_videos = [replace(run, groups={}) for run in seeds] if kind == "videos" else None
            found[key] = confidence_intervals(over_videos)[metric] if over_videos else plain[metric]
    return found


def _of_domain(run: Evaluation, domain: str) -> Evaluation:
    measured = {one for one in run.ids if run.groups.get(one) == domain}
    return run.only(measured | {one for one in run.dropped if one.startswith(f"{domain}/")})
