"""One shard, start to end: fetch, decode once, feed every extractor, spool, and at last write parts
and sidecars.

The single loop that catches VideoError: one bad video is a verdict, everything else stops the
shard, and what was spooled by then is kept. Knows the seams (`Fetch`, `Decoder`); refuses to know
schedulers, settings files and screens.
"""

from __future__ import annotations

import atexit
import functools
import gc
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
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
"""Videos asked for while one is being decoded, so that the network and the processor work at the
same time.
"""


@dataclass(frozen=True)
class _VariantJob:
    """One variant's part of the job: where it lies, what it lacks, what it had before."""

    variant: Variant
    layout: VariantLayout
    spool: Path
    todo: frozenset[str]
    spooled: frozenset[str]
    before: Mapping[str, ManifestEntry]
    made_by: Mapping[str, JSON]
    """The provenance of what it had before."""

    @functools.cached_property
    def left(self) -> frozenset[str]:
        """Ids still to be decoded."""
        return self.todo - self.spooled

    def expect_settings(self) -> None:
        """Raise SystemicFault if the variant's folder was moved away: its next form would lack
        settings.
        """
        if not self.layout.settings_file.is_file():
            raise SystemicFault(
                f"{self.layout.settings_file} is gone: its folder was renamed or removed while the shard was built. "
                "Nothing was published since. Run the same command again to go on."
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
    beside: Sequence[Decoder] = (),
) -> None:
    """Give every id of the shard a verdict from every variant, and write parts and sidecars.

    A kill at any instant costs at most the videos in hand: finished ones wait in the spool.
    `on_video` is told about each video as it ends, by one thread at a time; those that an earlier
    run left in the spool count as done at once. `stop_fetching` is called when no more files are
    wanted: a fetch that only waits should then end. What each video took is booked in `times`. Each
    decoder `beside` the first has one more video in hand at the same time.
    """
    times = times or Times()
    works = [work for work in (_work(job, variant) for variant in job.variants) if work.todo]
    left = sorted({video_id for work in works for video_id in work.left})
    for video_id in sorted({video_id for work in works for video_id in work.spooled} - set(left)):
        on_video(video_id, DONE)
    decoders = (decoder, *beside)[: max(1, len(left))]
    ahead = FETCH_AHEAD + len(decoders) - 1
    with (
        make_executor(
            device, has_networks=any(work.variant.spec.needs_weights for work in works)
        ) as lanes,
        closing(
            prefetch_media(_timed_fetch(fetch, times), left, _retries(works), stop_fetching, ahead)
        ) as files,
    ):
        shard = _ShardRun(works, _built(works, device), lanes.compute, on_video, times)
        freeze_startup_objects()
        run_video_threads(files, decoders, shard.lead, stop_fetching)
    with times.measure(WHOLE_SHARD, "wall"):
        for work in works:
            with times.measure(WHOLE_SHARD, "write"):
                _commit(job, work, provenance(work.variant, device, decoder.name, work.made_by))


@functools.cache
def freeze_startup_objects() -> None:
    """Once per process: what is loaded by now, torch above all, stays, and collections of garbage
    need not visit its half a million objects again and again.
    """
    gc.collect()
    gc.freeze()
    atexit.register(
        gc.unfreeze
    )  # libraries that look for leaks at the end would take what was never visited for some


def make_executor(device: str, *, has_networks: bool = True) -> RowExecutor | GpuBatcher:
    """What computes rows on a device. Without networks nothing imports torch."""
    return GpuBatcher(device) if is_gpu(device) else RowExecutor(device, has_networks=has_networks)


def _built(works: Sequence[_VariantJob], device: str) -> dict[str, Extractor]:
    """Name of variant → its network, where it still has something to do; before several threads
    want them.
    """
    return {
        work.variant.name: cached_extractor(work.variant, device) for work in works if work.left
    }


def _timed_fetch(fetch: Fetch, times: Times) -> Fetch:
    def timed(video_id: str, retry: bool) -> Media:
        with times.measure(video_id, "download"):
            media = fetch(video_id, retry)
        times.add(video_id, "media_bytes", media.size_bytes)
        return media

    return timed


