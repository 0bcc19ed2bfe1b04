"""The shards of a run on Dask workers: longest first, one to a worker, until each is done or has
said why not.

Luigi sees one task. What a shard's end means is decided here: a worker that died sends its shard to
another; a video that keeps killing workers is blamed alone; a shard that is held elsewhere waits.
Nothing here is lost with this process, since workers write everything down: the same command goes
on later.
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
    BETWEEN,
    InFlightLog,
    WorkerRequest,
    WorkerShutdown,
    build_shard,
    versions,
)

TICK_SECONDS = 1.0
HELD_WAIT_SECONDS = 5.0
"""How long a shard waits that another process holds, before it is tried again."""
HELD_LIMIT_SECONDS = 180.0
"""How long it is tried in all: a worker that Dask gave up may still be alive for a while, and of
one that died with its node it takes two minutes of silence to know.
"""
LINE_EVERY_SECONDS = 60.0


def build_shards(settings: Settings, jobs: Sequence[ShardJob], run_name: str = "unnamed") -> None:
    """Build these shards on the workers of `[cluster]`, and return when all are complete.

    Raises the gravest of what stopped shards; those that could be built are built by then.
    """
    longest_first = sorted(jobs, key=lambda job: (-len(job.todo()), job.shard))
    with connect(
        settings.cluster,
        settings.slurm,
        device=settings.device,
        folder=settings.layout.cluster,
        shards=len(jobs),
    ) as workers:
        Dispatch(settings, workers, [job.shard for job in longest_first], run_name).run()


@dataclass(frozen=True)
class _Held:
    """A shard that another process holds: when to try again, and who said what about it."""

    until: float
    error: LeaseHeld


class Dispatch:
    """One run's shards: which wait, which are with a worker, which failed."""

    def __init__(
        self,
        settings: Settings,
        workers: DaskCluster,
        shards: Sequence[int],
        run_name: str = "unnamed",
    ) -> None:
        self._settings = dataclasses.replace(settings, device=workers.device)
        self._run_name = run_name
        self._crew = workers
        self._client = workers.client
        self._topic = f"video-highlights-{uuid.uuid4().hex}"
        self._versions = versions()
        self._waiting = deque(shards)
        self._held: dict[int, _Held] = {}
        self._held_since: dict[int, float] = {}
        self._with_a_worker: dict[Any, int] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._begun = {shard: InFlightLog(settings.layout.in_flight(shard)) for shard in shards}
        self._lines_seen = dict.fromkeys(shards, 0)
        self._one_by_one: set[int] = set()
        self._blamed: dict[int, frozenset[str]] = dict.fromkeys(shards, frozenset())
        self._errors: list[BaseException] = []
        self._videos = _VideosOnce()
        self._last_line = time.monotonic()

    def run(self) -> None:
        """Until nothing waits and nothing is with a worker."""
        for begun in self._begun.values():
            begun.forget()  # an earlier run's deaths are not held against its videos
        self._client.subscribe_topic(self._topic, self._videos.event)
        try:
            while self._waiting or self._held or self._with_a_worker:
                self._hand_out()
                self._take_back()
        except (OSError, TimeoutError, concurrent.futures.CancelledError) as error:
            raise _scheduler_gone(error) from error
        finally:
            self._client.unsubscribe_topic(self._topic)
        for found in self._errors:
            exit_codes.note(found)
        if self._errors:
            raise self._errors[0]

    def _hand_out(self) -> None:
        """As many shards as there are workers: what waits at a busy worker would be blamed for that
        worker's death.
        """
        workers = self._client.nthreads()
        self._tell_if_nobody_works(len(workers))
        for shard in [
            shard for shard, held in self._held.items() if time.monotonic() >= held.until
        ]:
            self._try_again(shard, self._held.pop(shard).error)
        while self._waiting and len(self._with_a_worker) < max(1, len(workers)):
            self._submit(self._waiting.popleft(), None)

    def _submit(self, shard: int, near: list[str] | None) -> None:
        order = WorkerRequest(
            settings=dataclasses.replace(self._settings, videos_at_once=1)
            if shard in self._one_by_one
            else self._settings,
            shard=shard,
            folder=Path.cwd(),
            topic=self._topic,
            versions=self._versions,
            blamed=self._blamed[shard],
            run_name=self._run_name,
        )
        name = f"shard-{shard:03d}-{uuid.uuid4().hex[:8]}"
        asked = {"workers": near, "allow_other_workers": True} if near else {}
        future = self._client.submit(build_shard, order, key=name, pure=False, **asked)
        self._with_a_worker[future] = shard
        future.add_done_callback(self._ended.put)

    def _take_back(self) -> None:
        try:
            future = self._ended.get(timeout=TICK_SECONDS)
        except queue.Empty:
            self._crew.replace_lost()
            if self._client.status != "running":
                raise _scheduler_gone(OSError(f"the connection is {self._client.status}")) from None
            return
        shard = self._with_a_worker.pop(future)
        error = future.exception()
        if error is not None:
            self._judge(shard, error)
        else:
            self._begun[shard].forget()

    def _judge(self, shard: int, error: BaseException) -> None:
        """What a shard's failure means: another try, patience, or the end of it."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            self._autopsy(shard, error.allowed_failures + 1)
        elif isinstance(error, WorkerShutdown):
            self._waiting.appendleft(shard)
        elif isinstance(error, LeaseHeld):
            self._hold(shard, error)
        elif isinstance(error, concurrent.futures.CancelledError):
            raise error
        else:
            self._give_up(error)

    def _autopsy(self, shard: int, deaths: int) -> None:
        """So many workers died with this shard. If all of them had one video in hand, it is blamed,
        and it alone.

        If the last had several, nobody knows which: the shard goes on with one at a time.
        """
        lines = self._begun[shard].lines()
        last = lines[-1] if lines else ""
        if BETWEEN in last and shard not in self._one_by_one:
            progress.say(
                f"shard {shard:03d}  {deaths} workers died with several videos in hand; now one after the other"
            )
            self._one_by_one.add(shard)
        elif last and len(lines) >= deaths and set(lines[-deaths:]) == {last}:
            progress.say(
                f"shard {shard:03d}  {last}: {deaths} workers died with it in hand; going on without it"
            )
            self._blamed[shard] |= {last}
        elif len(lines) == self._lines_seen[shard]:
            self._give_up(
                SystemicFault(
                    f"{deaths} workers died with shard {shard:03d} before they reached a video: see what the machine "
                    "says (dmesg; memory, drivers), then run the same command again."
                )
            )
            return
        self._lines_seen[shard] = len(lines)
        self._waiting.appendleft(shard)

    def _hold(self, shard: int, error: LeaseHeld) -> None:
        """Somebody else has it: a worker that Dask gave up too early, or one that died and whose
        host can tell.
        """
        since = self._held_since.setdefault(shard, time.monotonic())
        if time.monotonic() - since > HELD_LIMIT_SECONDS:
            self._give_up(error)
            return
        self._held[shard] = _Held(time.monotonic() + HELD_WAIT_SECONDS, error)

    def _try_again(self, shard: int, error: LeaseHeld) -> None:
        """Where its holder can be known to be dead; anywhere, if it let go or was silent for two
        minutes.
        """
        _, _, host = error.owner.rpartition(" on ")
        is_free, near = self._is_free(shard), self._workers_on(host)
        if is_free or near:
            self._submit(shard, near)
        else:
            self._hold(shard, error)

    def _is_free(self, shard: int) -> bool:
        """Each look counts as watching: what was silent for two minutes is taken over, and let
        go.
        """
        try:
            with lease(self._settings.layout.lease(shard)):
                return True
        except LeaseHeld:
            return False

    def _give_up(self, error: BaseException) -> None:
        """What is true of the machine or of the settings is true of every shard: no more are handed
        out.
        """
        self._errors.append(error)
        if isinstance(error, SystemicFault | SettingsError):
            self._waiting.clear()
            self._held.clear()

    def _workers_on(self, host: str) -> list[str]:
        """Only on its own host can a holder be known to be dead."""
        return [
            address
            for address, name in self._client.run(socket.gethostname).items()
            if name == host
        ]

    def _tell_if_nobody_works(self, workers: int) -> None:
        if workers:
            self._last_line = time.monotonic()
        elif time.monotonic() - self._last_line > LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            progress.say(
                f"no worker is here yet; waiting ([cluster] kind = {self._settings.cluster.kind})"
            )


class _VideosOnce:
    """Puts a run's events on the screen; a shard that is begun again tells of its finished videos
    again.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def event(self, event: tuple[float, dict[str, Any]]) -> None:
        """One event, with Dask's time of it."""
        _, said = event
        if "line" in said:
            progress.say(said["line"])
        elif (said["shard"], said["video"]) not in self._seen:
            self._seen.add((said["shard"], said["video"]))
            state, reason, detail = said["verdict"]
            progress.PROGRESS.video(
                said["shard"], said["video"], VideoStatus(State(state), reason, detail)
            )


def _scheduler_gone(error: BaseException) -> SystemicFault:
    return SystemicFault(
        f"the Dask scheduler is gone ({type(error).__name__}: {error}). What was built is kept; when there is a "
        "scheduler again, run the same command again."
    )
