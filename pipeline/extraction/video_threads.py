"""Several videos in hand at once: as many threads as there are decoders, each of which leads one
video at a time.

The first error of any of them ends all; the others stop at their next frame. Refuses to know what
is done to a video.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from models.extractors.base.precision import is_gpu
from pipeline.compute.devices import row_threads
from pipeline.decoding.events import Decoder, Event
from pipeline.decoding.worker.worker_process import WorkerThread
from pipeline.sampling.planner import VideoSampling

T = TypeVar("T")
Lead = Callable[[Iterator[T], Decoder], None]
"""Do what is to be done with each item, with this decoder."""


CORES_PER_VIDEO = 4
"""Where networks compute on a CPU. Decoding and the lightest of them need about as much of it; all
others far more.
"""


def default_parallel_videos(device: str, *, networks: bool) -> int:
    """How many videos to have in hand, by what computes: on a GPU or without networks one for each
    core of ours.
    """
    cores = row_threads(has_networks=networks)
    return cores if is_gpu(device) or not networks else max(1, cores // CORES_PER_VIDEO)


class _Stopping(BaseException):
    """Another thread met an error: leave what is in hand."""


@dataclass(frozen=True)
class _Stoppable:
    """A decoder that is left when somebody says so."""

    inner: Decoder
    stop: threading.Event

    @property
    def name(self) -> str:
        return self.inner.name

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        for event in self.inner.decode(video_id, path, samplings):
            if self.stop.is_set():
                raise _Stopping
            yield event

    def close(self) -> None:
        self.inner.close()


class _Shared(Generic[T]):
    """One iterator for many threads: each item goes to one of them, and none when it is time to
    stop.
    """

    def __init__(self, items: Iterator[T], stop: threading.Event) -> None:
        self._items = items
        self._stop = stop
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self._stop.is_set():
                raise StopIteration
            return next(self._items)


def run_video_threads(
    items: Iterator[T], decoders: Sequence[Decoder], lead: Lead[T], on_stop: Callable[[], None]
) -> None:
    """`lead` the items with each of the decoders, side by side; with a single one, in the calling
    thread.

    Raises the first error there was, after `on_stop` and the end of all threads. Decoders of
    threads are closed.
    """
    if len(decoders) == 1:
        lead(items, decoders[0])
        return
    stop = threading.Event()
    shared = _Shared(items, stop)
    errors: list[BaseException] = []

    def run(decoder: Decoder) -> None:
        try:
            lead(iter(shared), _Stoppable(decoder, stop))
        except _Stopping:
            pass
        except BaseException as error:  # noqa: BLE001  it is raised in the calling thread
            errors.append(error)
            stop.set()
            on_stop()
        finally:
            decoder.close()

    threads = [
        WorkerThread(target=run, args=(decoder,), name=f"video-{n}")
        for n, decoder in enumerate(decoders)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        stop.set()
        on_stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if errors:
        raise errors[0]
