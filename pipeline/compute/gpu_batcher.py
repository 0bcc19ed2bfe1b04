"""Computes windows of several videos in batches on one GPU, copying one batch as another computes.

A batch holds windows of one extractor, from any videos. A free thread takes the windows that are
there, so that none waits for a batch to fill up; if the GPU is slower than decoding, it finds full
batches. `GpuBatcher.compute` blocks while enough windows of its extractor wait, which bounds
memory. A batch that does not fit in GPU memory is halved, and so are all later batches of that
extractor in this process: the size says nothing about a video.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from models.extractors.base.contract import Extractor
from models.extractors.base.precision import is_gpu
from pipeline.compute.cpu_executor import Clip, ComputeRequest, Rows
from pipeline.compute.extractor_calls import extractor_failure, is_of_extractor
from storage.base.errors import SystemicFault

GPU_THREADS = 3
"""Batches in flight: one computes, while others are stacked and copied, or their boxes are read."""
WAITING_BATCHES = 2
"""Full batches of an extractor that may wait, besides those in flight."""
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")
"""Words of CUDA's own libraries, in errors that are not torch's."""

Pending = tuple[ComputeRequest, Future[Rows]]


@dataclass
class _ExtractorQueue:
    """The waiting requests of one extractor."""

    extractor: Extractor
    max_batch: int
    """Windows in a batch, at most."""
    requests: deque[Pending] = field(default_factory=deque)
    waiting: int = 0
    """Windows in `requests`."""

    @property
    def has_room(self) -> bool:
        return self.waiting < WAITING_BATCHES * self.max_batch

    @property
    def fill(self) -> float:
        """How many full batches wait."""
        return self.waiting / self.max_batch

    def add(self, request: ComputeRequest, future: Future[Rows]) -> None:
        self.requests.append((request, future))
        self.waiting += len(request.clips)

    def take_batch(self) -> list[Pending]:
        """The oldest requests, as many as fit in a batch; cancelled ones are dropped."""
        # A power of two, so that a GPU meets few shapes if windows come one by one.
        room = _power_of_two_up_to(min(self.waiting, self.max_batch))
        batch: list[Pending] = []
        while self.requests:
            request, future = self.requests[0]
            # The first request is taken even if it is larger than a batch.
            if batch and len(request.clips) > room:
                break
            self.requests.popleft()
            self.waiting -= len(request.clips)
            if future.set_running_or_notify_cancel():
                batch.append((request, future))
                room -= len(request.clips)
        return batch


class _Backlog:
    """All waiting requests, by extractor. Many threads add them, the GPU's threads take them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[int, _ExtractorQueue] = {}
        """By identity of the extractor."""
        self._is_closed = False
        self._error: BaseException | None = None

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._error is not None

    def add(self, request: ComputeRequest) -> Future[Rows]:
        """Queue a request once there is room. Raises RuntimeError after `close` or `fail`."""
        future: Future[Rows] = Future()
        with self._changed:
            queue = self._queue_of(request)
            self._changed.wait_for(lambda: queue.has_room or self._is_over)
            if self._is_over:
                reason = f" after an error: {self._error}" if self._error else ""
                raise RuntimeError(f"GPU batcher is closed{reason}")
            queue.add(request, future)
            self._changed.notify_all()
        return future

    def _queue_of(self, request: ComputeRequest) -> _ExtractorQueue:
        extractor = request.extractor
        # Extractors need not be hashable.
        key = id(extractor)
        if key not in self._queues:
            fitting = known_batch_size(extractor, request.max_batch)
            self._queues[key] = _ExtractorQueue(extractor, min(request.max_batch, fitting))
        return self._queues[key]

    def take_batch(self) -> tuple[_ExtractorQueue, list[Pending]] | None:
        """Wait for requests; returns a batch of the fullest queue, None after `close` or `fail`.

        The batch is empty if all its requests were cancelled.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_requests())
            if self._is_over:
                return None
            fullest = max(self._queues.values(), key=lambda queue: queue.fill)
            batch = fullest.take_batch()
            self._changed.notify_all()
            return fullest, batch

    def _has_requests(self) -> bool:
        return any(queue.requests for queue in self._queues.values())

    def limit_batches(self, queue: _ExtractorQueue, size: int) -> None:
        """Make batches of an extractor no larger than `size`, for the rest of this process."""
        with self._changed:
            queue.max_batch = min(queue.max_batch, size)
            _FITTING_SIZES[id(queue.extractor)] = (weakref.ref(queue.extractor), queue.max_batch)

    def close(self) -> None:
        """Cancel what waits; later requests are refused."""
        with self._changed:
            self._is_closed = True
            waiting = self._remove_all()
        for future in waiting:
            future.cancel()

    def fail(self, error: BaseException) -> None:
        """End all waiting requests with this error; later ones are refused with it."""
        with self._changed:
            self._error = error
            waiting = self._remove_all()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _remove_all(self) -> list[Future[Rows]]:
        waiting: list[Future[Rows]] = []
        for queue in self._queues.values():
            waiting += [future for _, future in queue.requests]
            queue.requests.clear()
        self._changed.notify_all()
        return waiting


class GpuBatcher:
    """Threads that compute batches on one device. Tests use it with a CPU as the device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._backlog = _Backlog()
        # A lock each, and not one for all: batches of several threads overlap on the GPU.
        self._device_locks = [threading.Lock() for _ in range(GPU_THREADS)]
        """One per thread, held while it computes. Holding all of them reserves the device."""
        self._threads = [
            threading.Thread(target=self._run, args=(lock, _own_stream(device)), name="gpu")
            for lock in self._device_locks
        ]
        for thread in self._threads:
            thread.start()

    def compute(self, request: ComputeRequest) -> Future[Rows]:
        """The future rows of a request; blocks while enough windows of its extractor wait.

        The future raises the extractor's error, for all windows of its batch, and SystemicFault if
        the device has no memory for a single window. Raises RuntimeError once the batcher is
        closed.
        """
        return self._backlog.add(request)

    def _run(self, lock: threading.Lock, stream: AbstractContextManager[object]) -> None:
        """The work of one thread."""
        try:
            with stream:
                while True:
                    taken = self._backlog.take_batch()
                    if taken is None:
                        return
                    queue, batch = taken
                    if batch:
                        self._compute_batch(queue, batch, lock)
        except BaseException as error:  # noqa: BLE001  raised wherever rows are awaited, now or later
            # The thread itself broke, not what it computed: no request may wait for it.
            self._backlog.fail(error)

    def _compute_batch(
        self, queue: _ExtractorQueue, batch: Sequence[Pending], lock: threading.Lock
    ) -> None:
        clips = [clip for request, _ in batch for clip in request.clips]
        began = time.perf_counter()
        try:
            rows = self._extract(queue, clips, lock)
        except BaseException as error:  # noqa: BLE001  it is raised where the rows are awaited
            named = _named_error(batch, error)
            for _, future in batch:
                future.set_exception(named)
            return
        seconds = time.perf_counter() - began
        copying = copying_seconds(self._device)
        first = 0
        for request, future in batch:
            last = first + len(request.clips)
            share = len(request.clips) / len(clips)
            request.record_time("copy", copying * share)
            request.record_time("compute", (seconds - copying) * share)
            # Copies: a view would keep the rows of the whole batch in memory, including those of
            # other videos.
            own_rows = {
                name: [np.array(row) for row in array[first:last]] for name, array in rows.items()
            }
            future.set_result(own_rows)
            first = last

    def _extract(self, queue: _ExtractorQueue, clips: Sequence[Clip], lock: threading.Lock) -> Rows:
        """Rows of a batch, halved as often as the device's memory requires."""
        with lock:
            rows = self._try_extract(queue.extractor, clips)
        if rows is not None:
            return rows
        if len(clips) <= 1:
            return self._extract_single(queue.extractor, clips)
        half = _power_of_two_up_to(len(clips) - 1)
        self._backlog.limit_batches(queue, half)
        first = self._extract(queue, clips[:half], lock)
        second = self._extract(queue, clips[half:], lock)
        return {name: [*first[name], *second[name]] for name in first}

    def _extract_single(self, extractor: Extractor, clips: Sequence[Clip]) -> Rows:
        """Rows of one window, while no other thread computes: theirs may be what was too much."""
        with self._whole_device():
            rows = self._try_extract(extractor, clips)
        if rows is None:
            raise SystemicFault(
                f"{self._device} has no memory for one window of {type(extractor).__name__}. "
                "Close other programs that use it, choose smaller inputs, or set [extract] "
                "device = cpu. Finished videos are kept."
            )
        return rows

    @contextmanager
    def _whole_device(self) -> Iterator[None]:
        # All threads lock in the same order, so no two can wait for each other.
        with ExitStack() as stack:
            for lock in self._device_locks:
                stack.enter_context(lock)
            yield

    def _try_extract(self, extractor: Extractor, clips: Sequence[Clip]) -> Rows | None:
        """The rows, or None if memory ran out."""
        try:
            return extractor.extract(clips)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the tensors that its traceback kept in memory.
        if is_gpu(self._device):
            import torch

            torch.cuda.empty_cache()
        return None

    def __enter__(self) -> GpuBatcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backlog.close()
        for thread in self._threads:
            thread.join()


