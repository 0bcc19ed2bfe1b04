"""Builds one shard under the settings of a run, wherever that happens.

The Luigi task of a shard and a Dask worker both call this module. It imports neither of them. A run
that finds a shard complete asks for its job only, so what builds it is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.compute.devices import resolve_device
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.timing import WHOLE_SHARD, Times, save_times
from pipeline.extraction.variant import Variant
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog
from storage.files.file_lock import lease
from tasks.config.settings import Settings
from tasks.execution.catalogs import load_catalog
from tasks.execution.video_sources import VideoSources

if TYPE_CHECKING:
    from pipeline.decoding.events import Decoder
    from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder


def shard_job(settings: Settings, catalog: Catalog, shard: int) -> ShardJob:
    """What one shard of a catalog has to contain under these settings."""
    return ShardJob(
        settings.layout,
        shard,
        catalog.shard_ids(shard),
        settings.variants_of(catalog),
        settings.part_bytes,
    )


def extract_shard(
    settings: Settings,
    job: ShardJob,
    *,
    on_video: Callable[[str, VideoStatus], None],
    sources: VideoSources,
    run_name: str,
    wrap_decoder: Callable[[Decoder], Decoder] = lambda decoder: decoder,
) -> None:
    """Fetch, decode, extract and write one shard, under its lease.

    `on_video` is called with each video that ends. Every download passes a limiter of `sources`.
    `wrap_decoder` may replace a decoder by one that watches it. The times of the videos are saved
    under `run_name`, also when the shard is interrupted. Raises LeaseHeld if another process builds
    the shard, LeaseLost if another process took it over meanwhile.
    """
    from pipeline.diagnostics.self_test import run_self_test
    from pipeline.download.fetch import fetch
    from pipeline.extraction.process_shard import process_shard

    layout = settings.layout
    device = _device_of(settings.variants, settings.device)
    alternative_ids = load_catalog(layout).alternative_ids
    with (
        lease(layout.lease(job.shard), on_lost=sources.stop),
        _decoders(settings, videos_in_parallel(settings, device)) as decoders,
        _measured_times(layout.shard_times(run_name, job.shard)) as times,
    ):
        for variant in settings.variants:
            run_self_test(variant.spec, device, layout.self_tests, variant.numerics)
        first_decoder, *more_decoders = [wrap_decoder(decoder) for decoder in decoders]
        process_shard(
            job,
            fetch=lambda video_id, retry: fetch(
                video_id,
                layout=layout,
                shard=job.shard,
                source=sources.source(video_id),
                alternative_ids=alternative_ids.get(video_id, ()),
                rate_limiter=sources.rate_limiter(video_id),
                retry=retry,
            ),
            decoder=first_decoder,
            more_decoders=more_decoders,
            device=device,
            on_video=on_video,
            stop_fetching=sources.stop,
            times=times,
        )


def videos_in_parallel(settings: Settings, device: str) -> int:
    """Videos of a shard that are decoded in parallel.

    That is `[decode] videos_at_once`, or a default that depends on the device and on whether
    networks run.
    """
    from pipeline.extraction.video_threads import default_parallel_videos

    if settings.videos_at_once:
        return settings.videos_at_once
    return default_parallel_videos(device, networks=_has_networks(settings.variants))


def _has_networks(variants: Iterable[Variant]) -> bool:
    return any(variant.spec.needs_weights for variant in variants)


def _device_of(variants: Iterable[Variant], device: str) -> str:
    # Only torch can say which GPUs there are, and importing it takes seconds. The extractor
    # `frames` needs no torch.
    return resolve_device(device) if _has_networks(variants) else "cpu"


@contextmanager
def _decoders(settings: Settings, count: int) -> Iterator[list[SubprocessDecoder]]:
    """`count` decoders; each starts its process on first use, and ends it with the block."""
    from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder

    with ExitStack() as stack:
        yield [
            stack.enter_context(
                SubprocessDecoder(settings.backend, settings.limits, settings.recycle_after_videos)
            )
            for _ in range(count)
        ]


@contextmanager
def _measured_times(path: Path) -> Iterator[Times]:
    """Times of the block, saved to `path` if any video was processed."""
    times = Times()
    try:
        with times.measure(WHOLE_SHARD, "clock"):
            yield times
    finally:
        # The shard itself is one entry; without a second one nothing was done.
        if len(times.by_video()) > 1:
            save_times(path, times)
