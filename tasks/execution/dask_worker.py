"""The work of a Dask worker: builds one shard from settings and a shard number.

The worker reports each video to the run's own process by Dask events, logs on disk which videos are
in progress, and releases the shard when Dask asks the worker to end.
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
from tasks.execution.catalogs import load_catalog
from tasks.execution.extract_shard import extract_shard, shard_job
from tasks.execution.video_sources import VideoSources

POLL_SECONDS = 0.5
"""How often a worker that waits for a download checks whether it has to end; Dask gives it 30 s."""
ID_SEPARATOR = "\t"
"""Stands between the ids of videos that were in progress together."""
Versions = tuple[tuple[str, str], ...]


class WorkerShutdown(HighlightsError):
    """Dask ended the worker, which released its shard; another worker has to continue it."""


@dataclass(frozen=True)
class WorkerRequest:
    """One shard to build, and all that a worker needs for it."""

    settings: Settings
    shard: int
    folder: Path
    """Relative paths in settings start here."""
    topic: str
    """Dask topic for the events of this run."""
    versions: Versions
    """Versions of the process that runs the build; a worker with other versions refuses."""
    blamed: frozenset[str] = frozenset()
    """Videos that killed workers. They get a failure status and are not decoded again."""
    run_name: str = "unnamed"
    """Times are saved under this name."""


def versions() -> Versions:
    """Versions that must be equal wherever shards of one run are built."""
    ours = (
        ("this code", code_version()),
        ("distributed", importlib.metadata.version("distributed")),
    )
    return (*ours, *library_versions())


def build_shard(request: WorkerRequest) -> dict[str, JSON]:
    """Build one shard in this worker, and return its host, seconds and number of videos.

    Raises what `extract_shard` raises, LeaseHeld among it; WorkerShutdown if Dask ends the worker.
    """
    from distributed import get_worker

    started = time.monotonic()
    check_environment(request)
    worker = get_worker()
    ended_ids: list[str] = []

    def on_video(video_id: str, status: VideoStatus) -> None:
        ended_ids.append(video_id)
        fields = [str(status.state), status.reason, status.detail]
        event = {"shard": request.shard, "video": video_id, "status": fields}
        worker.log_event(request.topic, event)

    settings = request.settings
    catalog = load_catalog(settings.layout)
    sources = VideoSources(
        settings, catalog, lambda line: worker.log_event(request.topic, {"line": line})
    )
    in_flight = InFlightLog(settings.layout.in_flight(request.shard))
    with _stop_when_leaving(worker, sources.stop):
        extract_shard(
            settings,
            shard_job(settings, catalog, request.shard),
            on_video=on_video,
            sources=sources,
            run_name=request.run_name,
            wrap_decoder=lambda decoder: WatchedDecoder(
                decoder, in_flight, request.blamed, lambda: _is_leaving(worker)
            ),
        )
    in_flight.delete()
    return {
        "shard": request.shard,
        "videos": len(ended_ids),
        "seconds": round(time.monotonic() - started, 3),
        "host": socket.gethostname(),
    }


def _is_leaving(worker: Any) -> bool:
    return bool(worker.status.name != "running")


@contextlib.contextmanager
def _stop_when_leaving(worker: Any, stop_waiting: Callable[[], None]) -> Iterator[None]:
    """Inside, stop a download that only waits for its turn once Dask ends the worker."""
    block_ended = threading.Event()

    def watch() -> None:
        while not block_ended.wait(POLL_SECONDS):
            if _is_leaving(worker):
                stop_waiting()
                return

    watcher = threading.Thread(target=watch, name="leaves", daemon=True)
    watcher.start()
    try:
        yield
    except SystemicFault as fault:
        # The stopped download looks like a fault of the site; the true cause is the shutdown.
        if _is_leaving(worker):
            raise WorkerShutdown(str(fault)) from fault
        raise
    finally:
        block_ended.set()
        watcher.join()


def check_environment(request: WorkerRequest) -> None:
    """Enter the run's folder. Raises SystemicFault without it, or if versions differ."""
    worker_name = f"the worker on {socket.gethostname()}"
    try:
        os.chdir(request.folder)
    except OSError as error:
        raise SystemicFault(
            f"{worker_name} cannot enter {request.folder}: {error.strerror}. "
            "Workers need the file system of the run."
        ) from error
    installed = dict(versions())
    differences = [
        f"{name} {installed.get(name)} instead of {version}"
        for name, version in request.versions
        if installed.get(name) != version
    ]
    if differences:
        raise SystemicFault(
            f"{worker_name} ({sys.executable}) has {', '.join(differences)}. Start workers from "
            "the environment and the checkout of the run, so that one store has one maker."
        )


class InFlightLog:
    """A file with the videos in progress: one line each time one begins, the latest last.

    It outlives the process. It is a hint only and is not synced: a lost line costs another try.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._id_of_decoder: dict[int, str] = {}
        self._lock = threading.Lock()

    def record(self, video_id: str, decoder: int = 0) -> None:
        """Log that a decoder works on this video now; an empty id means that it works on none."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            self._id_of_decoder[decoder] = video_id
            file.write(ID_SEPARATOR.join(filter(None, self._id_of_decoder.values())) + "\n")

    def lines(self) -> list[str]:
        """All lines; empty if there is no file."""
        try:
            return self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def delete(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class WatchedDecoder:
    """A decoder that logs its videos, refuses blamed ones, and stops when the worker has to end."""

    inner: Decoder
    in_flight: InFlightLog
    blamed: frozenset[str]
    is_leaving: Callable[[], bool]

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.inner.name

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """Events of one video, as the inner decoder yields them.

        Raises VideoError for a blamed video, WorkerShutdown when the worker has to end.
        """
        if video_id in self.blamed:
            raise VideoError(
                video_id, failure_status("crash", "workers died while processing this video")
            )
        self.in_flight.record(video_id, id(self))
        for event in self.inner.decode(video_id, path, samplings):
            if self.is_leaving():
                # An orderly end must not count against the video.
                self.in_flight.record("", id(self))
                raise WorkerShutdown(
                    f"the worker on {socket.gethostname()} was ended while it built {video_id}"
                )
            yield event

    def close(self) -> None:
        """Close the inner decoder."""
        self.inner.close()
