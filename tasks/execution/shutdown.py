"""Orders to stop: Ctrl-C, a batch system's warning, a closed terminal. The run ends soon, and says
how to go on.

The work in hand is dropped where it stands, which is always safe: what is finished has its name on
disk, and the rest is made again. Refuses to know what the work is.
"""

from __future__ import annotations

import _thread
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from pipeline.child_processes.exit_status import STOP_SIGNALS
from storage.base.errors import SystemicFault
from tasks.config.exit_codes import Exit, note

GRACE_SECONDS = 20.0
"""A clean end takes longer only when a download or a disk does not answer. Slurm kills after 30
seconds.
"""


class Stopped(SystemicFault):
    """The run was told to stop; nothing is wrong with it."""


class ShutdownSignals:
    """What this process was told, and what it then does."""

    def __init__(self) -> None:
        self._name = ""
        self._droppable = 0
        self._ask_for_no_more: Callable[[int, FrameType | None], object] | None = None

    def listen(self) -> None:
        """Take orders from now on; only a main thread can. More than once is fine."""
        if threading.current_thread() is not threading.main_thread():
            return
        luigis = signal.getsignal(
            signal.SIGUSR1
        )  # its worker's own handler: it asks for no more tasks
        if callable(luigis) and luigis != self._told:
            self._ask_for_no_more = luigis
        for number in STOP_SIGNALS:
            if (
                signal.getsignal(number) != signal.SIG_IGN
            ):  # nohup, or a shell's background job: not for us to undo
                signal.signal(number, self._told)

    @contextmanager
    def drop_at_once(self) -> Iterator[None]:
        """Work that may be broken off anywhere: an order raises Stopped inside the block.

        Elsewhere an order ends the run after the task in hand.
        """
        self.check()
        self._droppable += 1
        try:
            yield
        finally:
            self._droppable -= 1

    def check(self) -> None:
        """Raise Stopped if an order came: an exception that struck where nothing can pass it on
        would be lost.
        """
        if self._name:
            raise Stopped(f"stopped by {self._name}.")

    def _told(self, number: int, frame: FrameType | None) -> None:
        if self._name:  # batch systems repeat themselves; the clean end is under way
            return
        self._name = signal.Signals(number).name
        _tell(
            f"{self._name}: stopping. What is finished is kept; run the same command again to go on."
        )
        note(Stopped())
        # Not a Thread: one may be in the middle of starting, with a lock held that this would wait
        # for.
        _thread.start_new_thread(_end_at_last, ())
        if self._ask_for_no_more is not None:
            self._ask_for_no_more(signal.SIGUSR1, frame)
        for child in multiprocessing.active_children():  # Luigi's, if it has several workers
            if child.pid is not None:
                os.kill(child.pid, number)
        if self._droppable:
            self.check()


def _tell(line: str) -> None:
    # Straight to the descriptor: the interrupted code may be in the middle of printing.
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"\n{line}\n".encode())


def _end_at_last() -> None:
    time.sleep(GRACE_SECONDS)
    _tell(f"not ended after {GRACE_SECONDS:g} s: leaving at once. Nothing finished is lost.")
    os._exit(Exit.PAUSED)


ORDERS_TO_US = ShutdownSignals()
"""This process's ear."""
