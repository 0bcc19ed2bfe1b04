"""Rows computed side by side: as many lanes as torch has threads, and each row on one lane alone.

One row on one thread gives the same bits however many lanes there are, and costs no more: the
threads of one row wait for each other, lanes do not. A GPU's rows are computed by
`pipeline.compute.gpu_batcher`. Refuses to know what is computed.
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

T = TypeVar("T")
Clip = Sequence[Any]
"""The prepared frames of one window."""
Rows = Mapping[str, Sequence[NDArray[Any]]]
"""Array → a row for each window."""

REQUESTS_PER_THREAD = 2
"""Pieces of work for each lane, the one in hand included. Whoever brings more waits, which bounds
memory.
"""


@dataclass(frozen=True)
class ComputeRequest:
    """Windows whose rows somebody wants."""

    extractor: Extractor
    clips: Sequence[Clip]
    max_batch: int = 1
    """So many windows of this extractor may share a batch on a GPU; a CPU computes what it is
    given, as it is given.
    """
    record_time: Callable[[str, float], None] = lambda _what, _seconds: None
    """Told what the work took: `compute` or `copy`, seconds."""


Compute = Callable[[ComputeRequest], Future[Rows]]
"""Lets rows be computed, now or later; may wait until there is room."""


class RowExecutor:
    """A pool of threads, each of which computes on one core; for a GPU a single one, beside the
    decoding.
    """

    def __init__(self, device: str, *, has_networks: bool = True) -> None:
        threads = row_threads(has_networks=has_networks)
        self.count = 1 if is_gpu(device) else threads
        self._room = threading.BoundedSemaphore(REQUESTS_PER_THREAD * self.count)
        started = threading.Barrier(self.count)

        def begin() -> None:
            if has_networks:
                _compute_on_one_thread()
            started.wait()

        self._pool = ThreadPoolExecutor(self.count, "lane")
        for beginning in [self._pool.submit(begin) for _ in range(self.count)]:
            beginning.result()
        if has_networks:
            import torch

            torch.set_num_threads(
                threads
            )  # a number set in one thread is also that of all threads yet to come

    def submit(self, work: Callable[..., T], *given: Any) -> Future[T]:
        """`work(*given)` on the next free lane; waits while the backlog is full."""
        self._room.acquire()
        future = self._pool.submit(work, *given)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def compute(self, work: ComputeRequest) -> Future[Rows]:
        """The rows of `work`, on one lane; waits as `submit` does."""
        return self.submit(_rows, work)

    def __enter__(self) -> RowExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _compute_on_one_thread() -> None:
    import torch

    torch.get_num_threads()  # a thread's first question sets its number to that of the process, for good
    torch.set_num_threads(1)


def compute_inline(work: ComputeRequest) -> Future[Rows]:
    """What `RowExecutor.compute` does, here and now: for callers that have no lanes."""
    future: Future[Rows] = Future()
    future.set_result(_rows(work))
    return future


def _rows(work: ComputeRequest) -> Rows:
    began = time.perf_counter()
    try:
        return work.extractor.extract(work.clips)
    finally:
        work.record_time("compute", time.perf_counter() - began)
