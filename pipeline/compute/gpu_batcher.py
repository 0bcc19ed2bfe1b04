"""Windows of all videos in hand, computed in batches on one GPU: while one batch computes, the next
is copied.

A batch holds windows of one extractor, of whichever videos brought them. A lane that is free takes
what is there, so no window waits for a batch to be full; a GPU that is slower than the decoding
finds full batches. Whoever brings windows waits while enough of that extractor's wait already,
which bounds memory. A batch that the GPU's memory does not hold is halved, and so are all later
ones of that extractor in this process: it says nothing of a video. Refuses to know videos and what
is computed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from models.extractors.base.contract import Extractor
from models.extractors.base.precision import is_gpu
from pipeline.compute.cpu_executor import Clip, ComputeRequest, Rows
from storage.base.errors import SystemicFault

GPU_THREADS = 3
"""Batches in hand at a time: one computes, while others are put together and copied, or looked
through for boxes.
"""
WAITING_BATCHES = 2
"""Full batches of an extractor that may wait, beside those in hand."""
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")
"""What CUDA's own libraries say, in errors that are not torch's."""


@dataclass
class _Queue:
    """One extractor's windows that wait."""

    extractor: Extractor
    size: int
    """Windows in a batch, at most."""
    asked: deque[tuple[ComputeRequest, Future[Rows]]] = field(default_factory=deque)
    waiting: int = 0
    """Windows in `asked`."""

    @property
    def has_room(self) -> bool:
        return self.waiting < WAITING_BATCHES * self.size

    def take(self) -> list[tuple[ComputeRequest, Future[Rows]]]:
        """A batch off the front, without what nobody wants any more. A power of two windows, so
        that a GPU meets few shapes, where they are brought one by one.
        """
        room = 1 << (min(self.waiting, self.size).bit_length() - 1)
        taken: list[tuple[ComputeRequest, Future[Rows]]] = []
        while self.asked and (not taken or len(self.asked[0][0].clips) <= room):
            work, future = self.asked.popleft()
            self.waiting -= len(work.clips)
            if future.set_running_or_notify_cancel():
                taken.append((work, future))
                room -= len(work.clips)
        return taken


