"""Time limits of HTTP transfers: a deadline for one wait, and the least speed of a whole body.

Python's HTTP client starts its timeout again at each byte, so a server that sends one byte now and
then keeps it for ever. Here every wait ends at a `Deadline`, for everything before a body: a proxy,
a status line, headers, the size of a chunk, a trailer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

RESPONSE_SILENCES = 4
"""Limit for everything before a body, redirects included, as a multiple of the longest silence."""


class Deadline:
    """The end of a wait. A request and its redirects share one; a body sets it again."""

    def __init__(
        self, seconds: float, what: str, check_wanted: Callable[[], None] = lambda: None
    ) -> None:
        """A deadline in `seconds` for `what`, as error messages call it.

        `check_wanted` is called about once a second; it raises when the response is not needed any
        more.
        """
        self.allow(seconds, what)
        self._check_wanted = check_wanted

    def allow(self, seconds: float, what: str) -> None:
        """Set the deadline to `seconds` from now, for `what`."""
        self._seconds = seconds
        self._what = what
        self._end = time.monotonic() + seconds

    def left_seconds(self) -> float:
        """Seconds until the deadline, above 0.

        Raises TimeoutError after it, and what `check_wanted` raises.
        """
        self._check_wanted()
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: {self._what} took more than {self._seconds:g} s")
        return left


class TransferPace:
    """The least speed of one transfer, over all its responses, and its longest duration."""

    def __init__(
        self, window_seconds: float, min_bytes_per_second: float, max_seconds: float
    ) -> None:
        """The speed is measured over windows of `window_seconds`."""
        self._window_seconds = window_seconds
        self._window_bytes = min_bytes_per_second * window_seconds
        self._max_seconds = max_seconds
        self._end = time.monotonic() + max_seconds
        self._window_start = time.monotonic()
        self._received_bytes = 0

    def exclude(self, seconds: float) -> None:
        """Do not count the last `seconds`: they were spent on a response, which has a deadline."""
        self._window_start += seconds

    def before_read(self, deadline: Deadline) -> None:
        """Allow one window for the next bytes.

        Raises TimeoutError if the whole transfer takes too long.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: the transfer took more than {self._max_seconds:g} s")
        # A window without any byte is too slow in any case.
        deadline.allow(min(self._window_seconds, left), "the next bytes of the body")

    def after_read(self, size_bytes: int) -> None:
        """Count received bytes. Raises TimeoutError if a window had too few."""
        self._received_bytes += size_bytes
        now = time.monotonic()
        window_seconds = now - self._window_start
        # The end of a body (0 bytes) is never too slow.
        if not size_bytes or window_seconds < self._window_seconds:
            return
        if self._received_bytes < self._window_bytes:
            raise TimeoutError(f"timed out: {self._received_bytes} bytes in {window_seconds:.0f} s")
        self._window_start = now
        self._received_bytes = 0
