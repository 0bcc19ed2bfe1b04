"""What rankers that learn nothing score on a catalog of domains: lines of text, a domain each, and
their averages.

Needs annotations only. Refuses to know what a model learns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from storage.catalog.catalog import Catalog
from trainer.evaluation.baselines import BASELINES, ORACLE, VIDEO_RANKERS, is_random, video_ranker
from trainer.evaluation.domain_protocol import (
    EvaluatedVideos,
    all_domains,
    evaluate_ranker,
    evaluated_videos,
    split_settings,
)
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation, confidence_intervals
from trainer.evaluation.summary_protocol import (
    FrameScores,
    ReferenceSummaries,
    Shots,
    evaluate_summaries,
    load_shots,
    reference_summaries,
)
from trainer.metrics.ranking import Floats
from trainer.paper_tables.domain_cells import metric_intervals
from trainer.paper_tables.published import Table


def video_table(catalog: Catalog, split: str, grouping: str, seeds: int) -> Iterator[str]:
    """Per ranker, metric and domain: the mean over its videos; then the mean of domains, and the
    mean over videos.
    """
    asked = evaluated_videos(catalog, split, split_settings(grouping))
    first = evaluate_ranker(asked, video_ranker(VIDEO_RANKERS[0]))
    dropped = ", ".join(
        f"{count} {reason}" for reason, count in sorted(Counter(first.dropped.values()).items())
    )
    yield f"{catalog.name}, {first.protocol}, percent, mean [95 % over videos]"
    yield f"videos: {len(first.ids)} of {len(asked.domains)}; dropped: {dropped or 'none'}"
    yield _heading()
    domains = [one for one in all_domains(catalog) if one in first.groups.values()]
    for name in VIDEO_RANKERS:
        runs = _runs(asked, name, seeds)
        for metric in runs[0].values:
            if metric != "scored_segments":
                yield from (_line(name, metric, *one) for one in _averages(runs, metric, domains))


def summary_table(
    catalog: Catalog, ids: Sequence[str], shots: str, folder: Path, seeds: int
) -> Iterator[str]:
    """F-scores of rankers that give a shot one score; the oracle gives a frame the mean of what
    people did.
    """
    runs = summary_runs(
        catalog, ids, load_shots(shots, folder), dict.fromkeys(VIDEO_RANKERS, seeds)
    )
    first = runs[ORACLE][0]
    yield f"{catalog.name}, {first.protocol}, percent, mean [95 % over videos]"
    yield f"videos: {len(first.ids)} of {len(ids)}"
    yield _heading()
    yield from (_line(name, *one) for name, found in runs.items() for one in _plain(found))


def summary_runs(
    catalog: Catalog, ids: Sequence[str], shots: tuple[Shots, str], rankers: Mapping[str, int]
) -> dict[str, list[Evaluation]]:
    """Ranker → F-scores, with as many seeds as `rankers` says if it rolls dice."""
    truth = reference_summaries(catalog, ids, shots[0])
    return {
        name: [
            evaluate_summaries(catalog, truth, _frame_scores(name, seed), shots[1])
            for seed in range(seeds if is_random(name) else 1)
        ]
        for name, seeds in rankers.items()
    }


def _frame_scores(name: str, seed: int) -> FrameScores:
    dice = np.random.default_rng(seed)

    def scores(video: ReferenceSummaries) -> Floats:
        if name == ORACLE:
            return np.asarray(video.ratings.mean(axis=0))
        shots = np.stack([video.edges[:-1], video.edges[1:]], 1).astype(np.float64)
        return np.repeat(
            BASELINES[name].score(shots, float(video.edges[-1]), dice), np.diff(video.edges)
        )

    return scores


def _plain(runs: Sequence[Evaluation]) -> Iterator[tuple[str, str, ConfidenceInterval]]:
    yield from ((metric, "all", found) for metric, found in confidence_intervals(runs).items())


def _heading() -> str:
    start = f"{'ranker':<9} {'metric':<15} {'domain':<22} {'measured':>8} {'95 %':^16}"
    return f"{start} {'seeds':>5} {'sd':>5} {'videos':>6} ids"


def _runs(asked: EvaluatedVideos, name: str, seeds: int) -> list[Evaluation]:
    return [
        evaluate_ranker(asked, video_ranker(name, seed))
        for seed in range(seeds if is_random(name) else 1)
    ]


def _averages(
    runs: Sequence[Evaluation], metric: str, domains: Sequence[str]
) -> Iterator[tuple[str, ConfidenceInterval]]:
    wanted = {f"{metric}:{domain}": domain for domain in domains}
    wanted |= {metric: "mean of domains", f"{metric}@videos": "mean over videos"}
    found = metric_intervals(Table("", "", "", wanted, domains=tuple(domains)), runs)
    yield from ((wanted[key], one) for key, one in found.items())


def _line(name: str, metric: str, domain: str, found: ConfidenceInterval) -> str:
    interval = f"[{100 * found.low:.2f}, {100 * found.high:.2f}]"
    sd = "" if found.seed_sd is None else f"{100 * found.seed_sd:.2f}"
    start = f"{name:<9} {metric:<15} {domain:<22} {100 * found.mean:>8.2f} {interval:^16}"
    return f"{start} {found.seeds:>5} {sd:>5} {found.n:>6} {found.short_hash}"
