"""Processes several videos in parallel, one thread per decoder.

The first error of any thread ends all of them: the others stop at their next frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from models.extractors.base.precision import is_gpu
from pipeline.compute.devices import row_threads
from pipeline.decoding.events import Decoder, Event
from pipeline.decoding.worker.worker_process import WorkerThread
from pipeline.sampling.planner import VideoSampling

T = TypeVar("T")
ProcessItems = Callable[[Iterator[T], Decoder], None]
"""Processes items one after the other, with this decoder."""


CORES_PER_VIDEO = 4
"""If networks compute on a CPU.

Decoding needs about as much of it as the lightest network, and all others need far more.
"""


def default_parallel_videos(device: str, *, networks: bool) -> int:
    """How many videos to process in parallel: one per core, or fewer if a CPU runs networks."""
    cores = row_threads(has_networks=networks)
    if is_gpu(device) or not networks:
        return cores
    return max(1, cores // CORES_PER_VIDEO)


class _Stopped(BaseException):
    """Another thread met an error: leave the current video. No `except Exception` may catch it."""


@dataclass(frozen=True)
class _StoppableDecoder:
    """A decoder whose events end with `_Stopped` once `stop` is set."""

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
                raise _Stopped
            yield event

    def close(self) -> None:
        self.inner.close()


class _SharedIterator(Generic[T]):
    """One iterator for many threads. Each item goes to one of them, and none once `stop` is set."""

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


@dataclass
class _ThreadGroup(Generic[T]):
    """What the threads of one run share."""

    items: Iterator[T]
    process: ProcessItems[T]
    on_stop: Callable[[], None]
    stop: threading.Event
    errors: list[BaseException] = field(default_factory=list)
    """In the order in which the threads met them."""

    def run(self, decoder: Decoder) -> None:
        """The work of one thread."""
        try:
            self.process(self.items, _StoppableDecoder(decoder, self.stop))
        except _Stopped:
            pass  # the thread that met the error has recorded it
        except BaseException as error:  # noqa: BLE001  it is raised in the calling thread
            self.errors.append(error)
            self.cancel()
        finally:
            # In the thread that started the decoder's child, which may die with this thread.
            decoder.close()

    def cancel(self) -> None:
        """Let all threads end soon."""
        self.stop.set()
        self.on_stop()


def run_video_threads(
    items: Iterator[T],
    decoders: Sequence[Decoder],
    process: ProcessItems[T],
    on_stop: Callable[[], None],
) -> None:
    """Process the items with all decoders in parallel; with one decoder in the calling thread.

    Several decoders are closed by their threads. After an error, `on_stop` is called, all threads
    end, and the first error is raised.
    """
    if len(decoders) == 1:
        process(items, decoders[0])
        return
    stop = threading.Event()
    group = _ThreadGroup(_SharedIterator(items, stop), process, on_stop, stop)
    # Not a ThreadPoolExecutor: children of the decoders may only be tied to a `WorkerThread`.
    threads = [
        WorkerThread(target=group.run, args=(decoder,), name=f"video-{number}")
        for number, decoder in enumerate(decoders)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        # An interrupt reaches only this thread: without this the others would go on.
        group.cancel()
        for thread in threads:
            was_started = thread.ident is not None
            if was_started:
                thread.join()
        raise
    if group.errors:
        raise group.errors[0]
