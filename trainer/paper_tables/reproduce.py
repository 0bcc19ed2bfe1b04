"""The rows of a published table, measured on a catalog: trains what is missing, scores, and keeps
what it found.

Rankers that learn nothing are measured on the users and durations of the table's first measured
network, so that all rows answer the same question; without such a network, on everybody the catalog
asks about. Refuses to know how a table looks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint, ids_sha256
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog
from storage.scores import ScoreRun
from trainer.base.progress import ProgressBar
from trainer.config.recipe import Recipe
from trainer.data.labels.annotator_labels import label_rule
from trainer.evaluation.baselines import BASELINES, baseline_tracks, is_random, video_ranker
from trainer.evaluation.domain_protocol import (
    all_domains,
    evaluate_ranker,
    evaluated_videos,
    split_settings,
)
from trainer.evaluation.phd2_protocol import PHD2, evaluate, find_targets, scored_durations
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation, paired_gain
from trainer.evaluation.summary_protocol import AGGREGATION, FIXED_LENGTH_SHOTS, fixed_length_shots
from trainer.inference.score_run import EvalRequest, evaluate_run, score_split
from trainer.paper_tables.domain_baselines import summary_runs
from trainer.paper_tables.domain_cells import Cell, merge_evaluations, metric_intervals, row_cells
from trainer.paper_tables.published import Row, Table
from trainer.training.fit import FitOptions, Run, fit
from trainer.training.ranking_svm import RankingSVMError
from trainer.training.train_step import Diverged

BASELINE_SEEDS = 20
"""One random ranking of PHD2's test users has a standard deviation of 0.25 points of mAP."""

NOTHING_MEASURED = "not measured: nobody has a number"


@dataclass(frozen=True)
class TableRequest:
    """What is asked for: a table on a catalog."""

    table: Table
    folder: Path
    """`ROOT/<catalog>`."""
    seeds: int = 1
    is_small: bool = False
    changes: tuple[str, ...] = ()
    """Of every recipe of the table."""
    elsewhere: Path | None = None
    """`ROOT/<catalog>` that rows are trained on which say that theirs is another dataset."""
    among: frozenset[str] | None = None
    """Ids of the users, or videos, that are judged; None: all that the protocol asks about."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise SettingsError((f"seeds is at least 1, got {self.seeds}",))

    @property
    def layout(self) -> Layout:
        """The catalog's files."""
        return Layout(self.folder.absolute().parent, self.folder.absolute().name)

    @property
    def name(self) -> str:
        """`phd-gifs-1.3-seeds.small`: what its report is called."""
        changed = f".{fingerprint(self.changes)}" if self.changes else ""
        among = "" if self.among is None else f".among-{ids_sha256(sorted(self.among))[:8]}"
        return f"{self.table.name}.{self.seeds}-seeds{'.small' if self.is_small else ''}{changed}{among}"

    def keep_requested(self, found: Evaluation) -> Evaluation:
        """What is left of an evaluation where only some ids count. Videos of domains are
        `domain/video` there.
        """
        among = self.among
        if among is None:
            return found
        return found.only(
            {one for one in (*found.ids, *found.dropped) if among & {one, one.rpartition("/")[2]}}
        )

    def cells(self, row: Row) -> tuple[Cell, ...]:
        """What the row trains: one cell, or one for each domain of the table."""
        return row_cells(self.table, row, self.changes, small=self.is_small)

    def runs(self, row: Row, cell: Cell) -> tuple[Run, ...]:
        """One for each seed; one alone where nothing is learned. SettingsError if nobody said where
        to train it.
        """
        folder = self.elsewhere if row.trained_on else self.folder
        if folder is None:
            raise SettingsError(
                (
                    f"its network is trained on {row.trained_on}: say where that is with --trained-on",
                )
            )
        return tuple(
            Run(cell.recipe, folder, seed)
            for seed in range(self.seeds if cell.recipe.stages else 1)
        )

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all that the report depends on, features included."""
        made_of = [[row.name, list(row.asked), *self._run_names(row)] for row in self.table.rows]
        among = {} if self.among is None else {"among": sorted(self.among)}
        return fingerprint({"rows": made_of, "published": self.table, **among})

    def _run_names(self, row: Row) -> Iterator[str]:
        try:
            for cell in self.cells(row) if row.recipe else ():
                yield from (run.name(run.data()) for run in self.runs(row, cell))
                if row.trained_on:
                    asked = Run(cell.recipe, self.folder, 0)
                    yield asked.name(asked.data())
        except (LookupFailed, SettingsError) as error:
            yield str(error)


@dataclass(frozen=True)
class RowResult:
    """A row, and what became of it."""

    row: Row
    found: Mapping[str, ConfidenceInterval] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    """Short: `planted:3`, `random:0`, `small`: what makes the numbers no result."""
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → users without a number."""
    why_not: str = ""
    """Why there are no numbers."""
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)
    """One for each seed."""
    gains: Mapping[str, Mapping[str, ConfidenceInterval]] = field(default_factory=dict)
    """Name of another row → metric → what this row has more, over the same users."""


