"""Measures the rows of a published table on a catalog: trains what is missing, scores, evaluates.

Rankers that learn nothing are measured on the users and durations of the table's first measured
network, so that all rows answer the same question. Without such a network, they are measured on all
users of the split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint, ids_sha256
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog
from storage.scores import ScoreRun
from trainer.base.progress import ProgressBar
from trainer.config.recipe import Recipe
from trainer.config.run_code import run_code
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
"""Many, because one random ranking of PHD2's test users has an sd of 0.25 points of mAP."""

SUMMARY_METRICS = frozenset(f"f_{aggregation}" for aggregation in AGGREGATION.values())
"""Metrics of tables about video summaries."""
NOTHING_MEASURED = "not measured: no user or video has a number"


@dataclass(frozen=True)
class TableRequest:
    """A table to be reproduced on a catalog."""

    table: Table
    folder: Path
    """`ROOT/<catalog>`."""
    seeds: int = 1
    is_small: bool = False
    changes: tuple[str, ...] = ()
    """Changes of every recipe of the table."""
    elsewhere: Path | None = None
    """`ROOT/<catalog>` of another dataset, for rows that are trained on it."""
    among: frozenset[str] | None = None
    """IDs of the users or videos to evaluate; None for all of the split."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise SettingsError((f"seeds must be at least 1, got {self.seeds}",))

    @property
    def layout(self) -> Layout:
        """The catalog's files."""
        return Layout(self.folder.absolute().parent, self.folder.absolute().name)

    @property
    def name(self) -> str:
        """The name of its report, such as `phd-gifs-1.3-seeds.small`."""
        parts = [self.table.name, f"{self.seeds}-seeds"]
        if self.is_small:
            parts.append("small")
        if self.changes:
            parts.append(fingerprint(self.changes))
        if self.among is not None:
            parts.append(f"among-{ids_sha256(sorted(self.among))[:8]}")
        return ".".join(parts)

    def keep_requested(self, evaluation: Evaluation) -> Evaluation:
        """The results of the IDs in `among` only; of all IDs if it is None."""
        if self.among is None:
            return evaluation
        requested = set()
        for identity in (*evaluation.ids, *evaluation.dropped):
            # IDs of videos in domains are `domain/video`; `among` may name the video.
            video_id = identity.rpartition("/")[2]
            if not self.among.isdisjoint([identity, video_id]):
                requested.add(identity)
        return evaluation.only(requested)

    def cells(self, row: Row) -> tuple[Cell, ...]:
        """The networks of the row: one, or one for each domain of the table."""
        return row_cells(self.table, row, self.changes, small=self.is_small)

    def runs(self, row: Row, cell: Cell) -> tuple[Run, ...]:
        """A training run for each seed; a single one if nothing is learned.

        Raises SettingsError if the dataset to train on is not given.
        """
        folder = self.elsewhere if row.trained_on else self.folder
        if folder is None:
            raise SettingsError(
                (
                    f"its network is trained on {row.trained_on}; name the folder of this dataset "
                    "with --trained-on",
                )
            )
        # A recipe without stages has nothing to train, so all seeds would be equal.
        n_seeds = self.seeds if cell.recipe.stages else 1
        return tuple(Run(cell.recipe, folder, seed) for seed in range(n_seeds))

    @property
    def fingerprint(self) -> str:
        """12 hex digits over everything that the report depends on, including features."""
        made_of = [[row.name, list(row.asked), *self._run_names(row)] for row in self.table.rows]
        among = {} if self.among is None else {"among": sorted(self.among)}
        return fingerprint({"rows": made_of, "published": self.table, **among})

    def _run_names(self, row: Row) -> Iterator[str]:
        """Names of the row's runs, made of recipe, seed and features, and digests of their code."""
        if not row.recipe:
            return
        try:
            for cell in self.cells(row):
                for run in self.runs(row, cell):
                    yield run.name(run.data())
                    yield from run_code(run.recipe).values()
                if row.trained_on:
                    evaluated = Run(cell.recipe, self.folder, 0)
                    yield evaluated.name(evaluated.data())
        # A row that cannot be made is part of the report with this reason.
        except (LookupFailed, SettingsError) as error:
            yield str(error)


