"""Builds one shard: fetches and decodes each video once, feeds every extractor, and commits.

Finished videos wait in the spool; at the end of the shard they become parts and manifests. A bad
video gets a failure status and the shard continues. Any other error stops the shard, and what was
spooled by then is kept.
"""

from __future__ import annotations

import atexit
import functools
import gc
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from models.extractors.base.contract import Extractor
from models.extractors.base.precision import is_gpu
from pipeline.compute.cpu_executor import Compute, RowExecutor
from pipeline.compute.gpu_batcher import GpuBatcher
from pipeline.decoding.events import Decoder
from pipeline.extraction.process_video import VideoResult, overall_status, process_video
from pipeline.extraction.provenance import provenance
from pipeline.extraction.shard_job import Fetch, ShardJob
from pipeline.extraction.timing import WHOLE_SHARD, Times
from pipeline.extraction.variant import Variant
from pipeline.extraction.video_threads import run_video_threads
from pipeline.media.media_file import Media
from storage.base.errors import SystemicFault, VideoError
from storage.base.fingerprint import readable_json
from storage.base.paths import VariantLayout
from storage.base.records import JSON
from storage.base.video_status import DONE, State, VideoStatus
from storage.features import spool
from storage.features.commit import commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish

FETCH_AHEAD = 2
"""Videos fetched ahead of the one being decoded, so that network and processor work in parallel."""


@dataclass(frozen=True)
class _VariantJob:
    """One variant's share of a shard."""

    variant: Variant
    layout: VariantLayout
    spool: Path
    missing_ids: frozenset[str]
    """Videos that the store has no final status of."""
    spooled_ids: frozenset[str]
    """Those of the missing videos that an earlier run finished and left in the spool."""
    previous_entries: Mapping[str, ManifestEntry]
    """Entries of the manifest that the shard has by now."""
    previous_provenance: Mapping[str, JSON]

    @functools.cached_property
    def undecoded_ids(self) -> frozenset[str]:
        """Videos still to be decoded."""
        return self.missing_ids - self.spooled_ids

    def check_settings_exist(self) -> None:
        """Raise SystemicFault if the variant's folder was moved away during the build.

        A folder made anew at its place would lack the settings file.
        """
        if not self.layout.settings_file.is_file():
            raise SystemicFault(
                f"{self.layout.settings_file} is gone: its folder was renamed or removed while the "
                "shard was built. Nothing was published since. Run the same command again to go on."
            )


def process_shard(
    job: ShardJob,
    *,
    fetch: Fetch,
    decoder: Decoder,
    device: str,
    on_video: Callable[[str, VideoStatus], None],
    stop_fetching: Callable[[], None] = lambda: None,
    times: Times | None = None,
    more_decoders: Sequence[Decoder] = (),
) -> None:
    """Give every video of the shard a status from every variant, and write parts and manifests.

    A kill at any instant loses only videos that are being processed: finished ones are spooled.
    `on_video` is called as each video ends, by one thread at a time, and at once for those that an
    earlier run left in the spool. `stop_fetching` is called when no more files are needed; a fetch
    that only waits should then end. The time of each video is added to `times`. With
    `more_decoders`, as many videos more are processed in parallel.
    """
    times = times or Times()
    jobs = _unfinished_jobs(job)
    undecoded = sorted({video_id for one in jobs for video_id in one.undecoded_ids})
    spooled = {video_id for one in jobs for video_id in one.spooled_ids}
    for video_id in sorted(spooled - set(undecoded)):
        on_video(video_id, DONE)
    # More decoders than videos would only start idle threads.
    decoders = (decoder, *more_decoders)[: max(1, len(undecoded))]
    has_networks = any(one.variant.spec.needs_weights for one in jobs)
    # Every further decoder needs one more file in advance.
    media = prefetch_media(
        _timed_fetch(fetch, times),
        undecoded,
        _requested_retries(jobs),
        stop_fetching,
        FETCH_AHEAD + len(decoders) - 1,
    )
    # After an error, the fetch thread ends before the executor, and nothing is left running.
    with make_executor(device, has_networks=has_networks) as executor, closing(media) as files:
        extractors = _build_extractors(jobs, device)
        run = _ShardRun(jobs, extractors, executor.compute, on_video, times)
        freeze_startup_objects()
        run_video_threads(files, decoders, run.process_videos, stop_fetching)
    with times.measure(WHOLE_SHARD, "wall"):
        for one in jobs:
            with times.measure(WHOLE_SHARD, "write"):
                made_by = provenance(one.variant, device, decoder.name, one.previous_provenance)
                _commit(job, one, made_by)


@functools.cache
def freeze_startup_objects() -> None:
    """Exempt everything loaded so far from garbage collection, once per process.

    Torch above all: every collection would visit its half a million objects again.
    """
    gc.collect()
    gc.freeze()
    # Libraries that look for leaks at exit would report frozen objects as such.
    atexit.register(gc.unfreeze)


def make_executor(device: str, *, has_networks: bool = True) -> RowExecutor | GpuBatcher:
    """The executor that computes rows on a device. Without networks, torch is not imported."""
    if is_gpu(device):
        return GpuBatcher(device)
    return RowExecutor(device, has_networks=has_networks)


def _build_extractors(jobs: Sequence[_VariantJob], device: str) -> dict[str, Extractor]:
    """Networks of all variants with videos to decode, by variant name.

    They are built before the threads start, so that no two threads build the same one.
    """
    variants = [one.variant for one in jobs if one.undecoded_ids]
    return {variant.name: cached_extractor(variant, device) for variant in variants}


