"""The next batch is fetched, and copied to the GPU, while a step computes: a thread, one batch
ahead.

Refuses to know what a batch holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
_POLL_SECONDS = 0.1
"""How often a thread with a full queue looks whether anybody still wants what it has."""


@dataclass(frozen=True)
class _Failed:
    error: BaseException


class _End:
    """Nothing comes after it."""


def prefetch(items: Iterable[T], prepare: Callable[[T], U]) -> Generator[U, None, None]:
    """`prepare(item)` of each item, in order, each made by another thread while the one before it
    is in use.

    An error of `items` or `prepare` is raised where its item would have come. A loop that breaks
    off ends the thread.
    """
    ahead = _PrefetchThread(items, prepare)
    try:
        while not isinstance(found := ahead.ready.get(), _End):
            if isinstance(found, _Failed):
                raise found.error
            yield found
    finally:
        ahead.close()


class _PrefetchThread(Generic[T, U]):
    """The thread and what it has ready."""

    def __init__(self, items: Iterable[T], prepare: Callable[[T], U]) -> None:
        self.ready: Queue[U | _Failed | _End] = Queue(maxsize=1)
        self._items, self._prepare = items, prepare
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="one-ahead", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; returns when it has ended."""
        self._is_over.set()
        while self._thread.is_alive():
            try:
                self.ready.get_nowait()
            except Empty:
                self._thread.join(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._hand_over(self._prepare(item)):
                    return
            self._hand_over(_End())
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            self._hand_over(_Failed(error))

    def _hand_over(self, found: U | _Failed | _End) -> bool:
        while not self._is_over.is_set():
            try:
                self.ready.put(found, timeout=_POLL_SECONDS)
            except Full:
                continue
            return True
        return False
