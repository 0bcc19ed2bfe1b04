"""Distributes the shards of a run to Dask workers, longest first, one shard to a worker.

Luigi sees one task. This module decides what follows when a shard ends: another worker continues
the shard of a worker that died; a video that keeps killing workers is blamed, and only that video;
a shard that another process holds waits. If this process dies, nothing is lost, since workers write
everything to disk: the same command continues later.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import queue
import socket
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.extraction.shard_job import ShardJob
from storage.base.errors import LeaseHeld, SettingsError, SystemicFault
from storage.base.video_status import State, VideoStatus
from storage.files.file_lock import lease
from tasks.config import exit_codes
from tasks.config.settings import Settings
from tasks.execution import progress
from tasks.execution.cluster import DaskCluster, connect
from tasks.execution.dask_worker import (
    ID_SEPARATOR,
    InFlightLog,
    WorkerRequest,
    WorkerShutdown,
    build_shard,
    versions,
)

TICK_SECONDS = 1.0
HELD_WAIT_SECONDS = 5.0
"""How long a shard that another process holds waits before the next try."""
HELD_LIMIT_SECONDS = 180.0
"""How long a held shard is tried in all.

A worker that Dask gave up may live on for a while; that a worker died with its node is known after
two minutes of silence.
"""
LINE_EVERY_SECONDS = 60.0


def build_shards(settings: Settings, jobs: Sequence[ShardJob], run_name: str = "unnamed") -> None:
    """Build these shards on the workers of `[cluster]`, and return when all are complete.

    Raises the error that stopped a shard; all other shards that could be built are built by then.
    """
    longest_first = sorted(jobs, key=lambda job: (-len(job.todo()), job.shard))
    with connect(
        settings.cluster,
        settings.slurm,
        device=settings.device,
        folder=settings.layout.cluster,
        shards=len(jobs),
    ) as workers:
        Dispatcher(settings, workers, [job.shard for job in longest_first], run_name).run()


@dataclass(frozen=True)
class _HeldShard:
    """A shard that another process holds."""

    retry_at: float
    error: LeaseHeld


class Dispatcher:
    """The shards of one run: which wait, which are with a worker, which failed."""

    def __init__(
        self,
        settings: Settings,
        cluster: DaskCluster,
        shards: Sequence[int],
        run_name: str = "unnamed",
    ) -> None:
        self._settings = dataclasses.replace(settings, device=cluster.device)
        self._run_name = run_name
        self._cluster = cluster
        self._client = cluster.client
        self._topic = f"video-highlights-{uuid.uuid4().hex}"
        self._versions = versions()
        self._waiting = deque(shards)
        self._held: dict[int, _HeldShard] = {}
        self._held_since: dict[int, float] = {}
        self._shard_of_future: dict[Any, int] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._in_flight = {shard: InFlightLog(settings.layout.in_flight(shard)) for shard in shards}
        self._lines_seen = dict.fromkeys(shards, 0)
        self._one_by_one: set[int] = set()
        self._blamed: dict[int, frozenset[str]] = dict.fromkeys(shards, frozenset())
        self._errors: list[BaseException] = []
        self._events = _VideoEvents()
        self._last_line = time.monotonic()

    def run(self) -> None:
        """Distribute shards until none waits and none is with a worker."""
        for log in self._in_flight.values():
            log.delete()  # deaths of an earlier run do not count against its videos
        self._client.subscribe_topic(self._topic, self._events.on_event)
        try:
            while self._waiting or self._held or self._shard_of_future:
                self._submit_waiting()
                self._collect_one()
        except (OSError, TimeoutError, concurrent.futures.CancelledError) as error:
            raise _scheduler_lost(error) from error
        finally:
            self._client.unsubscribe_topic(self._topic)
        for failure in self._errors:
            exit_codes.record_failure(failure)
        if self._errors:
            raise self._errors[0]

    def _submit_waiting(self) -> None:
        """Submit as many shards as there are workers.

        A shard that waits at a busy worker would be blamed for that worker's death.
        """
        workers = self._client.nthreads()
        self._report_missing_workers(len(workers))
        self._retry_due()
        while self._waiting and len(self._shard_of_future) < max(1, len(workers)):
            self._submit(self._waiting.popleft())

    def _retry_due(self) -> None:
        now = time.monotonic()
        due = [shard for shard, held in self._held.items() if now >= held.retry_at]
        for shard in due:
            self._retry_held(shard, self._held.pop(shard).error)

    def _submit(self, shard: int, preferred_workers: Sequence[str] = ()) -> None:
        settings = self._settings
        if shard in self._one_by_one:
            settings = dataclasses.replace(settings, videos_at_once=1)
        request = WorkerRequest(
            settings=settings,
            shard=shard,
            folder=Path.cwd(),
            topic=self._topic,
            versions=self._versions,
            blamed=self._blamed[shard],
            run_name=self._run_name,
        )
        # Dask would answer a second task of the same name with the result of the first.
        key = f"shard-{shard:03d}-{uuid.uuid4().hex[:8]}"
        options: dict[str, Any] = {}
        if preferred_workers:
            options = {"workers": list(preferred_workers), "allow_other_workers": True}
        future = self._client.submit(build_shard, request, key=key, pure=False, **options)
        self._shard_of_future[future] = shard
        future.add_done_callback(self._ended.put)

    def _collect_one(self) -> None:
        try:
            future = self._ended.get(timeout=TICK_SECONDS)
        except queue.Empty:
            self._check_cluster()
            return
        shard = self._shard_of_future.pop(future)
        error = future.exception()
        if error is not None:
            self._handle_failure(shard, error)
        else:
            self._in_flight[shard].delete()

    def _check_cluster(self) -> None:
        self._cluster.replace_lost()
        if self._client.status != "running":
            raise _scheduler_lost(OSError(f"the connection is {self._client.status}"))

    def _handle_failure(self, shard: int, error: BaseException) -> None:
        """Retry the shard, wait for it, or give it up."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            self._handle_killed_workers(shard, error.allowed_failures + 1)
        elif isinstance(error, WorkerShutdown):
            self._waiting.appendleft(shard)
        elif isinstance(error, LeaseHeld):
            self._wait_for_holder(shard, error)
        elif isinstance(error, concurrent.futures.CancelledError):
            raise error
        else:
            self._give_up(error)

    def _handle_killed_workers(self, shard: int, deaths: int) -> None:
        """So many workers died with this shard.

        If all of them processed one and the same video, that video is blamed. If the last one
        processed several, the cause is unknown: the shard continues with one video at a time.
        """
        lines = self._in_flight[shard].lines()
        last_line = lines[-1] if lines else ""
        died_on_several = ID_SEPARATOR in last_line
        always_died_on_last = len(lines) >= deaths and set(lines[-deaths:]) == {last_line}
        if died_on_several and shard not in self._one_by_one:
            progress.log_line(
                f"shard {shard:03d}  {deaths} workers died while processing several videos; "
                "continuing with one video at a time"
            )
            self._one_by_one.add(shard)
        elif last_line and always_died_on_last:
            progress.log_line(
                f"shard {shard:03d}  {last_line}: {deaths} workers died while processing this "
                "video; video quarantined, shard continues"
            )
            self._blamed[shard] |= {last_line}
        elif len(lines) == self._lines_seen[shard]:
            self._give_up(
                SystemicFault(
                    f"{deaths} workers died with shard {shard:03d} before they reached a video. "
                    "Read the messages of the machine (dmesg; memory, drivers), then run the same "
                    "command again."
                )
            )
            return
        self._lines_seen[shard] = len(lines)
        self._waiting.appendleft(shard)

    def _wait_for_holder(self, shard: int, error: LeaseHeld) -> None:
        """Try later: the holder may be a worker that Dask gave up too early, or one that died."""
        since = self._held_since.setdefault(shard, time.monotonic())
        if time.monotonic() - since > HELD_LIMIT_SECONDS:
            self._give_up(error)
            return
        self._held[shard] = _HeldShard(time.monotonic() + HELD_WAIT_SECONDS, error)

    def _retry_held(self, shard: int, error: LeaseHeld) -> None:
        """Submit a held shard on its holder's host, or anywhere if the lease is free."""
        _, _, host = error.owner.rpartition(" on ")
        is_free = self._is_free(shard)
        workers_on_host = self._workers_on(host)
        if is_free or workers_on_host:
            self._submit(shard, workers_on_host)
        else:
            self._wait_for_holder(shard, error)

    def _is_free(self, shard: int) -> bool:
        # Each try also watches the lease: after two minutes of silence it is taken over here, and
        # released.
        try:
            with lease(self._settings.layout.lease(shard)):
                return True
        except LeaseHeld:
            return False

    def _give_up(self, error: BaseException) -> None:
        """Keep the error; after a fault of the machine or the settings, submit no more shards."""
        self._errors.append(error)
        if isinstance(error, SystemicFault | SettingsError):
            self._waiting.clear()
            self._held.clear()

    def _workers_on(self, host: str) -> list[str]:
        # Only on the holder's own host can a process find out that the holder is dead.
        hosts = self._client.run(socket.gethostname)
        return [address for address, name in hosts.items() if name == host]

    def _report_missing_workers(self, workers: int) -> None:
        now = time.monotonic()
        if workers:
            self._last_line = now
        elif now - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = now
            progress.log_line(
                f"no worker has connected yet; waiting "
                f"([cluster] kind = {self._settings.cluster.kind})"
            )


class _VideoEvents:
    """Shows the events of a run, each video once.

    A shard that begins again reports its finished videos again.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Show one event, which Dask delivers with its time."""
        _, content = event
        if "line" in content:
            progress.log_line(content["line"])
            return
        shard, video_id = content["shard"], content["video"]
        if (shard, video_id) in self._seen:
            return
        self._seen.add((shard, video_id))
        state, reason, detail = content["status"]
        status = VideoStatus(State(state), reason, detail)
        progress.PROGRESS.video_ended(shard, video_id, status)


def _scheduler_lost(error: BaseException) -> SystemicFault:
    return SystemicFault(
        f"the connection to the Dask scheduler is lost ({type(error).__name__}: {error}). "
        "What was built is kept. When a scheduler runs again, run the same command again."
    )
