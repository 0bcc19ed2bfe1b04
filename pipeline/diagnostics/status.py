"""How far the builds of a catalog are: states, rate, time left, disk, and who holds which shard.

Reads what running builds write, and changes nothing, so it may be asked at any time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.base.paths import Layout, VariantLayout
from storage.base.video_status import State
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.manifest_index import ShardSummary, read_summaries
from storage.features.spool import SpooledVideos
from storage.features.store import variant_layouts
from storage.files.lease_record import read_lease

RECENT_SECONDS = 3600.0
"""The rate is that of the last hour: a site's pace changes within days, a pause lasts minutes."""


@dataclass(frozen=True)
class VariantProgress:
    """How far one variant is."""

    name: str
    states: Mapping[State, int]
    """Videos that have a status, in manifests or in spools of unfinished shards."""
    remaining: int
    """Videos without a status."""


@dataclass(frozen=True)
class CatalogProgress:
    """How far a catalog is."""

    catalog: str
    videos: int
    shards: int
    variants: tuple[VariantProgress, ...]
    held: Mapping[int, str]
    """Shard that is being built → the process that holds it."""
    videos_per_hour: float
    """Videos that were fetched, or found missing, within the last hour."""
    free_bytes: int
    disk_bytes: int

    @property
    def remaining(self) -> int:
        """Videos that some variant still lacks."""
        return max((variant.remaining for variant in self.variants), default=self.videos)

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last hour; None if nothing happened in it, 0 if nothing remains."""
        if not self.remaining:
            return 0.0
        return 3600 * self.remaining / self.videos_per_hour if self.videos_per_hour else None


def catalog_progress(folder: Path, now: float | None = None) -> CatalogProgress:
    """How far the catalog kept in `folder` is. Raises LookupFailed or IntegrityError."""
    now = time.time() if now is None else now
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    catalog = read_catalog(folder)
    disk = shutil.disk_usage(folder)
    return CatalogProgress(
        catalog=catalog.name,
        videos=len(catalog.videos),
        shards=catalog.shard_count,
        variants=tuple(variant_progress(one, catalog) for one in variant_layouts(folder)),
        held=dict(_held_shards(layout, catalog.shard_count)),
        videos_per_hour=_recent_videos(layout, now) * 3600 / RECENT_SECONDS,
        free_bytes=disk.free,
        disk_bytes=disk.total,
    )


def variant_progress(variant: VariantLayout, catalog: Catalog) -> VariantProgress:
    """Count the statuses of one variant."""
    states: Counter[State] = Counter()
    summaries = read_summaries(variant)
    for shard in range(catalog.shard_count):
        states.update(_shard_states(variant, shard, summaries.get(shard)))
    return VariantProgress(
        name=variant.folder.name,
        states=states,
        remaining=len(catalog.videos) - states.total(),
    )


def _shard_states(
    variant: VariantLayout, shard: int, summary: ShardSummary | None
) -> Iterator[State]:
    statuses = {} if summary is None else dict(summary.statuses)
    spool = variant.spool(shard)
    # A spool is left only where a build is running or was stopped: its videos are newer.
    if spool.is_dir() and any(spool.iterdir()):
        spooled = SpooledVideos(spool).entries
        statuses |= {video_id: entry.status for video_id, entry in spooled.items()}
    return (status.state for status in statuses.values())


def _held_shards(layout: Layout, shard_count: int) -> Iterator[tuple[int, str]]:
    for shard in range(shard_count):
        snapshot = read_lease(layout.lease(shard))
        if snapshot is not None and not snapshot.is_surely_dead():
            yield shard, snapshot.holder


def _recent_videos(layout: Layout, now: float) -> int:
    """Media records that were written lately: one is written for every video that was asked for."""
    videos = layout.media_folder(0).parent
    if not videos.is_dir():
        return 0
    count = 0
    for shard in os.scandir(videos):
        # A folder's own time changes with every record in it, so old shards are not looked into.
        if shard.is_dir() and shard.stat().st_mtime > now - RECENT_SECONDS:
            count += sum(_is_recent_record(entry, now) for entry in os.scandir(shard))
    return count


def _is_recent_record(entry: os.DirEntry[str], now: float) -> bool:
    return entry.name.endswith(".json") and entry.stat().st_mtime > now - RECENT_SECONDS


def format_progress(progress: CatalogProgress) -> Iterator[str]:
    """Lines for a person."""
    yield f"{progress.catalog}: {progress.videos:,} videos, {progress.shards} shards"
    for variant in progress.variants:
        counts = [f"{variant.states.get(state, 0):,} {state}" for state in State]
        yield f"  {variant.name:<26} {', '.join(counts)}, {variant.remaining:,} not started"
    if not progress.variants:
        yield "  no variant has been started"
    rate = f"{progress.videos_per_hour:.0f} videos within the last hour"
    yield f"rate: {rate}; {_time_left(progress)}"
    free, total = progress.free_bytes / 1e9, progress.disk_bytes / 1e9
    yield f"disk: {free:,.1f} of {total:,.1f} GB free"
    for shard, holder in sorted(progress.held.items()):
        yield f"shard {shard:03d} is held by {holder}"


def _time_left(progress: CatalogProgress) -> str:
    seconds = progress.seconds_left
    if seconds is None:
        return "time left unknown"
    if not seconds:
        return "every video has a status"
    days, hours = int(seconds // 86400), seconds % 86400 / 3600
    return f"about {days} d {hours:.1f} h left" if days else f"about {hours:.1f} h left"


def prometheus_text(progress: CatalogProgress) -> str:
    """The same as metrics in Prometheus's text format, for node_exporter's textfile collector."""
    catalog = f'catalog="{progress.catalog}"'
    metrics = [
        "# HELP video_highlights_videos Videos by variant and state.",
        "# TYPE video_highlights_videos gauge",
        *_video_metrics(progress, catalog),
        "# HELP video_highlights_videos_per_hour Videos asked for within the last hour.",
        "# TYPE video_highlights_videos_per_hour gauge",
        f"video_highlights_videos_per_hour{{{catalog}}} {progress.videos_per_hour:g}",
        "# HELP video_highlights_shards_held Shards that a process is building.",
        "# TYPE video_highlights_shards_held gauge",
        f"video_highlights_shards_held{{{catalog}}} {len(progress.held)}",
        "# HELP video_highlights_disk_free_bytes Free bytes of the catalog's disk.",
        "# TYPE video_highlights_disk_free_bytes gauge",
        f"video_highlights_disk_free_bytes{{{catalog}}} {progress.free_bytes}",
    ]
    if progress.seconds_left is not None:
        metrics += [
            "# HELP video_highlights_seconds_left Time left at the rate of the last hour.",
            "# TYPE video_highlights_seconds_left gauge",
            f"video_highlights_seconds_left{{{catalog}}} {progress.seconds_left:.0f}",
        ]
    return "\n".join(metrics) + "\n"


def _video_metrics(progress: CatalogProgress, catalog: str) -> Iterator[str]:
    for variant in progress.variants:
        labels = f'{catalog},variant="{variant.name}"'
        for state in State:
            count = variant.states.get(state, 0)
            yield f'video_highlights_videos{{{labels},state="{state}"}} {count}'
        yield f'video_highlights_videos{{{labels},state="not_started"}} {variant.remaining}'