@dataclass(frozen=True)
class _RowRequest:
    """Whom, and how long their videos are: what all rows of a table share."""

    users: Collection[str] | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


def reproduce(
    order: TableRequest, *, device: str = "cpu", workers: int = 0
) -> tuple[RowResult, ...]:
    """Every row of the table, in its order. A row that cannot be made says why, and keeps no other
    from being made.
    """
    asked = _RowRequest()
    networks: dict[str, RowResult] = {}
    for row in order.table.rows:
        if row.recipe:
            networks[row.name], found = _attempt(order, row, device, workers)
            asked = asked if asked.users is not None or found is None else found
    rows = [
        networks.get(row.name)
        or (_baseline(order, row, asked) if row.baseline else RowResult(row, why_not=row.quoted))
        for row in order.table.rows
    ]
    return _compared(order, rows)


def _compared(order: TableRequest, rows: Sequence[RowResult]) -> tuple[RowResult, ...]:
    """The rows with what each has more than those it is compared with; nothing where the users are
    not the same.
    """
    by_name = {measured.row.name: measured for measured in rows}

    def more_than(one: RowResult, other: RowResult) -> dict[str, ConfidenceInterval]:
        if (
            not one.evaluations
            or not other.evaluations
            or one.evaluations[0].ids != other.evaluations[0].ids
        ):
            return {}
        found = paired_gain(one.evaluations, other.evaluations)
        return {metric: found[metric] for metric in order.table.metrics if metric in found}

    return tuple(
        replace(one, gains={name: more_than(one, by_name[name]) for name in one.row.against})
        for one in rows
    )


def _attempt(
    order: TableRequest, row: Row, device: str, workers: int
) -> tuple[RowResult, _RowRequest | None]:
    """The row's cells, each for itself: one that cannot be made keeps no other from being made."""
    try:
        row_cells = order.cells(row)
    except (LookupFailed, SettingsError) as error:
        return RowResult(row, why_not=f"not measured: {error}"), None
    answers: list[list[tuple[EvalRequest, ScoreRun]]] = []
    faults: dict[str, list[str]] = {}
    for cell in row_cells:
        try:
            answers.append(
                [_answers(order, cell, run, device, workers) for run in order.runs(row, cell)]
            )
        except (LookupFailed, SettingsError, RankingSVMError, Diverged) as error:
            faults.setdefault(" ".join(str(error).split()), []).append(cell.domain)
    gaps = _gaps(row_cells[0].recipe)
    why_not = "; ".join(_not_measured(fault, of, len(row_cells)) for fault, of in faults.items())
    so_far = RowResult(row, gaps=gaps, why_not=why_not)
    return _network(order, so_far, answers) if answers else (so_far, None)


def _not_measured(fault: str, domains: list[str], of_how_many: int) -> str:
    where = "" if len(domains) == of_how_many else f" ({', '.join(domains)})"
    return f"not measured{where}: {fault}"


def _network(
    order: TableRequest, so_far: RowResult, answers: list[list[tuple[EvalRequest, ScoreRun]]]
) -> tuple[RowResult, _RowRequest | None]:
    everybody = [
        merge_evaluations([evaluate_run(*asked) for asked in one_seed])
        for one_seed in zip(*answers, strict=True)
    ]
    seeds = [order.keep_requested(found) for found in everybody]
    first = seeds[0]
    dropped = Counter(first.dropped.values())
    if not first.ids:
        return replace(so_far, dropped=dropped, why_not=NOTHING_MEASURED), None
    of_first_seed = [asked[0][1] for asked in answers]
    told = tuple(mark for scores in of_first_seed for mark in scores.provenance.marks)
    notes = tuple(dict.fromkeys(str(note) for scores in of_first_seed for note in _listed(scores)))
    measured = replace(
        so_far,
        found=metric_intervals(order.table, seeds),
        marks=(*_marks(told), *_where(order), *_from(order, so_far.row)),
        notes=notes,
        dropped=dropped,
        evaluations=tuple(seeds),
    )
    durations = {} if order.table.domains else scored_durations(of_first_seed[0].tracks.values())
    return measured, _RowRequest(everybody[0].ids, durations)


