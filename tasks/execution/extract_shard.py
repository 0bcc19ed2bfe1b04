"""One shard under the settings of a run: what it is to become, and the doing of it, wherever that
happens.

Called by the Luigi task of a shard and by a Dask worker alike. Knows neither of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pipeline.compute.devices import resolve_device
from pipeline.decoding.events import Decoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.self_test import run_self_test
from pipeline.download.access.rate_limiter import SharedRateLimiter
from pipeline.download.fetch import fetch
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.timing import WHOLE_SHARD, Times, save_times
from pipeline.extraction.video_threads import default_parallel_videos
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog
from storage.files.file_lock import lease
from tasks.config.settings import Settings
from tasks.execution.catalogs import catalog_of


def shard_job(settings: Settings, catalog: Catalog, shard: int) -> ShardJob:
    """What one shard of a catalog is to become under these settings."""
    return ShardJob(
        settings.layout,
        shard,
        catalog.shard_ids(shard),
        settings.variants_of(catalog),
        settings.part_bytes,
    )


def download_gate(settings: Settings, tell: Callable[[str], None]) -> SharedRateLimiter:
    """What all downloads of this data root pass, so that together they ask no more than the site
    bears.
    """
    source = settings.source
    return SharedRateLimiter(settings.layout.egress(source.egress_key), source.pace, notify=tell)


def extract_shard(
    settings: Settings,
    job: ShardJob,
    *,
    on_video: Callable[[str, VideoStatus], None],
    gate: SharedRateLimiter,
    run_name: str,
    watched: Callable[[Decoder], Decoder] = lambda decoder: decoder,
) -> None:
    """Fetch, decode, extract and write, as the only process that does so for this shard.

    `on_video` is told of each video as it ends; `gate` is passed by every download; `watched` may
    wrap the decoder. What each video took is kept under the run's name, also when the shard is
    broken off. Raises LeaseHeld if another process builds the shard, LeaseLost if another took it
    over meanwhile.
    """
    device = _device_of_networks(settings)
    alternative_ids = catalog_of(settings).alternative_ids
    with (
        lease(settings.layout.lease(job.shard), on_lost=gate.stop),
        _children(settings, videos_in_parallel(settings, device)) as children,
        _kept_times(settings, run_name, job.shard) as times,
    ):
        for variant in settings.variants:
            run_self_test(variant.spec, device, settings.layout.self_tests, variant.numerics)
        decoder, *beside = [watched(child) for child in children]
        process_shard(
            job,
            fetch=lambda video_id, retry: fetch(
                video_id,
                layout=settings.layout,
                shard=job.shard,
                source=settings.source,
                alternative_ids=alternative_ids.get(video_id, ()),
                rate_limiter=gate,
                retry=retry,
            ),
            decoder=decoder,
            more_decoders=beside,
            device=device,
            on_video=on_video,
            stop_fetching=gate.stop,
            times=times,
        )


def videos_in_parallel(settings: Settings, device: str) -> int:
    """How many videos of a shard to have in hand: as `[decode] videos_at_once` says, or by who
    computes.
    """
    return settings.videos_at_once or default_parallel_videos(
        device, networks=_has_networks(settings)
    )


def _has_networks(settings: Settings) -> bool:
    return any(variant.spec.needs_weights for variant in settings.variants)


def _device_of_networks(settings: Settings) -> str:
    # Only torch can say which GPUs there are, and importing it takes seconds. Frames alone need
    # none.
    return resolve_device(settings.device) if _has_networks(settings) else "cpu"


@contextmanager
def _children(settings: Settings, count: int) -> Iterator[list[SubprocessDecoder]]:
    """So many decoders, that have no process before they are used, and none afterwards."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                SubprocessDecoder(settings.backend, settings.limits, settings.recycle_after_videos)
            )
            for _ in range(count)
        ]


@contextmanager
def _kept_times(settings: Settings, run_name: str, shard: int) -> Iterator[Times]:
    times = Times()
    try:
        with times.measure(WHOLE_SHARD, "clock"):
            yield times
    finally:
        if len(times.by_video()) > 1:
            save_times(settings.layout.shard_times(run_name, shard), times)
