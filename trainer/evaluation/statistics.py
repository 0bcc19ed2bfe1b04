"""Metrics with what is needed to compare them: sample size, IDs, confidence interval and seeds.

Nothing is dropped here: an ID without a value has to be passed as dropped, with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.base.fingerprint import ids_sha256
from trainer.metrics.ranking import Floats

RESAMPLES = 2000
LEVEL = 0.95
UNMEASURED = (
    "A target has an unknown_duration until its video has features, and an empty_truth if no mark "
    "lies inside its video"
)
_CHUNK = 250
"""Resamples drawn at once, to bound memory: 250 × 100,000 users take 200 MB."""


@dataclass(frozen=True)
class Evaluation:
    """The results of one seed of one system under a protocol: a value per metric and ID."""

    protocol: str
    """Name and version, such as `phd2-segments/1`."""
    ids: tuple[str, ...]
    """Ascending: users, or videos where there are no users."""
    values: Mapping[str, Floats]
    """Metric → `(n,)`, in the order of `ids`."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Id → why it has no value."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """ID → its category, if the mean over categories is wanted; empty for a plain mean."""

    def __post_init__(self) -> None:
        measured = set(self.ids)
        if list(self.ids) != sorted(measured):
            raise ValueError("ids must ascend, each once")
        if measured & self.dropped.keys():
            raise ValueError("an id has a value or is dropped, not both")
        if self.groups and measured - self.groups.keys():
            raise ValueError("either every id has a group, or none")
        for metric, values in self.values.items():
            is_complete = len(values) == len(self.ids)
            if not is_complete or not np.isfinite(values).all():
                raise ValueError(f"metric {metric} needs {len(self.ids)} finite values")

    def only(self, chosen: Collection[str]) -> Evaluation:
        """The results of the chosen IDs only, including those of them that were dropped."""
        positions = [position for position, name in enumerate(self.ids) if name in chosen]
        return replace(
            self,
            ids=tuple(self.ids[position] for position in positions),
            values={metric: values[positions] for metric, values in self.values.items()},
            dropped=_chosen_items(self.dropped, chosen),
            groups=_chosen_items(self.groups, chosen),
        )


def _chosen_items(table: Mapping[str, str], chosen: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in table.items() if name in chosen}


@dataclass(frozen=True)
class ConfidenceInterval:
    """The mean of a metric over IDs (over groups of IDs, if there are any) and over seeds."""

    metric: str
    mean: float
    low: float
    high: float
    """Ends of the 95 % percentile bootstrap over IDs: the range for other users of the same kind,
    with the same seeds.
    """
    n: int
    ids_sha256: str
    """Of the n IDs: two numbers can be compared only if it is the same."""
    protocol: str
    seeds: int
    seed_sd: float | None
    """Standard deviation of the mean from seed to seed; None for a single seed."""
    n_dropped: int
    n_groups: int = 1

    def __str__(self) -> str:
        sd = "" if self.seed_sd is None else f" sd {100 * self.seed_sd:.2f} over {self.seeds} seeds"
        interval = f"[{100 * self.low:.2f}, {100 * self.high:.2f}]"
        return f"{100 * self.mean:.2f} {interval}{sd} n={self.n} {self.short_hash}"

    @property
    def short_hash(self) -> str:
        """The first 8 hex digits of `ids_sha256`, for printing."""
        return self.ids_sha256[:8]


def confidence_intervals(
    runs: Sequence[Evaluation], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, ConfidenceInterval]:
    """Every metric's mean over the IDs of `runs`, which are the seeds of one system.

    IDs are resampled within their groups; the same resamples serve every metric. Raises ValueError
    unless all runs have the same protocol, metrics and IDs: numbers over different users are not
    averaged.
    """
    first = _check_comparable(runs)
    groups = _group_positions(first)
    # (seeds, n) values of each metric.
    stacked = {metric: np.stack([run.values[metric] for run in runs]) for metric in first.values}
    # Seeds are averaged before IDs are resampled: the interval is about other users, and
    # `seed_sd` is about other seeds.
    mean_over_seeds = np.stack([values.mean(axis=0) for values in stacked.values()])
    low, high = _bootstrap(mean_over_seeds, groups, seed, resamples)
    intervals = {}
    for row, (metric, values) in enumerate(stacked.items()):
        # One mean per seed; their spread is `seed_sd`.
        mean_of_seed = _mean_of_groups(values, groups)
        intervals[metric] = ConfidenceInterval(
            metric=metric,
            mean=float(mean_of_seed.mean()),
            low=float(low[row]),
            high=float(high[row]),
            n=len(first.ids),
            ids_sha256=ids_sha256(first.ids),
            protocol=first.protocol,
            seeds=len(runs),
            seed_sd=float(mean_of_seed.std(ddof=1)) if len(runs) > 1 else None,
            n_dropped=len(first.dropped),
            n_groups=len(groups),
        )
    return intervals