def _answers(
    order: TableRequest, cell: Cell, run: Run, device: str, workers: int
) -> tuple[EvalRequest, ScoreRun]:
    with ProgressBar("step") as steps, ProgressBar("video") as videos:
        options = FitOptions(
            device=device,
            workers=workers,
            on_start=steps.start,
            on_step=lambda progress, loss: steps.advance_to(
                progress.step, f"epoch {progress.epoch}, loss {loss:.4g}"
            ),
        )
        question = EvalRequest(fit(run, options), order.folder, order.table.split, cell.asked)
        return question, score_split(
            question, device=device, workers=workers, on_start=videos.start, on_batch=videos.advance
        )


def _baseline(order: TableRequest, row: Row, asked: _RowRequest) -> RowResult:
    seeds = range(BASELINE_SEEDS if is_random(row.baseline) else 1)
    is_of_summaries = set(order.table.metrics) <= {f"f_{over}" for over in AGGREGATION.values()}
    try:
        is_of_videos = order.table.domains or label_rule(read_catalog(order.folder)) is not None
        measure = _of_summaries if is_of_summaries else _of_videos if is_of_videos else _of_users
        judged = [order.keep_requested(found) for found in measure(order, row, asked, seeds)]
    except (LookupFailed, SettingsError) as error:
        return RowResult(row, why_not=f"not measured: {error}")
    dropped = Counter(judged[0].dropped.values())
    if not judged[0].ids:
        return RowResult(row, dropped=dropped, why_not=NOTHING_MEASURED)
    return RowResult(
        row,
        metric_intervals(order.table, judged),
        (*_planted(order), *_where(order)),
        dropped=dropped,
        evaluations=tuple(judged),
    )


def _of_users(order: TableRequest, row: Row, asked: _RowRequest, seeds: range) -> list[Evaluation]:
    truth = find_targets(
        read_catalog(order.folder), order.table.split, PHD2, asked.durations, asked.users
    )
    return [
        evaluate(truth, baseline_tracks(BASELINES[row.baseline], truth, seed)) for seed in seeds
    ]


def _of_summaries(
    order: TableRequest, row: Row, asked: _RowRequest, seeds: range
) -> list[Evaluation]:
    catalog = read_catalog(order.folder)
    ids = [video.video_id for video in catalog.videos]
    return summary_runs(
        catalog, ids, (fixed_length_shots, FIXED_LENGTH_SHOTS), {row.baseline: len(seeds)}
    )[row.baseline]


def _of_videos(order: TableRequest, row: Row, asked: _RowRequest, seeds: range) -> list[Evaluation]:
    table, catalog = order.table, read_catalog(order.folder)
    there = set(all_domains(catalog))
    domains = [one for one in table.domains if one in there]
    if table.domains and not domains:
        raise SettingsError((f"{catalog.name} has none of {', '.join(table.domains)}",))
    truth = evaluated_videos(catalog, table.split, split_settings(table.grouping), domains)
    truth = truth if asked.users is None else truth.only(asked.users)
    return [evaluate_ranker(truth, video_ranker(row.baseline, seed)) for seed in seeds]


def _gaps(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's own, and those of the recipes it starts from."""
    return (
        *recipe.gaps,
        *(gap for part in recipe.start for gap in _gaps(recipe.start_recipe(part))),
    )


def _marks(told: tuple[str, ...]) -> tuple[str, ...]:
    """`c3d-0123456789ab is planted:3: no result` → `planted:3`; whatever has no such word stays as
    it is.
    """
    words = (re.search(r"\b(?:random|planted):\w+", mark) for mark in told)
    return tuple(
        dict.fromkeys(word[0] if word else mark for word, mark in zip(words, told, strict=True))
    )


def _planted(order: TableRequest) -> tuple[str, ...]:
    return tuple(
        re.findall(r"^planted:\w+$", str(read_catalog(order.folder).origin.get("reader", "")))
    )


def _where(order: TableRequest) -> tuple[str, ...]:
    return () if order.layout.catalog == order.table.catalog else (f"on {order.layout.catalog}",)


def _from(order: TableRequest, row: Row) -> tuple[str, ...]:
    """Where the network was trained, if not on the dataset that the row names."""
    if (
        not row.trained_on
        or order.elsewhere is None
        or order.elsewhere.absolute().name == row.trained_on
    ):
        return ()
    return (f"trained on {order.elsewhere.absolute().name}",)


def _listed(scores: ScoreRun) -> list[object]:
    notes = scores.provenance.settings.get("notes", [])
    return list(notes) if isinstance(notes, list) else []