@dataclass(frozen=True)
class RowResult:
    """A row with its measured values, or the reason why there are none."""

    row: Row
    intervals: Mapping[str, ConfidenceInterval] = field(default_factory=dict)
    """Metric → measured value."""
    marks: tuple[str, ...] = ()
    """Why the numbers are not a result, in a word: `planted:3`, `random:0`, `small`."""
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → number of users without a value."""
    why_not: str = ""
    """Why there are no values."""
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False, compare=False)
    """One for each seed."""
    gains: Mapping[str, Mapping[str, ConfidenceInterval]] = field(default_factory=dict)
    """Name of another row → metric → gain over that row, on the same users."""


@dataclass(frozen=True)
class _EvaluatedUsers:
    """The users and video durations that all rows of a table share."""

    users: Collection[str] | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


_Answers = tuple[EvalRequest, ScoreRun]


def reproduce(
    request: TableRequest, *, device: str = "cpu", workers: int = 0
) -> tuple[RowResult, ...]:
    """Every row of the table, in its order.

    A row that cannot be made has the reason instead of values, and the others are made all the
    same.
    """
    # Networks come first, because baselines are measured on the users of the first network.
    users = _EvaluatedUsers()
    networks: dict[str, RowResult] = {}
    for row in request.table.rows:
        if not row.recipe:
            continue
        networks[row.name], users_of_row = _measure_network(request, row, device, workers)
        if users.users is None and users_of_row is not None:
            users = users_of_row
    results = []
    for row in request.table.rows:
        if row.recipe:
            results.append(networks[row.name])
        elif row.baseline:
            results.append(_measure_baseline(request, row, users))
        else:
            results.append(RowResult(row, why_not=row.quoted))
    return _with_gains(request, results)


def _with_gains(request: TableRequest, results: Sequence[RowResult]) -> tuple[RowResult, ...]:
    """The results with their gains over the rows that they are compared with."""
    by_name = {result.row.name: result for result in results}
    with_gains = []
    for result in results:
        gains = {
            other: _gain(request.table, result, by_name[other]) for other in result.row.against
        }
        with_gains.append(replace(result, gains=gains))
    return tuple(with_gains)


def _gain(table: Table, result: RowResult, other: RowResult) -> dict[str, ConfidenceInterval]:
    """Metric → gain over the other row; empty if the users are not the same."""
    if not result.evaluations or not other.evaluations:
        return {}
    if result.evaluations[0].ids != other.evaluations[0].ids:
        return {}
    all_gains = paired_gain(result.evaluations, other.evaluations)
    gains = {}
    for metric in table.metrics:
        if metric in all_gains:
            gains[metric] = all_gains[metric]
    return gains


def _measure_network(
    request: TableRequest, row: Row, device: str, workers: int
) -> tuple[RowResult, _EvaluatedUsers | None]:
    """Train and evaluate the row's cells; one that cannot be made does not stop the others."""
    try:
        cells = request.cells(row)
    except (LookupFailed, SettingsError) as error:
        return RowResult(row, why_not=f"not measured: {error}"), None
    answers: list[list[_Answers]] = []
    domains_of_fault: dict[str, list[str]] = {}
    for cell in cells:
        try:
            runs = request.runs(row, cell)
            # All seeds or none: an average over fewer seeds would look like the others.
            answers.append([_score(request, cell, run, device, workers) for run in runs])
        # Only faults of this row; a fault of the machine or of a file ends the whole table.
        except (LookupFailed, SettingsError, RankingSVMError, Diverged) as error:
            fault = " ".join(str(error).split())
            domains_of_fault.setdefault(fault, []).append(cell.domain)
    faults = [
        _not_measured(fault, domains, len(cells)) for fault, domains in domains_of_fault.items()
    ]
    unmeasured = RowResult(row, gaps=_gaps(cells[0].recipe), why_not="; ".join(faults))
    if not answers:
        return unmeasured, None
    return _evaluate_network(request, unmeasured, answers)


def _not_measured(fault: str, domains: list[str], n_cells: int) -> str:
    where = "" if len(domains) == n_cells else f" ({', '.join(domains)})"
    return f"not measured{where}: {fault}"


def _evaluate_network(
    request: TableRequest, unmeasured: RowResult, answers: list[list[_Answers]]
) -> tuple[RowResult, _EvaluatedUsers | None]:
    """`answers` has a list for each cell, with a pair for each seed."""
    all_ids = []
    for of_seed in zip(*answers, strict=True):
        all_ids.append(merge_evaluations([evaluate_run(*answer) for answer in of_seed]))
    evaluations = [request.keep_requested(evaluation) for evaluation in all_ids]
    dropped = Counter(evaluations[0].dropped.values())
    if not evaluations[0].ids:
        return replace(unmeasured, dropped=dropped, why_not=NOTHING_MEASURED), None
    # Seeds of a row have the same features and recipe, so their marks and notes are the same.
    first_runs = [of_cell[0][1] for of_cell in answers]
    marks: list[str] = []
    notes: list[str] = []
    for run in first_runs:
        marks += run.provenance.marks
        notes += _notes(run)
    measured = replace(
        unmeasured,
        intervals=metric_intervals(request.table, evaluations),
        marks=(
            *_short_marks(marks),
            *_catalog_mark(request),
            *_training_mark(request, unmeasured.row),
        ),
        notes=tuple(dict.fromkeys(notes)),
        dropped=dropped,
        evaluations=tuple(evaluations),
    )
    # Users' targets are cut into segments by the decoded duration, and baselines must be too.
    durations: dict[str, float] = {}
    if not request.table.domains:
        durations = scored_durations(first_runs[0].tracks.values())
    return measured, _EvaluatedUsers(all_ids[0].ids, durations)