@dataclass(frozen=True)
class _ShardRun:
    """What all threads that lead videos of a shard share."""

    works: Sequence[_VariantJob]
    extractors: Mapping[str, Extractor]
    """By name of variant."""
    compute: Compute
    on_video: Callable[[str, VideoStatus], None]
    times: Times
    telling: threading.Lock = field(default_factory=threading.Lock)

    def lead(self, files: Iterator[tuple[str, Media | VideoError]], decoder: Decoder) -> None:
        """One video after the other, from its file to the spool."""
        with self.times.measure(WHOLE_SHARD, "wall"):
            for video_id, media in self.times.measure_waits(files, "wait_download", itemgetter(0)):
                lacking = [work for work in self.works if video_id in work.left]
                fed = [(work.variant, self.extractors[work.variant.name]) for work in lacking]
                outcomes = process_video(video_id, media, fed, decoder, self.compute, self.times)
                for work, outcome in zip(lacking, outcomes, strict=True):
                    with self.times.measure(video_id, "write"):
                        work.expect_settings()
                        spool.put(
                            work.spool, video_id, _entry(work, video_id, outcome), outcome.track
                        )
                with self.telling:
                    self.on_video(video_id, overall_status(outcomes))


@functools.lru_cache(maxsize=8)
def cached_extractor(variant: Variant, device: str) -> Extractor:
    """The network of a variant on a device, built once per process and kept for all its shards."""
    return variant.build(device)


def _work(job: ShardJob, variant: Variant) -> _VariantJob:
    layout = job.variant_layout(variant)
    publish(layout.settings_file, readable_json(variant.description()), replace=False)
    manifest = job.manifest(variant)
    before: Mapping[str, ManifestEntry] = manifest.entries if manifest else {}
    todo = frozenset(
        job.missing_from({video_id: entry.status for video_id, entry in before.items()})
    )
    folder = layout.spool(job.shard)
    return _VariantJob(
        variant=variant,
        layout=layout,
        spool=folder,
        todo=todo,
        spooled=frozenset(spool.SpooledVideos(folder).entries) & todo,
        before=before,
        made_by=manifest.provenance if manifest else {},
    )


def _retries(works: Sequence[_VariantJob]) -> frozenset[str]:
    """Ids that somebody asked to try again: their recorded failure does not count."""
    entries = [(video_id, entry) for work in works for video_id, entry in work.before.items()]
    return frozenset(video_id for video_id, entry in entries if entry.status.reason == "requested")


def prefetch_media(
    fetch: Fetch,
    video_ids: Sequence[str],
    retries: frozenset[str],
    stop_fetching: Callable[[], None],
    further: int = FETCH_AHEAD,
) -> Generator[tuple[str, Media | VideoError], None, None]:
    """Each id with its file or its failure, in order, asking a little ahead of need."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as pool:
        asked: deque[tuple[str, Future[Media]]] = deque()
        ahead = iter(video_ids)
        try:
            for video_id in video_ids:
                for other in islice(ahead, further + 1 - len(asked)):
                    asked.append((other, pool.submit(fetch, other, other in retries)))
                yield video_id, _answer(asked.popleft()[1])
        finally:
            stop_fetching()
            pool.shutdown(wait=True, cancel_futures=True)


def _answer(future: Future[Media]) -> Media | VideoError:
    try:
        return future.result()
    except VideoError as error:
        return error


def _entry(work: _VariantJob, video_id: str, outcome: VideoResult) -> ManifestEntry:
    before = work.before.get(video_id)
    track = outcome.track
    return ManifestEntry(
        status=outcome.status,
        part="",
        rows=track.rows if track else 0,
        digest=track.digest() if track else "",
        attempts=(before.attempts if before else 0) + 1,
        facts=outcome.facts,
    )


def _commit(job: ShardJob, work: _VariantJob, made_by: Mapping[str, JSON]) -> None:
    work.expect_settings()
    kept = spool.SpooledVideos(work.spool)
    entries = {video_id: entry for video_id, entry in kept.entries.items() if video_id in work.todo}
    done = sorted(
        video_id for video_id, entry in entries.items() if entry.status.state is State.DONE
    )
    commit(
        work.layout,
        job.layout.catalog,
        job.shard,
        entries=entries,
        tracks=map(kept.track, done),
        max_part_bytes=job.part_bytes,
        provenance=made_by,
    )
    spool.clear(work.spool)
