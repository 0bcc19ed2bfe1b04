"""Computes rows in parallel on a CPU: as many threads as torch has, and each row on one of them.

A row computed on one thread has the same bits however many threads there are. It costs no more
either: several threads on one row wait for each other, threads on different rows do not. Rows on a
GPU are computed by `pipeline.compute.gpu_batcher`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from numpy.typing import NDArray

from models.extractors.base.contract import Extractor
from models.extractors.base.precision import is_gpu
from pipeline.compute.devices import row_threads
from pipeline.compute.extractor_calls import Caller, naming_errors

T = TypeVar("T")
Clip = Sequence[Any]
"""The prepared frames of one window."""
Rows = Mapping[str, Sequence[NDArray[Any]]]
"""Array name → one row per window."""

REQUESTS_PER_THREAD = 2
"""Requests per thread, including the one being computed. Further ones block, to bound memory."""


@dataclass(frozen=True)
class ComputeRequest:
    """Windows whose rows are to be computed."""

    extractor: Extractor
    clips: Sequence[Clip]
    max_batch: int = 1
    """Windows of this extractor that may share a batch on a GPU. A CPU ignores it."""
    record_time: Callable[[str, float], None] = lambda _step, _seconds: None
    """Called with `compute` or `copy`, and the seconds that it took."""
    caller: Caller | None = None
    """For whom the rows are computed; None: an error of the extractor stays as it is."""


Compute = Callable[[ComputeRequest], Future[Rows]]
"""Computes the rows of a request, now or later; may block until there is room."""


class RowExecutor:
    """A pool of threads that compute one row each; for a GPU a single thread."""

    def __init__(self, device: str, *, has_networks: bool = True) -> None:
        threads = row_threads(has_networks=has_networks)
        # One thread keeps a GPU busy.
        self.thread_count = 1 if is_gpu(device) else threads
        # The queue of a ThreadPoolExecutor has no limit of its own.
        self._room = threading.BoundedSemaphore(REQUESTS_PER_THREAD * self.thread_count)
        started = threading.Barrier(self.thread_count)

        def start() -> None:
            if has_networks:
                _limit_torch_to_one_thread()
            # Until all have started: otherwise one thread could take two of these tasks.
            started.wait()

        self._pool = ThreadPoolExecutor(self.thread_count, "row")
        for start_task in [self._pool.submit(start) for _ in range(self.thread_count)]:
            start_task.result()
        if has_networks:
            import torch

            # A number set in one thread also holds for all threads started later.
            torch.set_num_threads(threads)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Call `function(*arguments)` on the next free thread; blocks while the backlog is full."""
        self._room.acquire()
        future = self._pool.submit(function, *arguments)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def compute(self, request: ComputeRequest) -> Future[Rows]:
        """The future rows of a request, computed on one thread; blocks as `submit` does."""
        return self.submit(_extract, request)

    def __enter__(self) -> RowExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _limit_torch_to_one_thread() -> None:
    import torch

    # A thread's first query sets its number to that of the process, and would undo an earlier set.
    torch.get_num_threads()
    torch.set_num_threads(1)


def compute_inline(request: ComputeRequest) -> Future[Rows]:
    """As `RowExecutor.compute`, but in the calling thread, before this returns."""
    future: Future[Rows] = Future()
    future.set_result(_extract(request))
    return future


def _extract(request: ComputeRequest) -> Rows:
    began = time.perf_counter()
    try:
        if request.caller is None:
            return request.extractor.extract(request.clips)
        with naming_errors(request.caller, request.extractor, "extract"):
            return request.extractor.extract(request.clips)
    finally:
        request.record_time("compute", time.perf_counter() - began)
