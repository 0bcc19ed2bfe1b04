"""A number with all that it takes to compare it: how many it is the mean of, which, how sure, over
how many seeds.

Refuses to know what was measured, and never drops anything by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from storage.base.fingerprint import ids_sha256
from trainer.metrics.ranking import Floats

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK = 250
"""Resamples drawn at once, to bound memory: 250 × 100,000 users are 200 MB."""


@dataclass(frozen=True)
class Evaluation:
    """What one set of scores (one seed of one system) got under a protocol: a value per metric and
    id.
    """

    protocol: str
    """Name and version, such as `phd2-segments/1`."""
    ids: tuple[str, ...]
    """Ascending: users, or videos where there are no users."""
    values: Mapping[str, Floats]
    """Metric → `(n,)`, in the order of `ids`."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Id → why it has no value."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Id → its category, where a mean over categories is asked for; empty for a plain mean."""

    def __post_init__(self) -> None:
        if list(self.ids) != sorted(set(self.ids)) or set(self.ids) & self.dropped.keys():
            raise ValueError("ids ascend, each once, and none of them is dropped as well")
        if any(
            len(values) != len(self.ids) or not np.isfinite(values).all()
            for values in self.values.values()
        ):
            raise ValueError(f"each metric has {len(self.ids)} finite values")
        if self.groups and set(self.ids) - self.groups.keys():
            raise ValueError("either every id has a group, or none")

    def only(self, chosen: Collection[str]) -> Evaluation:
        """The same about the chosen ids alone, whether they have a value or were dropped."""
        places = [place for place, one in enumerate(self.ids) if one in chosen]
        return replace(
            self,
            ids=tuple(self.ids[place] for place in places),
            values={metric: values[places] for metric, values in self.values.items()},
            dropped={one: reason for one, reason in self.dropped.items() if one in chosen},
            groups={one: name for one, name in self.groups.items() if one in chosen},
        )


@dataclass(frozen=True)
class ConfidenceInterval:
    """The mean of a metric over ids (over groups of ids, if there are any), and over seeds."""

    metric: str
    mean: float
    low: float
    high: float
    """Percentile bootstrap over ids, 95 %: what other users of the same kind would give, with the
    same seeds.
    """
    n: int
    ids_sha256: str
    """Of the n ids: two numbers compare only if it is the same."""
    protocol: str
    seeds: int
    seed_sd: float | None
    """Standard deviation of the mean from seed to seed; None for a single seed."""
    n_dropped: int
    n_groups: int = 1

    def __str__(self) -> str:
        sd = "" if self.seed_sd is None else f" sd {100 * self.seed_sd:.2f} over {self.seeds} seeds"
        return f"{100 * self.mean:.2f} [{100 * self.low:.2f}, {100 * self.high:.2f}]{sd} n={self.n} {self.short_hash}"

    @property
    def short_hash(self) -> str:
        """The first 8 hex digits of `ids_sha256`, for printing."""
        return self.ids_sha256[:8]


def confidence_intervals(
    runs: Sequence[Evaluation], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, ConfidenceInterval]:
    """Every metric's mean over the ids of `runs`, which are the seeds of one system.

    Ids are resampled within their groups; the same resamples serve every metric. Raises ValueError
    unless all runs have the same protocol, metrics and ids: numbers over different users are not
    averaged.
    """
    first, groups = _alike(runs), _groups(runs[0])
    stacked = {metric: np.stack([run.values[metric] for run in runs]) for metric in first.values}
    per_id = np.stack([values.mean(axis=0) for values in stacked.values()])
    low, high = _interval(per_id, groups, seed, resamples)
    return {
        metric: ConfidenceInterval(
            metric=metric,
            mean=float(_macro(values, groups).mean()),
            low=float(low[place]),
            high=float(high[place]),
            n=len(first.ids),
            ids_sha256=ids_sha256(first.ids),
            protocol=first.protocol,
            seeds=len(runs),
            seed_sd=float(_macro(values, groups).std(ddof=1)) if len(runs) > 1 else None,
            n_dropped=len(first.dropped),
            n_groups=len(groups),
        )
        for place, (metric, values) in enumerate(stacked.items())
    }


def paired_difference(one: Evaluation, other: Evaluation) -> Evaluation:
    """Id by id, what `one` has more than `other`: its estimate says whether one system beats the
    other.

    Raises ValueError unless both have the same protocol, metrics and ids.
    """
    _alike([one, other])
    return replace(
        one, values={metric: values - other.values[metric] for metric, values in one.values.items()}
    )


def mean_over_runs(runs: Sequence[Evaluation]) -> Evaluation:
    """Id by id, the mean over the seeds of one system. Raises ValueError as `estimates` does."""
    first = _alike(runs)
    return replace(
        first,
        values={
            metric: np.mean([run.values[metric] for run in runs], 0) for metric in first.values
        },
    )


def paired_gain(
    runs: Sequence[Evaluation], others: Sequence[Evaluation]
) -> dict[str, ConfidenceInterval]:
    """What one system has more than another, metric by metric, over the same ids: the paired
    interval.

    Each seed of the one against the other's mean over its seeds. Ids differ more than systems do,
    and the same ids are hard for both, so this interval is far narrower than those of the two
    means. Raises ValueError as `difference` does.
    """
    other = mean_over_runs(others)
    return confidence_intervals([paired_difference(run, other) for run in runs])


def _alike(runs: Sequence[Evaluation]) -> Evaluation:
    if not runs:
        raise ValueError("there is nothing to average: no run was given")
    first = runs[0]
    for run in runs[1:]:
        if (run.protocol, set(run.values), dict(run.groups)) != (
            first.protocol,
            set(first.values),
            dict(first.groups),
        ) or run.ids != first.ids:
            raise ValueError(
                f"{run.protocol} over {len(run.ids)} ids {ids_sha256(run.ids)[:8]} is not averaged with "
                f"{first.protocol} over {len(first.ids)} ids {ids_sha256(first.ids)[:8]}; keep the ids both have"
            )
    if not first.ids:
        raise ValueError(
            f"no id has a value under {first.protocol}; dropped: {dict(first.dropped)}"
        )
    return first


def _groups(run: Evaluation) -> list[NDArray[np.intp]]:
    """Places of the ids of each group; one group of all where there are none."""
    names = np.array([run.groups.get(identity, "") for identity in run.ids])
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _macro(values: Floats, groups: Sequence[NDArray[np.intp]]) -> Floats:
    """`(..., n)` → `(...,)`: the mean of the groups' means."""
    return np.asarray(np.mean([values[..., places].mean(axis=-1) for places in groups], axis=0))


def _interval(
    values: Floats, groups: Sequence[NDArray[np.intp]], seed: int, resamples: int
) -> tuple[Floats, Floats]:
    dice = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        means = [
            values[:, places]
            @ dice.multinomial(len(places), np.full(len(places), 1 / len(places)), size).T
            / len(places)
            for places in groups
        ]
        drawn.append(np.mean(means, axis=0))
    low, high = np.quantile(
        np.concatenate(drawn, axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1
    )
    return low, high
