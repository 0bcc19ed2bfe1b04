"""Verdicts turned into requests for another try: those of reasons that a person names, and those
that are outdated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.download.folder.outdated import outdated_ids
from storage.base.errors import LeaseHeld
from storage.features.commit import request_retry
from storage.features.manifest_index import read_summary
from storage.files.file_lock import lease
from tasks.config.settings import Settings
from tasks.execution import progress
from tasks.execution.catalogs import catalog_of
from tasks.execution.extract_shard import shard_job


def request_retries(settings: Settings, reasons: frozenset[str]) -> int:
    """Ask for another try of every video that ended for one of `reasons`; returns how many verdicts
    changed.
    """
    catalog = catalog_of(settings)
    changed = 0
    for job in (shard_job(settings, catalog, shard) for shard in range(catalog.shard_count)):
        with lease(settings.layout.lease(job.shard), notify=progress.say):
            changed += sum(
                len(request_retry(job.variant_layout(one), job.shard, reasons))
                for one in job.variants
            )
    return changed


def outdated_videos(settings: Settings, shards: Collection[int]) -> dict[int, frozenset[str]]:
    """Shard → its videos whose failure is about other bytes than the source has now."""
    catalog = catalog_of(settings)
    found = {}
    for shard in shards:
        job = shard_job(settings, catalog, shard)
        known = [read_summary(job.variant_layout(variant), shard) for variant in job.variants]
        failures = {
            video_id: status for one in known if one for video_id, status in one.unfinished.items()
        }
        again = outdated_ids(
            failures,
            layout=settings.layout,
            shard=shard,
            source=settings.source,
            alternative_ids=catalog.alternative_ids,
        )
        found[shard] = frozenset(again)
    return {shard: videos for shard, videos in found.items() if videos}


def request_again(settings: Settings, videos: Mapping[int, Collection[str]]) -> int:
    """Ask for another try of these videos in every variant that lacks them; returns how many videos
    there are.

    A shard that another run builds is left to the next run.
    """
    catalog, asked = catalog_of(settings), 0
    for shard, of_shard in videos.items():
        job = shard_job(settings, catalog, shard)
        try:
            with lease(settings.layout.lease(shard)):
                for variant in job.variants:
                    request_retry(job.variant_layout(variant), shard, video_ids=of_shard)
        except LeaseHeld as held:
            progress.say(
                f"{held} Its {len(of_shard)} videos that have other files now are left to the next run."
            )
            continue
        asked += len(of_shard)
    return asked