def _named_error(batch: Sequence[Pending], error: BaseException) -> BaseException:
    """An error of the extractor with the videos of its batch; other errors stay as they are."""
    callers = [request.caller for request, _ in batch if request.caller is not None]
    if not callers or not is_of_extractor(error):
        return error
    return extractor_failure(callers, batch[0][0].extractor, "extract", error)


def _power_of_two_up_to(number: int) -> int:
    """The largest power of two that is not above `number`, which is at least 1."""
    return 1 << (number.bit_length() - 1)


def _own_stream(device: str) -> AbstractContextManager[object]:
    """A context with a CUDA stream of its own: its work runs beside that of other streams."""
    if not is_gpu(device):
        return nullcontext()
    import torch  # takes seconds to import; only runs that compute rows need it

    stream: AbstractContextManager[object] = torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    return stream


def copying_seconds(device: str) -> float:
    """Seconds that this thread spent on copying frames to a GPU since the last call."""
    if not is_gpu(device):
        return 0.0
    from models.extractors.base.inference import GPU_COPY_TIME

    return GPU_COPY_TIME.read_and_reset()


_FITTING_SIZES: dict[int, tuple[weakref.ref[Extractor], int]] = {}
"""Batch sizes that fit, of extractors that once ran out of memory in this process.

By identity, with a reference that shows whether the identity still belongs to the same extractor.
"""


def known_batch_size(extractor: Extractor, otherwise: int) -> int:
    """The batch size that fits, if an extractor ran out of memory in this process."""
    reference, size = _FITTING_SIZES.get(id(extractor), (None, otherwise))
    if reference is None or reference() is not extractor:
        return otherwise
    return size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory ran out, in torch's words or in those of CUDA's libraries."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)
