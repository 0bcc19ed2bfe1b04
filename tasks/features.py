"""Builds feature stores: `BuildFeatures`, its form for each dataset, and the tasks below it.

Each `run` reads the settings and calls one function; the store is written below. Luigi schedules
shards, never videos. Luigi imports this module for help and for faults too, so what only some runs
need is imported where it is used.
"""

from __future__ import annotations

import contextlib
import re
import types
import uuid
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import luigi

from pipeline.datasets.registry import DATASETS
from pipeline.download.access.source import SourceSettings
from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import IntegrityError, LeaseHeld, SettingsError, SystemicFault
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.video_status import REASONS, VideoStatus
from storage.catalog.catalog import Catalog
from storage.features.store import FeatureStore
from storage.features.time_origin import refuse_to_extend
from storage.files.atomic_write import publish
from storage.files.file_lock import lease
from tasks.build_catalog import BuildCatalog
from tasks.config import exit_codes, own_catalogs
from tasks.config.cluster_settings import INLINE
from tasks.config.luigi_sections import SECTIONS, CommaList
from tasks.config.luigi_values import value_faults
from tasks.config.samples import SAMPLES
from tasks.config.settings import PHD2, Settings, front_door_catalog, load_settings
from tasks.execution import progress
from tasks.execution.catalogs import load_catalog
from tasks.execution.extract_shard import extract_shard, shard_job
from tasks.execution.retries import outdated_videos, request_outdated, request_retries
from tasks.execution.shutdown import SHUTDOWN
from tasks.execution.video_sources import (
    VideoSources,
    by_source,
    link_local_files,
    report_replaced_files,
)
from tasks.reporting.plan import make_plan

_RUN = uuid.uuid4().hex[:8]
MAX_SHARDS_EVER = 1_000_000
_SHARD_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def check_machine(settings: Settings) -> None:
    """Raise SystemicFault if every video would fail on this machine.

    A sample needs nothing that is checked here.
    """
    if settings.layout.catalog in SAMPLES:
        return
    # Only the catalog says which sites a user's own videos come from: see `check_sites`.
    source = SourceSettings(str(settings.layout.root)) if settings.is_own else settings.source
    _check_source(settings, source)


def check_sites(settings: Settings, catalog: Catalog) -> None:
    """Raise SystemicFault if a site of a user's own videos needs what this machine lacks."""
    ids = [video.video_id for video in catalog.videos]
    for source in by_source(settings, catalog, ids):
        if source.folder is None:
            _check_source(settings, source)


def _check_source(settings: Settings, source: SourceSettings) -> None:
    from pipeline.diagnostics.doctor import failed_quick_checks

    today = datetime.now(UTC).date()
    failed_checks = failed_quick_checks(source, settings.layout.root, today)
    if failed_checks:
        listed = "\n".join(map(str, failed_checks))
        raise SystemicFault(
            f"this machine is not fit for the run:\n{listed}\n"
            "`python -m pipeline doctor` runs all checks."
        )


def parse_shards(text: str, shard_count: int) -> tuple[int, ...]:
    """`3-7, 12` → these shard numbers, sorted; empty text means all.

    Raises SettingsError for any other text, and for shards that do not exist.
    """
    return tuple(sorted(_named_shards(text, shard_count))) or tuple(range(shard_count))


def _named_shards(text: str, shard_count: int) -> set[int]:
    """The shards that the text names; raises as `parse_shards`."""
    named: set[int] = set()
    for piece in text.split(","):
        if piece.strip():
            named.update(_parse_shard_range(piece.strip(), shard_count))
    return named


def _parse_shard_range(text: str, shard_count: int) -> range:
    match = _SHARD_RANGE.fullmatch(text)
    if match is not None:
        first = int(match[1])
        last = int(match[2] or first)
        if first <= last < shard_count:
            return range(first, last + 1)
    allowed = f"numbers and ranges like 3-7,12 from 0 to {shard_count - 1}"
    raise SettingsError((f"--shards takes {allowed}; got {text!r}",))