class GpuBatcher:
    """Threads that feed one device. `device` may be a CPU, for tests of what is no matter of a
    GPU.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._changed = threading.Condition()
        self._queues: dict[int, _Queue] = {}
        self._ended = False
        self._broken: BaseException | None = None
        self._turns = [threading.Lock() for _ in range(GPU_THREADS)]
        """One a lane, held while it computes; who holds all of them has the device for itself."""
        self._lanes = [
            threading.Thread(target=self._run, args=(turn, _own_stream(device)), name="gpu")
            for turn in self._turns
        ]
        for lane in self._lanes:
            lane.start()

    def compute(self, work: ComputeRequest) -> Future[Rows]:
        """The rows of `work`, some time; waits while enough windows of that extractor wait.

        The future raises what the extractor raised, for all windows of its batch, and SystemicFault
        where the device has no memory for a single window.
        """
        future: Future[Rows] = Future()
        with self._changed:
            queue = self._queue_of(work)
            self._changed.wait_for(lambda: queue.has_room or self._over)
            if self._over:
                raise RuntimeError(
                    f"these lanes have ended: {self._broken or 'nothing is wanted of them'}"
                )
            queue.asked.append((work, future))
            queue.waiting += len(work.clips)
            self._changed.notify_all()
        return future

    def _queue_of(self, work: ComputeRequest) -> _Queue:
        key = id(work.extractor)
        if key not in self._queues:
            self._queues[key] = _Queue(
                work.extractor,
                min(work.max_batch, known_batch_size(work.extractor, work.max_batch)),
            )
        return self._queues[key]

    def _run(self, turn: threading.Lock, stream: AbstractContextManager[object]) -> None:
        try:
            with stream:
                while (found := self._take()) is not None:
                    queue, taken = found
                    if taken:
                        self._answer(queue, taken, turn)
        except BaseException as error:  # noqa: BLE001  whoever waits, now or later, is told
            self._give_up(error)

    @property
    def _over(self) -> bool:
        return self._ended or self._broken is not None

    def _give_up(self, error: BaseException) -> None:
        """A lane broke by itself, not by what it was given: nobody may wait for it."""
        with self._changed:
            self._broken = error
            left = self._left()
            self._changed.notify_all()
        for future in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _left(self) -> list[Future[Rows]]:
        left = [future for queue in self._queues.values() for _, future in queue.asked]
        for queue in self._queues.values():
            queue.asked.clear()
        return left

    def _take(self) -> tuple[_Queue, list[tuple[ComputeRequest, Future[Rows]]]] | None:
        """Of the extractor with most to do; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or any(queue.asked for queue in self._queues.values())
            )
            if self._over:
                return None
            fullest = max(self._queues.values(), key=lambda queue: queue.waiting / queue.size)
            taken = fullest.take()
            self._changed.notify_all()
            return fullest, taken

    def _answer(
        self,
        queue: _Queue,
        taken: Sequence[tuple[ComputeRequest, Future[Rows]]],
        turn: threading.Lock,
    ) -> None:
        clips = [clip for work, _ in taken for clip in work.clips]
        began = time.perf_counter()
        try:
            rows = self._rows(queue, clips, turn)
        except BaseException as error:  # noqa: BLE001  it is raised where the rows are wanted
            for _, future in taken:
                future.set_exception(error)
            return
        spent, copying = time.perf_counter() - began, copying_seconds(self._device)
        first = 0
        for work, future in taken:
            last = first + len(work.clips)
            share = len(work.clips) / len(clips)
            work.record_time("copy", copying * share)
            work.record_time("compute", (spent - copying) * share)
            # Copies: a row that is a view would keep the rows of the whole batch in memory, other
            # videos' among them.
            future.set_result(
                {name: [np.array(row) for row in of[first:last]] for name, of in rows.items()}
            )
            first = last

    def _rows(self, queue: _Queue, clips: Sequence[Clip], turn: threading.Lock) -> Rows:
        """Rows of a batch, in as many pieces as memory asks for."""
        with turn:
            rows = self._tried(queue.extractor, clips)
        if rows is None and len(clips) > 1:
            half = 1 << ((len(clips) - 1).bit_length() - 1)
            self._remember(queue, half)
            pieces = [self._rows(queue, piece, turn) for piece in (clips[:half], clips[half:])]
            return {name: [row for piece in pieces for row in piece[name]] for name in pieces[0]}
        if rows is None:
            with ExitStack() as alone:  # what the other lane has in hand may be what was too much
                for each in self._turns:
                    alone.enter_context(each)
                rows = self._tried(queue.extractor, clips)
        if rows is None:
            raise SystemicFault(
                f"{self._device} has no memory for one window of {type(queue.extractor).__name__}. Close what else "
                "uses it, choose smaller inputs, or set [extract] device = cpu; what is finished is kept."
            )
        return rows

    def _tried(self, extractor: Extractor, clips: Sequence[Clip]) -> Rows | None:
        """None where memory ran out. The error is gone when this returns, and with it all that it
        held on to.
        """
        try:
            return extractor.extract(clips)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if is_gpu(self._device):
            import torch

            torch.cuda.empty_cache()
        return None

    def _remember(self, queue: _Queue, size: int) -> None:
        with self._changed:
            queue.size = min(queue.size, size)
            _SIZES[id(queue.extractor)] = (weakref.ref(queue.extractor), queue.size)

    def __enter__(self) -> GpuBatcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._ended = True
            left = self._left()
            self._changed.notify_all()
        for future in left:
            future.cancel()
        for lane in self._lanes:
            lane.join()


def _own_stream(device: str) -> AbstractContextManager[object]:
    """Inside, a GPU does what it is told beside, and not after, what other streams tell it."""
    if not is_gpu(device):
        return nullcontext()
    import torch  # seconds to import: only what computes rows pays

    stream: AbstractContextManager[object] = torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
    return stream


def copying_seconds(device: str) -> float:
    """What this thread has spent on bringing pictures to a GPU since it last asked."""
    if not is_gpu(device):
        return 0.0
    from models.extractors.base.inference import GPU_COPY_TIME

    return GPU_COPY_TIME.read_and_reset()


_SIZES: dict[int, tuple[weakref.ref[Extractor], int]] = {}
"""Of this process's extractors, by identity: how many windows the device holds, where it once did
not hold more.
"""


def known_batch_size(extractor: Extractor, otherwise: int) -> int:
    """How many windows of an extractor may share a batch, by what happened in this process."""
    known = _SIZES.get(id(extractor))
    return otherwise if known is None or known[0]() is not extractor else known[1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory ran out, in torch's words or in those of CUDA's
    libraries.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )
