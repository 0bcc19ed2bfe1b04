"""What a Dask worker does: one shard from settings and a number, a few numbers back.

Tells the run's own process of each video by events, keeps a note on disk of the video in hand, and
lets go of the shard when its worker is told to leave. Refuses to know who asked, and how many
workers there are.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.decoding.events import Decoder, Event
from pipeline.extraction.provenance import code_version, library_versions
from pipeline.sampling.planner import VideoSampling
from storage.base.errors import HighlightsError, SystemicFault, VideoError
from storage.base.records import JSON
from storage.base.video_status import VideoStatus, failure_status
from tasks.config.settings import Settings
from tasks.execution.catalogs import catalog_of
from tasks.execution.extract_shard import download_gate, extract_shard, shard_job

LOOK_EVERY_SECONDS = 0.5
"""How often a worker that waits for a download looks whether it is to end; Dask gives it 30 s."""
BETWEEN = "\t"
"""Stands between the ids of videos that were in hand together."""
Versions = tuple[tuple[str, str], ...]


class WorkerShutdown(HighlightsError):
    """The worker was told to end and has let go of its shard; another is to go on with it."""


@dataclass(frozen=True)
class WorkerRequest:
    """What is asked of a worker."""

    settings: Settings
    shard: int
    folder: Path
    """Relative paths in settings start here."""
    topic: str
    """Where events of this run go."""
    versions: Versions
    """What the asking process runs; a worker that runs anything else refuses."""
    blamed: frozenset[str] = frozenset()
    """Videos that killed workers: they get a verdict and are not touched."""
    run_name: str = "unnamed"
    """Times are kept under this."""


def versions() -> Versions:
    """What has to be the same wherever a run's shards are built."""
    ours = (
        ("this code", code_version()),
        ("distributed", importlib.metadata.version("distributed")),
    )
    return (*ours, *library_versions())


def build_shard(order: WorkerRequest) -> dict[str, JSON]:
    """Build one shard in this worker; where, how long, and how many videos it took.

    Raises what building a shard raises, LeaseHeld among it; WorkerLeaves if the worker was told to
    end.
    """
    from distributed import get_worker

    started = time.monotonic()
    _same_ground(order)
    worker = get_worker()
    told: list[str] = []

    def on_video(video_id: str, status: VideoStatus) -> None:
        told.append(video_id)
        said = [str(status.state), status.reason, status.detail]
        worker.log_event(order.topic, {"shard": order.shard, "video": video_id, "verdict": said})

    settings = order.settings
    gate = download_gate(settings, lambda line: worker.log_event(order.topic, {"line": line}))
    begun = InFlightLog(settings.layout.in_flight(order.shard))
    with _until_it_leaves(worker, gate.stop):
        extract_shard(
            settings,
            shard_job(settings, catalog_of(settings), order.shard),
            on_video=on_video,
            gate=gate,
            run_name=order.run_name,
            watched=lambda decoder: WatchedDecoder(
                decoder, begun, order.blamed, lambda: _leaves(worker)
            ),
        )
    begun.forget()
    seconds = round(time.monotonic() - started, 3)
    return {
        "shard": order.shard,
        "videos": len(told),
        "seconds": seconds,
        "host": socket.gethostname(),
    }


def _leaves(worker: Any) -> bool:
    return bool(worker.status.name != "running")


@contextlib.contextmanager
def _until_it_leaves(worker: Any, stop_waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, a download that only waits for its turn is stopped when the worker is told to end."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_SECONDS):
            if _leaves(worker):
                stop_waiting()
                return

    watcher = threading.Thread(target=watch, name="leaves", daemon=True)
    watcher.start()
    try:
        yield
    except SystemicFault as fault:
        if _leaves(worker):
            raise WorkerShutdown(str(fault)) from fault
        raise
    finally:
        over.set()
        watcher.join()


def _same_ground(order: WorkerRequest) -> None:
    """Raise SystemicFault unless this worker sees the run's folder and runs the run's code."""
    where = f"the worker on {socket.gethostname()}"
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise SystemicFault(
            f"{where} cannot enter {order.folder}: {error.strerror}. Workers need the file system of the run."
        ) from error
    asked, here = dict(order.versions), dict(versions())
    unlike = [
        f"{name} {here.get(name)} instead of {asked[name]}"
        for name in asked
        if here.get(name) != asked[name]
    ]
    if unlike:
        raise SystemicFault(
            f"{where} ({sys.executable}) has {', '.join(unlike)}. "
            "Start workers from the environment and the checkout of the run, so that one store has one maker."
        )


class InFlightLog:
    """The videos in hand whenever one was begun, one line each time, the latest last. Outlives the
    process, and is no more than a hint: it is not synced, and a lost line only means another try.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_hand: dict[int, str] = {}
        self._lock = threading.Lock()

    def note(self, video_id: str, decoder: int = 0) -> None:
        """A decoder has this video in hand now, others what they had before. An empty id: this one
        has none.
        """
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            self._in_hand[decoder] = video_id
            file.write(BETWEEN.join(filter(None, self._in_hand.values())) + "\n")

    def lines(self) -> list[str]:
        """All there are."""
        try:
            return self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def forget(self) -> None:
        """Start anew."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class WatchedDecoder:
    """A decoder that notes what is in hand, refuses what killed others, and stops when the worker
    leaves.
    """

    inner: Decoder
    begun: InFlightLog
    blamed: frozenset[str]
    leaves: Callable[[], bool]

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.inner.name

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """Events of one video, as the decoder inside gives them."""
        if video_id in self.blamed:
            raise VideoError(
                video_id, failure_status("crash", "workers died with this video in hand")
            )
        self.begun.note(video_id, id(self))
        for event in self.inner.decode(video_id, path, samplings):
            if self.leaves():
                self.begun.note("", id(self))
                raise WorkerShutdown(
                    f"the worker on {socket.gethostname()} was told to end while it built {video_id}"
                )
            yield event

    def close(self) -> None:
        """Leave nothing behind."""
        self.inner.close()
