"""Shutdown by a signal: Ctrl-C, a batch system's warning, a closed terminal.

The run ends soon and says how to continue. The work in progress is dropped, which is always safe: a
finished file has its final name on disk, and everything else is made again.
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
from tasks.config.exit_codes import Exit, record_failure

GRACE_SECONDS = 20.0
"""A clean end takes longer only if a download or a disk does not answer. Slurm kills after 30
seconds.
"""


class Stopped(SystemicFault):
    """A signal stopped the run; nothing is wrong with it."""


class ShutdownSignals:
    """The stop signal of this process, and the reaction to it."""

    def __init__(self) -> None:
        self._name = ""
        """Name of the signal that came; empty while none has."""
        self._interruptible_blocks = 0
        self._luigi_handler: Callable[[int, FrameType | None], object] | None = None

    def listen(self) -> None:
        """Handle stop signals from now on. Works in a main thread only; repeating it is fine."""
        if threading.current_thread() is not threading.main_thread():
            return
        # Luigi's worker has a handler of its own, after which it starts no more tasks.
        luigi_handler = signal.getsignal(signal.SIGUSR1)
        if callable(luigi_handler) and luigi_handler != self._on_signal:
            self._luigi_handler = luigi_handler
        for number in STOP_SIGNALS:
            # nohup and background jobs of a shell ignore signals on purpose: keep that.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that may be broken off anywhere: a stop signal raises Stopped inside it.

        Outside such a block, a stop signal ends the run after the present task.
        """
        self.check()
        self._interruptible_blocks += 1
        try:
            yield
        finally:
            self._interruptible_blocks -= 1

    def check(self) -> None:
        """Raise Stopped if a stop signal came.

        Needed because an exception that is raised inside a callback or a destructor is lost.
        """
        if self._name:
            raise Stopped(f"stopped by {self._name}.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._name:  # batch systems repeat their signals; the clean end is under way
            return
        self._name = signal.Signals(number).name
        _write_stderr(
            f"{self._name}: stopping. What is finished is kept; "
            "run the same command again to go on."
        )
        record_failure(Stopped())
        # Not threading.Thread: the interrupted code may hold a lock that starting one needs.
        _thread.start_new_thread(_exit_after_grace, ())
        if self._luigi_handler is not None:
            self._luigi_handler(signal.SIGUSR1, frame)
        for child in multiprocessing.active_children():  # Luigi's, if it has several workers
            if child.pid is not None:
                os.kill(child.pid, number)
        if self._interruptible_blocks:
            self.check()


def _write_stderr(line: str) -> None:
    # To the file descriptor: the interrupted code may be in the middle of a print.
    with suppress(OSError):  # the terminal may be closed
        os.write(2, f"\n{line}\n".encode())


def _exit_after_grace() -> None:
    time.sleep(GRACE_SECONDS)
    _write_stderr(
        f"not ended after {GRACE_SECONDS:g} s: leaving at once. Nothing finished is lost."
    )
    os._exit(Exit.PAUSED)


SHUTDOWN = ShutdownSignals()
"""The stop signals of this process."""