def _timed_fetch(fetch: Fetch, times: Times) -> Fetch:
    def timed(video_id: str, retry: bool) -> Media:
        with times.measure(video_id, "download"):
            media = fetch(video_id, retry)
        times.add(video_id, "media_bytes", media.size_bytes)
        return media

    return timed


@dataclass(frozen=True)
class _ShardRun:
    """What all threads that process videos of a shard share."""

    jobs: Sequence[_VariantJob]
    extractors: Mapping[str, Extractor]
    """By variant name."""
    compute: Compute
    on_video: Callable[[str, VideoStatus], None]
    times: Times
    on_video_lock: threading.Lock = field(default_factory=threading.Lock)

    def process_videos(
        self, files: Iterator[tuple[str, Media | VideoError]], decoder: Decoder
    ) -> None:
        """Process one video after the other, from its file to the spool."""
        with self.times.measure(WHOLE_SHARD, "wall"):
            for video_id, media in self.times.measure_waits(files, "wait_download", itemgetter(0)):
                self._process_video(video_id, media, decoder)

    def _process_video(self, video_id: str, media: Media | VideoError, decoder: Decoder) -> None:
        jobs = [one for one in self.jobs if video_id in one.undecoded_ids]
        variants = [(one.variant, self.extractors[one.variant.name]) for one in jobs]
        results = process_video(video_id, media, variants, decoder, self.compute, self.times)
        for one, result in zip(jobs, results, strict=True):
            with self.times.measure(video_id, "write"):
                # For each video: a build may last for days.
                one.check_settings_exist()
                # A kill after this does not lose the video any more.
                spool.put(one.spool, video_id, _manifest_entry(one, video_id, result), result.track)
        with self.on_video_lock:
            self.on_video(video_id, overall_status(results))


@functools.lru_cache(maxsize=8)
def cached_extractor(variant: Variant, device: str) -> Extractor:
    """The network of a variant on a device, built once per process and kept for all its shards."""
    return variant.build(device)


def _unfinished_jobs(job: ShardJob) -> list[_VariantJob]:
    jobs = [_variant_job(job, variant) for variant in job.variants]
    return [one for one in jobs if one.missing_ids]


def _variant_job(job: ShardJob, variant: Variant) -> _VariantJob:
    layout = job.variant_layout(variant)
    # Written before any row, so that a folder with features always has its settings.
    publish(layout.settings_file, readable_json(variant.description()), replace=False)
    manifest = job.manifest(variant)
    entries: Mapping[str, ManifestEntry] = manifest.entries if manifest else {}
    statuses = {video_id: entry.status for video_id, entry in entries.items()}
    missing_ids = frozenset(job.missing_from(statuses))
    spool_folder = layout.spool(job.shard)
    return _VariantJob(
        variant=variant,
        layout=layout,
        spool=spool_folder,
        missing_ids=missing_ids,
        spooled_ids=frozenset(spool.SpooledVideos(spool_folder).entries) & missing_ids,
        previous_entries=entries,
        previous_provenance=manifest.provenance if manifest else {},
    )


def _requested_retries(jobs: Iterable[_VariantJob]) -> frozenset[str]:
    """Videos that a user asked to retry: a failure recorded with their file does not count."""
    return frozenset(
        video_id
        for one in jobs
        for video_id, entry in one.previous_entries.items()
        if entry.status.reason == "requested"
    )


def prefetch_media(
    fetch: Fetch,
    video_ids: Sequence[str],
    retries: frozenset[str],
    stop_fetching: Callable[[], None],
    ahead: int = FETCH_AHEAD,
) -> Generator[tuple[str, Media | VideoError], None, None]:
    """Each id with its file or its error, in order; up to `ahead` later files are fetched already.

    Leaving the iteration calls `stop_fetching` and waits for the fetch that is running.
    """
    # A single thread: a site is asked for one file at a time.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as pool:
        pending: deque[Future[Media]] = deque()
        try:
            for position, video_id in enumerate(video_ids):
                next_unfetched = position + len(pending)
                for next_id in video_ids[next_unfetched : position + 1 + ahead]:
                    pending.append(pool.submit(fetch, next_id, next_id in retries))
                yield video_id, _media_or_error(pending.popleft())
        finally:
            stop_fetching()
            pool.shutdown(wait=True, cancel_futures=True)


def _media_or_error(future: Future[Media]) -> Media | VideoError:
    try:
        return future.result()
    except VideoError as error:
        return error


def _manifest_entry(job: _VariantJob, video_id: str, result: VideoResult) -> ManifestEntry:
    previous = job.previous_entries.get(video_id)
    previous_attempts = previous.attempts if previous else 0
    track = result.track
    return ManifestEntry(
        status=result.status,
        part="",
        rows=track.rows if track else 0,
        digest=track.digest() if track else "",
        attempts=previous_attempts + 1,
        facts=result.facts,
    )


def _commit(job: ShardJob, variant_job: _VariantJob, made_by: Mapping[str, JSON]) -> None:
    variant_job.check_settings_exist()
    # A run that was killed between `commit` and `spool.clear` left videos that are committed
    # already: they are not missing any more.
    spooled = spool.SpooledVideos(variant_job.spool)
    entries = {
        video_id: entry
        for video_id, entry in spooled.entries.items()
        if video_id in variant_job.missing_ids
    }
    done_ids = sorted(
        video_id for video_id, entry in entries.items() if entry.status.state is State.DONE
    )
    commit(
        variant_job.layout,
        job.layout.catalog,
        job.shard,
        entries=entries,
        tracks=map(spooled.track, done_ids),
        max_part_bytes=job.part_bytes,
        provenance=made_by,
    )
    spool.clear(variant_job.spool)
