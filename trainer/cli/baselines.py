"""`python -m trainer baselines FOLDER`: chance, place and duration on a catalog, and where there is
one, an oracle.

Users' targets have published numbers beside them; catalogs of domains have a line for each domain.
Needs annotations only: a catalog that was built, and no video. Refuses to know what a model learns.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from storage.base.errors import SettingsError
from storage.catalog.catalog import read_catalog
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
"""What the table shows, and how it is headed; a lower nMSD is better."""
PUBLISHED = {"random": {"ap": 12.97, "nmsd": 50.60, "recall_at_5": 21.38}}
"""Percent; PHD-GIFs (Garcia del Molino and Gygli, 2018), table 1, on the test set of PHD2."""
PUBLISHED_ON = ("phd2", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="ROOT/<catalog>; it needs no features"
    )
    parser.add_argument("--split", default="test", help="whose users are asked")
    parser.add_argument(
        "--grouping", default="", help="which split, where a catalog has several, such as umt"
    )
    parser.add_argument(
        "--summaries", action="store_true", help="F-scores of summaries, on TVSum; on SumMe always"
    )
    parser.add_argument(
        "--shots",
        default="",
        help="of summaries: a table of shots, or an array for KTS to find them",
    )
    parser.add_argument(
        "--seeds", type=int, default=20, help="how many seeds for rankers that roll dice"
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table."""
    if options.seeds < 1:
        raise SettingsError((f"--seeds is at least 1, got {options.seeds}",))
    catalog = read_catalog(options.folder)
    if options.summaries or catalog.origin.get("reader") == SUMMARIES:
        settings = split_settings(options.grouping)
        ids = split_videos(
            catalog, options.split if options.grouping else "all", settings, domain=""
        )[0]
        yield from summary_table(catalog, ids, options.shots, options.folder, options.seeds)
        return
    if label_rule(catalog) is not None:
        yield from video_table(catalog, options.split, options.grouping, options.seeds)
        return
    asked = find_targets(catalog, options.split)
    rows = {name: _runs(name, asked, options.seeds) for name in BASELINES}
    published = PUBLISHED if (catalog.name, options.split) == PUBLISHED_ON else {}
    yield from table(f"{catalog.name} {options.split}", rows, published)


def _runs(name: str, asked: Targets, seeds: int) -> list[Evaluation]:
    baseline = BASELINES[name]
    wanted = range(seeds if baseline.is_random else 1)
    return [evaluate(asked, baseline_tracks(baseline, asked, seed)) for seed in wanted]


def table(
    title: str,
    rows: Mapping[str, Sequence[Evaluation]],
    published: Mapping[str, Mapping[str, float]],
) -> Iterator[str]:
    """Lines of text: per ranker and metric the published number beside ours, with its interval and
    seeds.
    """
    first = next(iter(rows.values()))[0]
    reasons = Counter(first.dropped.values())
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"
    some = confidence_intervals(rows[next(iter(rows))])["ap"]
    yield f"{title}, {first.protocol}, percent, mean [95 % over users]"
    yield f"users: {some.n} of {some.n + some.n_dropped}, ids {some.short_hash}; dropped: {dropped}"
    yield f"{'ranker':<12} {'metric':<9} {'published':>9} {'measured':>8} {'95 %':^16} {'seeds':>5} {'sd':>5}"
    for name, runs in rows.items():
        found = confidence_intervals(runs)
        for metric, heading in METRICS.items():
            yield _line(name, heading, published.get(name, {}).get(metric), found[metric])


def _line(name: str, heading: str, published: float | None, found: ConfidenceInterval) -> str:
    beside = "" if published is None else f"{published:.2f}"
    interval = f"[{100 * found.low:.2f}, {100 * found.high:.2f}]"
    sd = "" if found.seed_sd is None else f"{100 * found.seed_sd:.2f}"
    number = f"{100 * found.mean:>8.2f} {interval:^16}"
    return f"{name:<12} {heading:<9} {beside:>9} {number} {found.seeds:>5} {sd:>5}".rstrip()
