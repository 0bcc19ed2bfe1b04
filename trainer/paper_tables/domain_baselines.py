"""Prints baselines on a catalog of domains: a line for each domain, and their averages.

Needs only annotations, no features.
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
    """Lines for each ranker and metric: the mean over each domain's videos, and two averages."""
    videos = evaluated_videos(catalog, split, split_settings(grouping))
    first = evaluate_ranker(videos, video_ranker(VIDEO_RANKERS[0]))
    dropped_counts = sorted(Counter(first.dropped.values()).items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in dropped_counts) or "none"
    yield f"{catalog.name}, {first.protocol}, percent, mean [95 % over videos]"
    yield f"videos: {len(first.ids)} of {len(videos.domains)}; dropped: {dropped}"
    yield _heading()
    measured_domains = set(first.groups.values())
    domains = [domain for domain in all_domains(catalog) if domain in measured_domains]
    for name in VIDEO_RANKERS:
        yield from _ranker_lines(name, _runs(videos, name, seeds), domains)


def _ranker_lines(name: str, runs: Sequence[Evaluation], domains: Sequence[str]) -> Iterator[str]:
    for metric in runs[0].values:
        # The share of segments with a score is 1 for every ranker here.
        if metric == "scored_segments":
            continue
        for heading, interval in _averages(runs, metric, domains):
            yield _line(name, metric, heading, interval)


def summary_table(
    catalog: Catalog, ids: Sequence[str], shots: str, folder: Path, seeds: int
) -> Iterator[str]:
    """F-scores of rankers that give each shot one score.

    The oracle gives each frame the mean of the annotators' scores.
    """
    rankers = dict.fromkeys(VIDEO_RANKERS, seeds)
    runs = summary_runs(catalog, ids, load_shots(shots, folder), rankers)
    first = runs[ORACLE][0]
    yield f"{catalog.name}, {first.protocol}, percent, mean [95 % over videos]"
    yield f"videos: {len(first.ids)} of {len(ids)}"
    yield _heading()
    for name, of_ranker in runs.items():
        for metric, interval in confidence_intervals(of_ranker).items():
            yield _line(name, metric, "all", interval)


def summary_runs(
    catalog: Catalog, ids: Sequence[str], shots: tuple[Shots, str], rankers: Mapping[str, int]
) -> dict[str, list[Evaluation]]:
    """Ranker → F-scores. `rankers` is name → number of seeds if the ranker is random."""
    # The shots, and with them the truth, are the same for all rankers: KTS is run once.
    truth = reference_summaries(catalog, ids, shots[0])
    runs = {}
    for name, seeds in rankers.items():
        runs[name] = [
            evaluate_summaries(catalog, truth, _frame_scores(name, seed), shots[1])
            for seed in _seeds(name, seeds)
        ]
    return runs


def _seeds(ranker: str, seeds: int) -> range:
    return range(seeds if is_random(ranker) else 1)


def _frame_scores(name: str, seed: int) -> FrameScores:
    rng = np.random.default_rng(seed)

    def scores(video: ReferenceSummaries) -> Floats:
        if name == ORACLE:
            return np.asarray(video.ratings.mean(axis=0))
        shots = np.stack([video.edges[:-1], video.edges[1:]], 1).astype(np.float64)
        of_shots = BASELINES[name].score(shots, float(video.edges[-1]), rng)
        return np.repeat(of_shots, np.diff(video.edges))

    return scores


def _heading() -> str:
    start = f"{'ranker':<9} {'metric':<15} {'domain':<22} {'measured':>8} {'95 %':^16}"
    return f"{start} {'seeds':>5} {'sd':>5} {'videos':>6} ids"


def _runs(videos: EvaluatedVideos, name: str, seeds: int) -> list[Evaluation]:
    return [evaluate_ranker(videos, video_ranker(name, seed)) for seed in _seeds(name, seeds)]


def _averages(
    runs: Sequence[Evaluation], metric: str, domains: Sequence[str]
) -> Iterator[tuple[str, ConfidenceInterval]]:
    """Heading and interval: of each domain, of the mean of domains, of the mean over videos."""
    headings = {f"{metric}:{domain}": domain for domain in domains}
    headings[metric] = "mean of domains"
    headings[f"{metric}@videos"] = "mean over videos"
    table = Table("", "", "", headings, domains=tuple(domains))
    for key, interval in metric_intervals(table, runs).items():
        yield headings[key], interval


def _line(name: str, metric: str, domain: str, interval: ConfidenceInterval) -> str:
    ends = f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
    sd = "" if interval.seed_sd is None else f"{100 * interval.seed_sd:.2f}"
    start = f"{name:<9} {metric:<15} {domain:<22} {100 * interval.mean:>8.2f} {ends:^16}"
    return f"{start} {interval.seeds:>5} {sd:>5} {interval.n:>6} {interval.short_hash}"