class ExtractShard(luigi.Task):
    """Runs every configured extractor over the videos of one shard, decoding each video once.

    Complete when every id has a status from every extractor.
    """

    catalog = luigi.Parameter()
    shard = luigi.IntParameter()
    run_name = luigi.Parameter(
        default=_RUN, significant=False, description="times are kept under this"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        exit_codes.check_before_start(
            lambda: check_time_origins(load_settings(self.catalog).layout)
        )

    def complete(self) -> bool:
        """Whether the manifest of every variant has a status for every id of the shard."""
        settings = load_settings(self.catalog)
        return shard_job(settings, load_catalog(settings.layout), self.shard).is_complete()

    def run(self) -> Iterator[WaitForShard]:
        """Fetch, decode, extract and write the shard in this process.

        If another process holds the shard, the other shards are built first.
        """
        settings = load_settings(self.catalog)
        while True:
            try:
                self._build(settings)
            except LeaseHeld as held:
                progress.log_line(
                    f"shard {self.shard:03d} is held by {held.owner}; the other shards come first"
                )
                turn = uuid.uuid4().hex[:8]
                # Luigi pauses this task here and runs the other shards before it continues.
                yield WaitForShard(catalog=self.catalog, shard=self.shard, turn=turn)
            else:
                return

    def _build(self, settings: Settings) -> None:
        catalog = load_catalog(settings.layout)
        job = shard_job(settings, catalog, self.shard)
        with SHUTDOWN.interruptible():
            extract_shard(
                settings,
                job,
                on_video=self._on_video,
                sources=VideoSources(settings, catalog, progress.log_line),
                run_name=self.run_name,
            )

    def _on_video(self, video_id: str, status: VideoStatus) -> None:
        progress.PROGRESS.video_ended(self.shard, video_id, status)
        SHUTDOWN.check()


class WaitForShard(luigi.Task):
    """Waits until a shard's lease is free, or silent for so long that its holder is dead.

    Fails if the holder is at work. Luigi runs this task after all shards that can be built.
    """

    catalog = luigi.Parameter()
    shard = luigi.IntParameter()
    turn = luigi.Parameter(description="each wait is a task of its own")

    def complete(self) -> bool:
        """Whether no process holds the shard."""
        return not load_settings(self.catalog).layout.lease(self.shard).exists()

    def run(self) -> None:
        """Take the lease and release it."""
        with (
            SHUTDOWN.interruptible(),
            lease(load_settings(self.catalog).layout.lease(self.shard), notify=progress.log_line),
        ):
            pass


class ExtractShards(luigi.Task):
    """Builds several shards on the workers of `[cluster]`, as one task of Luigi."""

    catalog = luigi.Parameter()
    shards = CommaList(description="the numbers of the shards")
    run_name = luigi.Parameter(
        default=_RUN, significant=False, description="times are kept under this"
    )

    def complete(self) -> bool:
        """Whether every shard is complete."""
        return all(job.is_complete() for job in self._jobs(load_settings(self.catalog)))

    def run(self) -> None:
        """Build the incomplete shards with Dask."""
        from tasks.execution import dask_scheduler

        settings = load_settings(self.catalog)
        with SHUTDOWN.interruptible():
            incomplete = [job for job in self._jobs(settings) if not job.is_complete()]
            dask_scheduler.build_shards(settings, incomplete, self.run_name)

    def _jobs(self, settings: Settings) -> list[ShardJob]:
        return [
            shard_job(settings, load_catalog(settings.layout), int(shard)) for shard in self.shards
        ]


class RequestRetry(luigi.Task):
    """Requests another try of videos that failed for the chosen reasons, once in each run."""

    catalog = luigi.Parameter()
    reasons = CommaList()
    run_name = luigi.Parameter(description="the run that requests; each run requests once")

    def complete(self) -> bool:
        """Whether this run has made its requests."""
        return load_settings(self.catalog).layout.retry_marker(self.run_name).exists()

    def run(self) -> None:
        """Rewrite the manifests; parts stay as they are."""
        settings = load_settings(self.catalog)
        requested = request_retries(settings, frozenset(self.reasons))
        note = readable_json({"reasons": sorted(self.reasons), "requested": requested})
        publish(settings.layout.retry_marker(self.run_name), note, replace=True)


class LookAgain(luigi.Task):
    """Requests another try of failed videos for which the source has other files now.

    Complete when there are none, or when this run has made its requests: a file that changes all
    the time is tried once in each run.
    """

    catalog = luigi.Parameter()
    shards = CommaList(description="the numbers of the shards")
    run_name = luigi.Parameter(description="the run that requests")

    def complete(self) -> bool:
        """Whether nothing is left to request."""
        settings = load_settings(self.catalog)
        if settings.layout.recheck_marker(self.run_name).exists():
            return True
        return not self._outdated(settings)

    def run(self) -> None:
        """Rewrite the manifests; parts stay as they are."""
        settings = load_settings(self.catalog)
        videos = self._outdated(settings)
        requested = request_outdated(settings, videos)
        if requested:
            progress.log_line(
                f"{self.catalog}: {requested:,} failed videos have other files now: done again"
            )
        video_ids = sorted(frozenset().union(*videos.values()))
        note = readable_json({"videos": [*video_ids]})
        publish(settings.layout.recheck_marker(self.run_name), note, replace=True)

    def _outdated(self, settings: Settings) -> dict[int, frozenset[str]]:
        return outdated_videos(settings, [int(shard) for shard in self.shards])


class BuildFeatures(luigi.Task):
    """Builds features of a whole catalog or of some of its shards, and reports on every video.

    Never complete: running it again repeats the report, but no finished work.
    """

    catalog = luigi.Parameter(description="which dataset: " + ", ".join(sorted(DATASETS)))
    shards = luigi.Parameter(
        default="", description="only these shards, like 3-7,12; all by default"
    )
    retry = CommaList(
        default=(), description="try these failure reasons again, like network,not_found; or all"
    )
    run_name = luigi.Parameter(default=_RUN, significant=False, description="names this run")
    plan = luigi.BoolParameter(
        default=False, significant=False,
        description="say videos, hours, requests and gigabytes, and start nothing",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        exit_codes.check_before_start(lambda: check_command(self.catalog, self.shards, self.retry))

    def complete(self) -> bool:
        """False: see the class."""
        # Luigi calls this in the process that schedules, after it has set its own handlers.
        SHUTDOWN.listen()
        return False

    def run(self) -> Iterator[Any]:
        """Build the catalog, request retries, build the shards that need work, and report."""
        from tasks.reporting import run_report

        check_machine(load_settings(self.catalog))
        yield BuildCatalog(catalog=self.catalog)
        if self.retry:
            reasons = _all_reasons(self.retry)
            yield RequestRetry(catalog=self.catalog, reasons=reasons, run_name=self.run_name)
        settings = load_settings(self.catalog)
        catalog = load_catalog(settings.layout)
        if settings.is_own:
            link_local_files(settings.layout, catalog)
            report_replaced_files(settings.layout, catalog)
            check_sites(settings, catalog)
        shards = parse_shards(self.shards, catalog.shard_count)
        if self.plan:
            print_plan(settings, catalog, shards)
            return
        yield LookAgain(
            catalog=self.catalog, shards=tuple(map(str, shards)), run_name=self.run_name
        )
        unfinished = unfinished_videos(settings, shards)
        if unfinished:
            video_ids = frozenset().union(*unfinished.values())
            progress.PROGRESS.plan(claimed_durations(catalog, video_ids))
            yield self._shard_tasks(settings.cluster.kind, unfinished)
        progress.PROGRESS.close()
        run_report.report_run(settings, shards, self.run_name)

    def _shard_tasks(self, cluster_kind: str, shards: Iterable[int]) -> Any:
        """One task for each shard in this process, or one task for all shards on Dask."""
        if cluster_kind == INLINE:
            return [
                ExtractShard(catalog=self.catalog, shard=shard, run_name=self.run_name)
                for shard in shards
            ]
        numbers = tuple(map(str, shards))
        return ExtractShards(catalog=self.catalog, shards=numbers, run_name=self.run_name)


class BuildVideoFeatures(BuildFeatures):
    """Builds features of your own videos: a folder, one video, a list of addresses, or a table.

    Its catalog is named after the path unless `--catalog` names it. Later, `BuildFeatures
    --catalog NAME` continues it, with the videos that were added since.
    """

    videos = luigi.Parameter(
        default="", description="a folder, a video, a list, or a table: see [list] path"
    )
    catalog = luigi.Parameter(default="", description="its name; by default that of the path")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names: list[str] = []
        exit_codes.check_before_start(
            lambda: names.append(_own_catalog(kwargs.get("videos", ""), kwargs.get("catalog", "")))
        )
        super().__init__(*args, **{**kwargs, "catalog": names[0]})


def _own_catalog(path: str, catalog: str) -> str:
    """The name of the catalog that the options mean. Raises SettingsError if they mean none."""
    if path:
        return own_catalogs.declare_path(path, catalog)
    if catalog:
        return catalog
    raise SettingsError(
        ("BuildVideoFeatures needs --videos: a folder, a video, a list of addresses, or a table",)
    )


class BuildPHD2Features(BuildFeatures):
    """Builds features of PHD2; of the embedded sample if no annotations of PHD2 are configured."""

    catalog = luigi.Parameter(
        default="", description="leave empty: phd2, or the sample if no annotations are set"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        exit_codes.check_before_start(_check_front_door)
        super().__init__(*args, **{"catalog": front_door_catalog(), **kwargs})
        if self.catalog in SAMPLES:
            progress.print_line(
                "No PHD2 annotations are configured "
                "([phd2] testing and training in workflows.cfg are empty): "
                "building the embedded sample."
            )


def _check_front_door() -> None:
    """Raise SettingsError if a folder is named, but nothing says that it holds PHD2."""
    if list(value_faults("download", dict(SECTIONS["download"].get_params()))):
        return  # `load_settings` reports them
    section: Any = SECTIONS["download"]()
    if front_door_catalog() in SAMPLES and "://" not in section.source:
        raise SettingsError(
            (
                f"[download] source names the folder {section.source}, and no annotations of PHD2 "
                "are set. For videos of your own, use `luigi --module tasks BuildVideoFeatures "
                f"--videos {section.source}`; for PHD2, set [phd2] testing and training",
            )
        )


def print_plan(settings: Settings, catalog: Catalog, shards: tuple[int, ...]) -> None:
    """Print what is left to build; needs the catalog, and starts nothing."""
    plan = make_plan(settings, catalog, unfinished_videos(settings, shards))
    for line in plan.lines():
        progress.print_line(line)


def _task_of_dataset(catalog: str) -> type[BuildFeatures]:
    """The task of one dataset, `Build<title>Features`, which needs no `--catalog`."""
    spec = DATASETS[catalog]
    doc = f"Features of {catalog}: {spec.description}."
    members = {"catalog": luigi.Parameter(default=catalog), "__doc__": doc, "__module__": __name__}
    return types.new_class(
        f"Build{spec.title}Features", (BuildFeatures,), exec_body=lambda body: body.update(members)
    )


DATASET_TASKS = {
    name: _task_of_dataset(name) for name, spec in DATASETS.items() if spec.title and name != PHD2
}
"""Dataset → its task, except for PHD2's, which may build the sample instead."""


def check_command(catalog: str, shards: str, retry: tuple[str, ...]) -> None:
    """Raise SettingsError with all faults of the settings and of the command line."""
    faults: list[str] = []
    try:
        check_time_origins(load_settings(catalog).layout)
    except SettingsError as error:
        faults += error.faults
    try:
        # The catalog may not exist yet, so only the form of the text is checked.
        _named_shards(shards, MAX_SHARDS_EVER)
    except SettingsError as error:
        faults += error.faults
    unknown = [reason for reason in retry if reason not in REASONS and reason != "all"]
    if unknown:
        allowed = ", ".join(sorted(REASONS))
        faults.append(f"--retry takes all, or reasons among {allowed}; got {', '.join(unknown)}")
    if faults:
        raise SettingsError(tuple(faults))


def check_time_origins(layout: Layout) -> None:
    """Raise SettingsError if seconds in the catalog's features count from another origin.

    New features must not join those.
    """
    store = FeatureStore(layout.folder)
    origins = {}
    for name in store.variants():
        with contextlib.suppress(IntegrityError):  # reported when that variant is built or audited
            origins[name] = store[name].time_origins
    refuse_to_extend(layout.folder, origins)


def unfinished_videos(settings: Settings, shards: tuple[int, ...]) -> dict[int, frozenset[str]]:
    """Incomplete shard → its unfinished videos. Luigi hears nothing of the complete shards."""
    catalog = load_catalog(settings.layout)
    unfinished = {}
    for shard in shards:
        videos = shard_job(settings, catalog, shard).todo()
        if videos:
            unfinished[shard] = videos
    return unfinished


def claimed_durations(catalog: Catalog, video_ids: Collection[str]) -> dict[str, float | None]:
    """Each of these videos → its duration in seconds as the catalog states it, or None."""
    return {
        video.video_id: video.claimed_duration_seconds
        for video in catalog.videos
        if video.video_id in video_ids
    }


def _all_reasons(retry: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(REASONS)) if "all" in retry else retry


luigi.Task.event_handler(luigi.Event.START)(lambda _: SHUTDOWN.listen())
luigi.Task.event_handler(luigi.Event.FAILURE)(lambda _, error: exit_codes.record_failure(error))
luigi.Task.event_handler(luigi.Event.BROKEN_TASK)(exit_codes.report_broken_task)
luigi.Task.event_handler(luigi.Event.DEPENDENCY_MISSING)(exit_codes.report_incomplete)
