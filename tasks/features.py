"""Building feature stores: `BuildFeatures`, its named forms, and the shard task below it.

A `run` here is wiring: settings in, one plain function called, storage has written. Luigi schedules
shards, never videos.
"""

from __future__ import annotations

import contextlib
import re
import types
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import luigi

from pipeline.datasets.registry import DATASETS
from pipeline.diagnostics.doctor import failed_quick_checks
from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import IntegrityError, LeaseHeld, SettingsError, SystemicFault
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.video_status import REASONS, VideoStatus
from storage.features.store import FeatureStore
from storage.features.time_origin import refuse_to_extend
from storage.files.atomic_write import publish
from storage.files.file_lock import lease
from tasks.build_catalog import BuildCatalog
from tasks.config import exit_codes
from tasks.config.cluster_settings import INLINE
from tasks.config.luigi_sections import CommaList
from tasks.config.settings import PHD2, SAMPLES, Settings, front_door_catalog, load
from tasks.execution import dask_scheduler, progress
from tasks.execution.catalogs import catalog_of
from tasks.execution.extract_shard import download_gate, extract_shard, shard_job
from tasks.execution.retries import outdated_videos, request_again, request_retries
from tasks.execution.shutdown import ORDERS_TO_US
from tasks.reporting import run_report

_RUN = uuid.uuid4().hex[:8]
MAX_SHARDS_EVER = 1_000_000


def check_machine(settings: Settings) -> None:
    """Raise SystemicFault where this machine would fail for every video. The sample needs none of
    what is checked.
    """
    if settings.layout.catalog in SAMPLES:
        return
    fatal = failed_quick_checks(settings.source, settings.layout.root, datetime.now(UTC).date())
    if fatal:
        told = "\n".join(str(finding) for finding in fatal)
        raise SystemicFault(
            f"this machine is not fit for the run:\n{told}\n`python -m pipeline doctor` checks it all."
        )


