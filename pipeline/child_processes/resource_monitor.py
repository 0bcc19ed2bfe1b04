"""Watches a child process while we wait for it: its memory, and the last lines of its stderr.

Stderr is a pipe that is read as it fills, and only its end is kept: a flood of messages costs
neither disk nor memory, and does not block the child.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

STDERR_TAIL_BYTES = 4096
LOOK_SECONDS = 0.1
"""Between two looks at the child's memory."""
READ_BYTES = 65536
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class TooMuchMemory(Exception):
    """The child holds more memory than it may."""


class ResourceMonitor:
    """Watches one child. `stderr_fd` is read here; its owner closes it."""

    def __init__(
        self,
        pid: int,
        stderr_fd: int,
        max_memory_bytes: int,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_look` is called whenever the child's memory is read, and may raise."""
        # A child that writes nothing must not block us.
        os.set_blocking(stderr_fd, False)
        self._statm = Path(f"/proc/{pid}/statm")
        self._stderr_fd = stderr_fd
        self._max_memory_bytes = max_memory_bytes
        self._stderr = bytearray()
        self._looked_at = 0.0
        self._on_look = on_look

    def wait(self, fd: int, timeout_seconds: float | None) -> bool:
        """Whether `fd` has something to read before the time is over.

        Raises TooMuchMemory, and what `on_look` raises.
        """
        deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        poll = select.poll()  # unlike select(), it takes descriptors above 1023
        poll.register(fd, select.POLLIN)
        poll.register(self._stderr_fd, select.POLLIN)
        while True:
            left = max(0.0, deadline - time.monotonic())
            ready = dict(poll.poll(min(left, LOOK_SECONDS) * 1000))
            # At its end stderr is always ready; it would make this a busy loop.
            if self._stderr_fd in ready and not self._read_stderr():
                poll.unregister(self._stderr_fd)
            self._look()
            if fd in ready:
                return True
            if left <= 0:
                return False

    def stderr_tail(self) -> str:
        """The end of what the child wrote to stderr."""
        while self._read_stderr():
            pass
        return self._stderr.decode(errors="replace").strip()

    def private_bytes(self) -> int | None:
        """Memory that the child does not share.

        None if the system does not report it, or the child is gone.
        """
        try:
            # Shared pages are frames that the parent itself holds.
            _, resident, shared, *_ = map(int, self._statm.read_text().split())
        except (OSError, ValueError):
            return None
        return (resident - shared) * PAGE_BYTES

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        used_bytes = self.private_bytes()
        if used_bytes is not None and used_bytes > self._max_memory_bytes:
            raise TooMuchMemory(
                f"{used_bytes:,} bytes of memory, allowed {self._max_memory_bytes:,}"
            )
        self._on_look()

    def _read_stderr(self) -> bool:
        """Read what is there; False at the end, or if there is nothing yet."""
        try:
            data = os.read(self._stderr_fd, READ_BYTES)
        except BlockingIOError:
            return False
        self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]
        return bool(data)
