"""Prefetch: a thread reads the next batch, and copies it to the GPU, while a step computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
_POLL_SECONDS = 0.1
"""How often a thread with a full queue checks whether it was closed."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _End:
    """Marks the end of the items."""


def prefetch(items: Iterable[T], prepare: Callable[[T], U]) -> Generator[U, None, None]:
    """`prepare(item)` of each item, in order, prepared by a thread while the last one is in use.

    An error of `items` or `prepare` is raised in place of its item. Closing the generator, or a
    loop that ends early, ends the thread.
    """
    thread = _PrefetchThread(items, prepare)
    try:
        while not isinstance(result := thread.results.get(), _End):
            if isinstance(result, _Failed):
                raise result.error
            yield result
    finally:
        thread.close()


class _PrefetchThread(Generic[T, U]):
    """The thread, and a queue of one prepared item."""

    def __init__(self, items: Iterable[T], prepare: Callable[[T], U]) -> None:
        self.results: Queue[U | _Failed | _End] = Queue(maxsize=1)
        self._items, self._prepare = items, prepare
        self._is_closed = threading.Event()
        # A daemon, so that an exception in the main thread does not leave the process hanging.
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when it has ended."""
        self._is_closed.set()
        while self._thread.is_alive():
            # Emptying the queue releases a thread that waits in `put`.
            try:
                self.results.get_nowait()
            except Empty:
                self._thread.join(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put(self._prepare(item)):
                    return
            self._put(_End())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that iterates
            self._put(_Failed(error))

    def _put(self, result: U | _Failed | _End) -> bool:
        """Wait for room in the queue; False if the thread was closed meanwhile."""
        while not self._is_closed.is_set():
            try:
                self.results.put(result, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False