def paired_difference(first: Evaluation, second: Evaluation) -> Evaluation:
    """ID by ID, `first` minus `second`: its interval says whether one system is better.

    Raises ValueError unless both have the same protocol, metrics and IDs.
    """
    _check_comparable([first, second])
    differences = {
        metric: values - second.values[metric] for metric, values in first.values.items()
    }
    return replace(first, values=differences)


def mean_over_runs(runs: Sequence[Evaluation]) -> Evaluation:
    """ID by ID, the mean over the seeds of one system.

    Raises ValueError as `confidence_intervals` does.
    """
    first = _check_comparable(runs)
    means = {metric: np.mean([run.values[metric] for run in runs], 0) for metric in first.values}
    return replace(first, values=means)


def paired_gain(
    runs: Sequence[Evaluation], others: Sequence[Evaluation]
) -> dict[str, ConfidenceInterval]:
    """The paired interval of one system's gain over another, for each metric, over the same IDs.

    Each seed of the one is compared with the other's mean over its seeds. IDs differ more than
    systems do, and the same IDs are hard for both, so this interval is far narrower than those of
    the two means. Raises ValueError as `paired_difference` does.
    """
    other = mean_over_runs(others)
    return confidence_intervals([paired_difference(run, other) for run in runs])


def _check_comparable(runs: Sequence[Evaluation]) -> Evaluation:
    """The first run. Raises ValueError unless all are over the same IDs and metrics.

    SettingsError if no id has a value.
    """
    if not runs:
        raise ValueError("no run was given: nothing to average")
    first = runs[0]
    for run in runs[1:]:
        if not _are_comparable(run, first):
            raise ValueError(
                f"{_described(run)} is not averaged with {_described(first)}; "
                "keep the ids both have"
            )
    if not first.ids:
        reasons = Counter(first.dropped.values())
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise SettingsError(
            (
                f"no user or video can be measured under {first.protocol}; dropped: "
                f"{dropped or 'none'}. {UNMEASURED}",
            )
        )
    return first


def _are_comparable(run: Evaluation, other: Evaluation) -> bool:
    is_same_protocol = run.protocol == other.protocol and set(run.values) == set(other.values)
    return is_same_protocol and run.ids == other.ids and dict(run.groups) == dict(other.groups)


def _described(run: Evaluation) -> str:
    return f"{run.protocol} over {len(run.ids)} ids {ids_sha256(run.ids)[:8]}"


def _group_positions(run: Evaluation) -> list[NDArray[np.intp]]:
    """Positions of the IDs of each group; a single group of all IDs if there are no groups."""
    names = np.array([run.groups.get(identity, "") for identity in run.ids])
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _mean_of_groups(values: Floats, groups: Sequence[NDArray[np.intp]]) -> Floats:
    """`(..., n)` → `(...,)`: the mean of the groups' means."""
    means = [values[..., positions].mean(axis=-1) for positions in groups]
    return np.asarray(np.mean(means, axis=0))


def _bootstrap(
    values: Floats, groups: Sequence[NDArray[np.intp]], seed: int, resamples: int
) -> tuple[Floats, Floats]:
    """`(metrics, n)` values → low and high ends, `(metrics,)` each."""
    rng = np.random.default_rng(seed)
    means_of_chunks = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        means_of_groups = []
        for positions in groups:
            n = len(positions)
            # How often each ID is drawn, instead of the draws themselves: one matrix product then
            # gives the means of all metrics.
            counts = rng.multinomial(n, np.full(n, 1 / n), size)
            means_of_groups.append(values[:, positions] @ counts.T / n)
        means_of_chunks.append(np.mean(means_of_groups, axis=0))
    means = np.concatenate(means_of_chunks, axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return low, high
