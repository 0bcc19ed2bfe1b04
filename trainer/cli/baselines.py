"""`python -m trainer baselines FOLDER`: what rankers that learn nothing get on a catalog.

The baselines are chance, position in the video and duration; annotated videos have an oracle too.
Users' targets are shown beside published numbers, and catalogs of domains have a line for each
domain. Annotations are enough where they state the durations of videos; others need features.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from storage import FeatureStore
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.store import VariantReader
from trainer.cli.options import add_folder, add_seeds, check_at_least_one
from trainer.data.labels.annotator_labels import label_rule
from trainer.data.labels.splits import split_videos
from trainer.evaluation.baselines import BASELINES, baseline_tracks
from trainer.evaluation.domain_protocol import split_settings
from trainer.evaluation.phd2_protocol import Targets, evaluate, find_targets
from trainer.evaluation.statistics import ConfidenceInterval, Evaluation, confidence_intervals
from trainer.evaluation.summary_protocol import SUMMARIES
from trainer.paper_tables.domain_baselines import summary_table, video_table

METRICS = {
    "ap": "mAP",
    "nmsd": "nMSD",
    "recall_at_5": "R@5",
    "ap_uninterpolated": "mAP n.i.",
    "ap_step": "mAP step",
}
"""Metric → heading; a lower nMSD is better."""
PUBLISHED = {"random": {"ap": 12.97, "nmsd": 50.60, "recall_at_5": 21.38}}
"""Percent; PHD-GIFs (Garcia del Molino and Gygli, 2018), table 1, on the test set of PHD2."""
PUBLISHED_ON = ("phd2", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_folder(parser, "ROOT/<catalog>; it needs no features")
    parser.add_argument("--split", default="test", help="the split to evaluate")
    parser.add_argument(
        "--grouping", default="", help="which split, if a catalog has several, such as umt"
    )
    parser.add_argument(
        "--summaries",
        action="store_true",
        help="F-scores of summaries, on TVSum; SumMe always has these",
    )
    parser.add_argument(
        "--shots",
        default="",
        help="for summaries: a file with a table of shots, or an array for KTS to find them",
    )
    add_seeds(parser, 20, "seeds of random rankers")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Evaluate; yields the lines of the table."""
    check_at_least_one(options, "seeds")
    catalog = read_catalog(options.folder)
    if options.summaries or catalog.origin.get("reader") == SUMMARIES:
        part = options.split if options.grouping else "all"
        ids, _ = split_videos(catalog, part, split_settings(options.grouping), domain="")
        yield from summary_table(catalog, ids, options.shots, options.folder, options.seeds)
    elif label_rule(catalog) is not None:
        yield from video_table(catalog, options.split, options.grouping, options.seeds)
    else:
        yield from _user_table(catalog, options.split, options.seeds, options.folder)


def _user_table(catalog: Catalog, split: str, seeds: int, folder: Path) -> Iterator[str]:
    targets = find_targets(catalog, split, durations=_decoded_durations(catalog, folder))
    rows = {name: _runs(name, targets, seeds) for name in BASELINES}
    # The published row is only comparable on the same users.
    published = PUBLISHED if (catalog.name, split) == PUBLISHED_ON else {}
    yield from table(f"{catalog.name} {split}", rows, published)


def _decoded_durations(catalog: Catalog, folder: Path) -> dict[str, float]:
    """Seconds of the videos whose duration the catalog does not claim, where they have features."""
    unknown = [one.video_id for one in catalog.videos if one.claimed_duration_seconds is None]
    durations: dict[str, float] = {}
    store = FeatureStore(folder)
    for name in store.variants() if unknown else ():
        reader = store[name]
        for video_id in unknown:
            if video_id in reader and video_id not in durations:
                durations[video_id] = _decoded_seconds(reader, video_id)
    return durations


def _decoded_seconds(reader: VariantReader, video_id: str) -> float:
    """When the last frame ends; when the last row ends, of features that were not decoded."""
    decoded = reader.entry(video_id).facts.get("decode")
    end = decoded.get("end_seconds") if isinstance(decoded, dict) else None
    return float(end) if isinstance(end, float) else float(reader[video_id].spans[:, 1].max())


def _runs(name: str, targets: Targets, seeds: int) -> list[Evaluation]:
    baseline = BASELINES[name]
    n_seeds = seeds if baseline.is_random else 1
    return [evaluate(targets, baseline_tracks(baseline, targets, seed)) for seed in range(n_seeds)]


def table(
    title: str,
    rows: Mapping[str, Sequence[Evaluation]],
    published: Mapping[str, Mapping[str, float]],
) -> Iterator[str]:
    """A line for each ranker and metric: published, measured, interval and seeds."""
    intervals = {name: confidence_intervals(runs) for name, runs in rows.items()}
    first_name = next(iter(rows))
    first, sample = rows[first_name][0], intervals[first_name]["ap"]
    reasons = sorted(Counter(first.dropped.values()).items())
    dropped = ", ".join(f"{count} {reason}" for reason, count in reasons) or "none"
    users = f"{sample.n} of {sample.n + sample.n_dropped}"
    yield f"{title}, {first.protocol}, percent, mean [95 % over users]"
    yield f"users: {users}, ids {sample.short_hash}; dropped: {dropped}"
    numbers = f"{'published':>9} {'measured':>8} {'95 %':^16} {'seeds':>5} {'sd':>5}"
    yield f"{'ranker':<12} {'metric':<9} {numbers}"
    for name, of_ranker in intervals.items():
        for metric, heading in METRICS.items():
            printed = published.get(name, {}).get(metric)
            yield _line(name, heading, printed, of_ranker[metric])


def _line(name: str, heading: str, published: float | None, interval: ConfidenceInterval) -> str:
    printed = "" if published is None else f"{published:.2f}"
    ends = f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
    sd = "" if interval.seed_sd is None else f"{100 * interval.seed_sd:.2f}"
    number = f"{100 * interval.mean:>8.2f} {ends:^16}"
    return f"{name:<12} {heading:<9} {printed:>9} {number} {interval.seeds:>5} {sd:>5}".rstrip()
