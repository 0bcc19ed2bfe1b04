"""Requests another try of failed videos: by reason, or because the source has other files now."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.download.folder.outdated import outdated_ids
from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import LeaseHeld
from storage.base.video_status import VideoStatus
from storage.features.manifest_index import read_summary
from storage.files.file_lock import lease
from tasks.config.settings import Settings
from tasks.execution import progress
from tasks.execution.catalogs import load_catalog
from tasks.execution.extract_shard import shard_job
from tasks.execution.video_sources import by_source


def request_retries(settings: Settings, reasons: frozenset[str]) -> int:
    """Request another try of every video that failed for one of `reasons`.

    Returns how many statuses changed, over all variants.
    """
    from storage.features.commit import request_retry  # brings HDF5, and most runs request nothing

    catalog = load_catalog(settings.layout)
    changed = 0
    for shard in range(catalog.shard_count):
        job = shard_job(settings, catalog, shard)
        with lease(settings.layout.lease(shard), notify=progress.log_line):
            for variant in job.variants:
                changed += len(request_retry(job.variant_layout(variant), shard, reasons))
    return changed


def outdated_videos(settings: Settings, shards: Collection[int]) -> dict[int, frozenset[str]]:
    """Shard → its failed videos for which the source has other bytes now.

    Shards without such videos are left out.
    """
    catalog = load_catalog(settings.layout)
    outdated = {}
    for shard in shards:
        failures = _failures(shard_job(settings, catalog, shard))
        video_ids: set[str] = set()
        for source, ids in by_source(settings, catalog, failures).items():
            video_ids.update(
                outdated_ids(
                    {video_id: failures[video_id] for video_id in ids},
                    layout=settings.layout,
                    shard=shard,
                    source=source,
                    alternative_ids=catalog.alternative_ids,
                )
            )
        if video_ids:
            outdated[shard] = frozenset(video_ids)
    return outdated


def _failures(job: ShardJob) -> dict[str, VideoStatus]:
    """Failed video → its status in one of the variants."""
    failures: dict[str, VideoStatus] = {}
    for variant in job.variants:
        summary = read_summary(job.variant_layout(variant), job.shard)
        if summary is not None:
            failures |= summary.unfinished
    return failures


def request_outdated(settings: Settings, videos: Mapping[int, Collection[str]]) -> int:
    """Request another try of these videos (by shard) in every variant that lacks them.

    Returns how many videos there are. A shard that another run builds is left to the next run.
    """
    from storage.features.commit import request_retry  # as above

    catalog = load_catalog(settings.layout)
    requested = 0
    for shard, video_ids in videos.items():
        job = shard_job(settings, catalog, shard)
        try:
            with lease(settings.layout.lease(shard)):
                for variant in job.variants:
                    request_retry(job.variant_layout(variant), shard, video_ids=video_ids)
        except LeaseHeld as held:
            progress.log_line(
                f"{held} The next run tries its {len(video_ids)} videos that have other files now."
            )
        else:
            requested += len(video_ids)
    return requested