def parse_shards(text: str, shard_count: int) -> tuple[int, ...]:
    """`3-7, 12` → those shard numbers, sorted; empty means all. SettingsError for anything that is
    not there.
    """
    chosen: set[int] = set()
    for piece in (piece.strip() for piece in text.split(",") if piece.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        first = int(match[1]) if match else -1
        last = int(match[2] or match[1]) if match else -1
        if not 0 <= first <= last < shard_count:
            allowed = f"numbers and ranges like 3-7,12 from 0 to {shard_count - 1}"
            raise SettingsError((f"--shards takes {allowed}; got {piece!r}",))
        chosen |= set(range(first, last + 1))
    return tuple(sorted(chosen)) or tuple(range(shard_count))


class ExtractShard(luigi.Task):
    """Every configured extractor over the videos of one shard, decoded once. Complete when every id
    has a verdict.
    """

    catalog = luigi.Parameter()
    shard = luigi.IntParameter()
    run_name = luigi.Parameter(
        default=_RUN, significant=False, description="times are kept under this"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        exit_codes.before_anything_starts(lambda: refuse_other_clocks(load(self.catalog).layout))

    def complete(self) -> bool:
        """Whether the sidecar of every variant names every id of the shard."""
        settings = load(self.catalog)
        return shard_job(settings, catalog_of(settings), self.shard).is_complete()

    def run(self) -> Iterator[WaitForShard]:
        """Fetch, decode, extract and write, here. If another process holds the shard, the other
        shards come first.
        """
        settings = load(self.catalog)
        while True:
            try:
                self._build(settings)
            except LeaseHeld as held:
                progress.say(
                    f"shard {self.shard:03d} is held by {held.owner}; the other shards come first"
                )
                yield WaitForShard(
                    catalog=self.catalog, shard=self.shard, turn=uuid.uuid4().hex[:8]
                )
            else:
                return

    def _build(self, settings: Settings) -> None:
        job = shard_job(settings, catalog_of(settings), self.shard)
        with ORDERS_TO_US.drop_at_once():
            gate = download_gate(settings, progress.say)
            extract_shard(settings, job, on_video=self._on_video, gate=gate, run_name=self.run_name)

    def _on_video(self, video_id: str, status: VideoStatus) -> None:
        progress.PROGRESS.video(self.shard, video_id, status)
        ORDERS_TO_US.check()


class WaitForShard(luigi.Task):
    """Wait until the shard's lease is free, or was silent for so long that its holder is dead;
    fails if it is at work.

    Luigi runs it after all shards that could be built before.
    """

    catalog = luigi.Parameter()
    shard = luigi.IntParameter()
    turn = luigi.Parameter(description="each wait is a task of its own")

    def complete(self) -> bool:
        """Whether nobody has the shard."""
        return not load(self.catalog).layout.lease(self.shard).exists()

    def run(self) -> None:
        """Take the lease and let it go."""
        with (
            ORDERS_TO_US.drop_at_once(),
            lease(load(self.catalog).layout.lease(self.shard), notify=progress.say),
        ):
            pass


class ExtractShards(luigi.Task):
    """The same for several shards, on the workers that `[cluster]` names: one task, however many
    shards there are.
    """

    catalog = luigi.Parameter()
    shards = CommaList(description="the numbers of the shards")
    run_name = luigi.Parameter(
        default=_RUN, significant=False, description="times are kept under this"
    )

    def complete(self) -> bool:
        """Whether every shard is."""
        return all(job.is_complete() for job in self._jobs(load(self.catalog)))

    def run(self) -> None:
        """Hand the shards that are not complete to Dask."""
        settings = load(self.catalog)
        with ORDERS_TO_US.drop_at_once():
            left = [job for job in self._jobs(settings) if not job.is_complete()]
            dask_scheduler.build_shards(settings, left, self.run_name)

    def _jobs(self, settings: Settings) -> list[ShardJob]:
        return [shard_job(settings, catalog_of(settings), int(shard)) for shard in self.shards]


class RequestRetry(luigi.Task):
    """Turn verdicts of the chosen reasons into requests for another try; complete once done for
    this run.
    """

    catalog = luigi.Parameter()
    reasons = CommaList()
    run_name = luigi.Parameter(description="the run that asks; each run asks once")

    def complete(self) -> bool:
        """Whether this run's requests were made."""
        return load(self.catalog).layout.retry_marker(self.run_name).exists()

    def run(self) -> None:
        """Rewrite the sidecars; parts stay as they are."""
        settings = load(self.catalog)
        requested = request_retries(settings, frozenset(self.reasons))
        note = readable_json({"reasons": sorted(self.reasons), "requested": requested})
        publish(settings.layout.retry_marker(self.run_name), note, replace=True)


class LookAgain(luigi.Task):
    """Ask again for failed videos for which the source has other files than the failures are about.

    Complete when there are none, or once done for this run: a file that changes all the time is
    looked at once a run.
    """

    catalog = luigi.Parameter()
    shards = CommaList(description="the numbers of the shards")
    run_name = luigi.Parameter(description="the run that asks")

    def complete(self) -> bool:
        """Whether nothing is left to ask for."""
        settings = load(self.catalog)
        return settings.layout.recheck_marker(self.run_name).exists() or not self._outdated(
            settings
        )

    def run(self) -> None:
        """Rewrite the sidecars; parts stay as they are."""
        settings = load(self.catalog)
        videos = self._outdated(settings)
        asked = request_again(settings, videos)
        if asked:
            progress.say(
                f"{self.catalog}: {asked:,} videos have other files than their verdicts are about: done again"
            )
        note = readable_json(
            {"videos": sorted(video for of_shard in videos.values() for video in of_shard)}
        )
        publish(settings.layout.recheck_marker(self.run_name), note, replace=True)

    def _outdated(self, settings: Settings) -> dict[int, frozenset[str]]:
        return outdated_videos(settings, [int(shard) for shard in self.shards])


class BuildFeatures(luigi.Task):
    """Features of a whole catalog, or of some of its shards; ends with an account of every id.

    Never complete by itself: running it again is how one asks for the account. What is done is not
    done again.
    """

    catalog = luigi.Parameter(description="which dataset: " + ", ".join(sorted(DATASETS)))
    shards = luigi.Parameter(
        default="", description="only these shards, like 3-7,12; all by default"
    )
    retry = CommaList(
        default=(), description="try these failure reasons again, like network,not_found; or all"
    )
    run_name = luigi.Parameter(
        default=_RUN, significant=False, description="told apart from other runs by this"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        exit_codes.before_anything_starts(
            lambda: check_command(self.catalog, self.shards, self.retry)
        )

    def complete(self) -> bool:
        """Always False: see the class."""
        ORDERS_TO_US.listen()  # Luigi asks this in the process that schedules, once its own handlers are in place
        return False

    def run(self) -> Iterator[Any]:
        """Catalog, then retries, then what has changed, then shards, then the account."""
        check_machine(load(self.catalog))
        yield BuildCatalog(catalog=self.catalog)
        if self.retry:
            yield RequestRetry(
                catalog=self.catalog, reasons=_reasons(self.retry), run_name=self.run_name
            )
        settings = load(self.catalog)
        shards = parse_shards(self.shards, catalog_of(settings).shard_count)
        yield LookAgain(
            catalog=self.catalog, shards=tuple(map(str, shards)), run_name=self.run_name
        )
        left = videos_to_do(settings, shards)
        progress.PROGRESS.plan(lengths(settings, left))
        if left and settings.cluster.kind == INLINE:
            yield [
                ExtractShard(catalog=self.catalog, shard=shard, run_name=self.run_name)
                for shard in left
            ]
        elif left:
            yield ExtractShards(
                catalog=self.catalog, shards=tuple(map(str, left)), run_name=self.run_name
            )
        progress.PROGRESS.close()
        run_report.account(settings, shards, self.run_name)


class BuildPHD2Features(BuildFeatures):
    """Features of PHD2 from its published annotations; with none configured, of the embedded
    sample.
    """

    catalog = luigi.Parameter(
        default="", description="leave empty: phd2, or the sample if no annotations are set"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"catalog": front_door_catalog(), **kwargs})
        if self.catalog in SAMPLES:
            run_report.say(
                "No PHD2 annotations are configured ([phd2] testing and training in workflows.cfg are empty): "
                "building the embedded sample."
            )


def _named(catalog: str) -> type[BuildFeatures]:
    """The task that builds one dataset and needs no `--catalog`: `Build<title>Features`."""
    spec = DATASETS[catalog]
    doc = f"Features of {catalog}: {spec.description}."
    members = {"catalog": luigi.Parameter(default=catalog), "__doc__": doc, "__module__": __name__}
    return types.new_class(
        f"Build{spec.title}Features", (BuildFeatures,), exec_body=lambda body: body.update(members)
    )


NAMED = {name: _named(name) for name, spec in DATASETS.items() if spec.title and name != PHD2}
"""Dataset → its own task. PHD2's, above, is the front door and may build the sample instead."""


def check_command(catalog: str, shards: str, retry: tuple[str, ...]) -> None:
    """Raise SettingsError with everything wrong in the settings and on the command line."""
    faults: list[str] = []
    try:
        refuse_other_clocks(load(catalog).layout)
    except SettingsError as error:
        faults += error.faults
    try:
        parse_shards(shards, MAX_SHARDS_EVER)
    except SettingsError as error:
        faults += error.faults
    unknown = [reason for reason in retry if reason not in REASONS and reason != "all"]
    if unknown:
        faults.append(
            f"--retry takes all, or reasons among {', '.join(sorted(REASONS))}; got {', '.join(unknown)}"
        )
    if faults:
        raise SettingsError(tuple(faults))


def refuse_other_clocks(layout: Layout) -> None:
    """Raise SettingsError for a catalog with features whose seconds count from another origin: none
    may join them.
    """
    store = FeatureStore(layout.folder)
    origins = {}
    for name in store.variants():
        with contextlib.suppress(IntegrityError):  # told where that variant is built or audited
            origins[name] = store[name].time_origins
    refuse_to_extend(layout.folder, origins)


def videos_to_do(settings: Settings, shards: tuple[int, ...]) -> dict[int, frozenset[str]]:
    """Shard that is not complete → its videos that are to be done. Luigi is not asked about the
    others.
    """
    catalog = catalog_of(settings)
    left = {shard: shard_job(settings, catalog, shard).todo() for shard in shards}
    return {shard: videos for shard, videos in left.items() if videos}


def lengths(settings: Settings, left: Mapping[int, frozenset[str]]) -> dict[str, float | None]:
    """Each of these videos → its duration in seconds, as the catalog states it."""
    wanted = frozenset().union(*left.values())
    videos = catalog_of(settings).videos if wanted else ()
    return {
        video.video_id: video.claimed_duration_seconds
        for video in videos
        if video.video_id in wanted
    }


def _reasons(retry: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(REASONS)) if "all" in retry else retry


luigi.Task.event_handler(luigi.Event.START)(lambda _: ORDERS_TO_US.listen())
luigi.Task.event_handler(luigi.Event.FAILURE)(lambda _, error: exit_codes.note(error))