def _score(request: TableRequest, cell: Cell, run: Run, device: str, workers: int) -> _Answers:
    """Train the network, unless it is there, and score the split, unless scores are there."""
    with ProgressBar("step") as steps, ProgressBar("video") as videos:
        options = FitOptions(
            device=device,
            workers=workers,
            on_start=steps.start,
            on_step=lambda progress, loss: steps.advance_to(
                progress.step, f"epoch {progress.epoch}, loss {loss:.4g}"
            ),
        )
        model = fit(run, options)
        eval_request = EvalRequest(model, request.folder, request.table.split, cell.data_changes)
        answers = score_split(
            eval_request,
            device=device,
            workers=workers,
            on_start=videos.start,
            on_batch=videos.advance,
        )
    return eval_request, answers


def _measure_baseline(request: TableRequest, row: Row, users: _EvaluatedUsers) -> RowResult:
    seeds = range(BASELINE_SEEDS if is_random(row.baseline) else 1)
    try:
        evaluate_baseline = _baseline_evaluator(request)
        evaluations = [
            request.keep_requested(evaluation)
            for evaluation in evaluate_baseline(request, row, users, seeds)
        ]
    except (LookupFailed, SettingsError) as error:
        return RowResult(row, why_not=f"not measured: {error}")
    dropped = Counter(evaluations[0].dropped.values())
    if not evaluations[0].ids:
        return RowResult(row, dropped=dropped, why_not=NOTHING_MEASURED)
    return RowResult(
        row,
        metric_intervals(request.table, evaluations),
        (*_planted_mark(request), *_catalog_mark(request)),
        dropped=dropped,
        evaluations=tuple(evaluations),
    )


_BaselineEvaluator = Callable[[TableRequest, Row, _EvaluatedUsers, range], list[Evaluation]]
"""Table, row, users and seeds → an evaluation for each seed."""


def _baseline_evaluator(request: TableRequest) -> _BaselineEvaluator:
    """The evaluator for what the table is about: summaries, videos, or users."""
    if set(request.table.metrics) <= SUMMARY_METRICS:
        return _evaluate_summaries
    if request.table.domains or label_rule(read_catalog(request.folder)) is not None:
        return _evaluate_videos
    return _evaluate_users


def _evaluate_users(
    request: TableRequest, row: Row, users: _EvaluatedUsers, seeds: range
) -> list[Evaluation]:
    catalog, split = read_catalog(request.folder), request.table.split
    truth = find_targets(catalog, split, PHD2, users.durations, users.users)
    baseline = BASELINES[row.baseline]
    return [evaluate(truth, baseline_tracks(baseline, truth, seed)) for seed in seeds]


def _evaluate_summaries(
    request: TableRequest, row: Row, users: _EvaluatedUsers, seeds: range
) -> list[Evaluation]:
    catalog = read_catalog(request.folder)
    ids = [video.video_id for video in catalog.videos]
    shots = (fixed_length_shots, FIXED_LENGTH_SHOTS)
    runs = summary_runs(catalog, ids, shots, {row.baseline: len(seeds)})
    return runs[row.baseline]


def _evaluate_videos(
    request: TableRequest, row: Row, users: _EvaluatedUsers, seeds: range
) -> list[Evaluation]:
    table, catalog = request.table, read_catalog(request.folder)
    known_domains = set(all_domains(catalog))
    # Set-based learning has domains that a catalog of another paper does not have.
    domains = [domain for domain in table.domains if domain in known_domains]
    if table.domains and not domains:
        raise SettingsError((f"{catalog.name} has none of {', '.join(table.domains)}",))
    truth = evaluated_videos(catalog, table.split, split_settings(table.grouping), domains)
    if users.users is not None:
        truth = truth.only(users.users)
    return [evaluate_ranker(truth, video_ranker(row.baseline, seed)) for seed in seeds]


def _gaps(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's own gaps, and those of the recipes that it starts from."""
    gaps = list(recipe.gaps)
    for part in recipe.start:
        gaps += _gaps(recipe.start_recipe(part))
    return tuple(gaps)


def _short_marks(marks: Sequence[str]) -> tuple[str, ...]:
    """`c3d-0123456789ab is planted:3: no result` → `planted:3`, each once.

    A mark without such a word is kept as it is.
    """
    short = []
    for mark in marks:
        word = re.search(r"\b(?:random|planted):\w+", mark)
        short.append(word[0] if word else mark)
    return tuple(dict.fromkeys(short))


def _planted_mark(request: TableRequest) -> list[str]:
    reader = str(read_catalog(request.folder).origin.get("reader", ""))
    return re.findall(r"^planted:\w+$", reader)


def _catalog_mark(request: TableRequest) -> tuple[str, ...]:
    """The measured catalog, if the table is about another one."""
    catalog = request.layout.catalog
    return () if catalog == request.table.catalog else (f"on {catalog}",)


def _training_mark(request: TableRequest, row: Row) -> tuple[str, ...]:
    """The catalog of the training, if the row names another one."""
    if not row.trained_on or request.elsewhere is None:
        return ()
    catalog = request.elsewhere.absolute().name
    return () if catalog == row.trained_on else (f"trained on {catalog}",)


def _notes(run: ScoreRun) -> list[str]:
    notes = run.provenance.settings.get("notes", [])
    return [str(note) for note in notes] if isinstance(notes, list) else []
