"""What rankers that learn nothing score on a catalog of domains: lines of text, a domain each, and their averages.

Needs annotations only. Refuses to know what a model learns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from storage.catalog import Catalog
from trainer.baselines import VIDEO_RANKERS, is_random, video_ranker
from trainer.cells import shown
from trainer.estimates import Estimate, Evaluation
from trainer.published import Table
from trainer.video_protocols import AskedVideos, all_domains, asked_videos, evaluate_ranks, split_named


def video_table(catalog: Catalog, split: str, grouping: str, seeds: int) -> Iterator[str]:
    """Per ranker, metric and domain: the mean over its videos; then the mean of domains, and the mean over videos."""
    asked = asked_videos(catalog, split, split_named(grouping))
    first = evaluate_ranks(asked, video_ranker(VIDEO_RANKERS[0]))
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(first.dropped.values()).items()))
    yield f"{catalog.name}, {first.protocol}, percent, mean [95 % over videos]"
    yield f"videos: {len(first.ids)} of {len(asked.domains)}; dropped: {dropped or 'none'}"
    heading = f"{'ranker':<9} {'metric':<15} {'domain':<22} {'measured':>8} {'95 %':^16}"
    yield f"{heading} {'seeds':>5} {'sd':>5} {'videos':>6} ids"
    domains = [one for one in all_domains(catalog) if one in first.groups.values()]
    for name in VIDEO_RANKERS:
        runs = _runs(asked, name, seeds)
        for metric in runs[0].values:
            if metric != "scored_segments":
                yield from (_line(name, metric, *one) for one in _averages(runs, metric, domains))


def _runs(asked: AskedVideos, name: str, seeds: int) -> list[Evaluation]:
    return [evaluate_ranks(asked, video_ranker(name, seed)) for seed in range(seeds if is_random(name) else 1)]


def _averages(runs: Sequence[Evaluation], metric: str, domains: Sequence[str]) -> Iterator[tuple[str, Estimate]]:
    wanted = {f"{metric}:{domain}": domain for domain in domains}
    wanted |= {metric: "mean of domains", f"{metric}@videos": "mean over videos"}
    found = shown(Table("", "", "", wanted, domains=tuple(domains)), runs)
    yield from ((wanted[key], one) for key, one in found.items())


def _line(name: str, metric: str, domain: str, found: Estimate) -> str:
    interval = f"[{100 * found.low:.2f}, {100 * found.high:.2f}]"
    sd = "" if found.seed_sd is None else f"{100 * found.seed_sd:.2f}"
    start = f"{name:<9} {metric:<15} {domain:<22} {100 * found.mean:>8.2f} {interval:^16}"
    return f"{start} {found.seeds:>5} {sd:>5} {found.n:>6} {found.short_hash}"
