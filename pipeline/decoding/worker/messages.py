"""Messages between a decode worker and its parent: JSON with its length in front, over pipes.

They contain numbers and names only; pixels travel in shared memory. Nothing that arrives is ever
executed.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Mapping
from typing import Any

from storage.base.fingerprint import to_json_value

LENGTH_BYTES = 4
"""Size of the length in front of every message."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
READ_BYTES = 65536

Message = dict[str, Any]


class NoAnswer(Exception):
    """No message arrived in the allowed time."""


def send(fd: int, kind: str, **fields: object) -> None:
    """Write one message. Dataclasses become objects.

    Raises BrokenPipeError if the other side has closed the pipe.
    """
    write(fd, message(kind, {name: to_json_value(value) for name, value in fields.items()}))


def message(kind: str, fields: Mapping[str, object]) -> bytes:
    """The bytes of one message. `fields` are JSON values; tuples become lists."""
    body = json.dumps({"kind": kind, **fields}).encode()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def write(fd: int, messages: bytes | bytearray) -> None:
    """Write whole messages. Raises BrokenPipeError if the other side has closed the pipe."""
    data = memoryview(messages)
    # A pipe takes no more than its capacity at a time.
    while data:
        data = data[os.write(fd, data) :]


Wait = Callable[[int, float | None], bool]
"""(file descriptor, seconds or None for no limit) → whether it became readable in time."""


def wait_readable(fd: int, timeout_seconds: float | None) -> bool:
    """Wait for one file descriptor, without checking anything else meanwhile."""
    poll = select.poll()  # unlike select(), it takes descriptors above 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_seconds is None else timeout_seconds * 1000))


class Inbox:
    """Receives messages from one file descriptor. `wait` may check other things meanwhile."""

    def __init__(self, fd: int, wait: Wait = wait_readable) -> None:
        self._fd = fd
        self._wait = wait
        self._bytes = bytearray()

    @property
    def has_message(self) -> bool:
        """Whether a whole message has arrived already."""
        if len(self._bytes) < LENGTH_BYTES:
            return False
        length = int.from_bytes(self._bytes[:LENGTH_BYTES], "big")
        return len(self._bytes) >= LENGTH_BYTES + length

    def receive(self, timeout_seconds: float | None = None) -> Message | None:
        """The next message, or None when the other side closes the pipe.

        Raises NoAnswer after `timeout_seconds` without a byte.
        """
        if not self.has_message:
            self._fill(LENGTH_BYTES, timeout_seconds)
        if len(self._bytes) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._bytes[:LENGTH_BYTES], "big")
        # A malicious file may have taken control of the worker, which can then send anything.
        if length > MAX_MESSAGE_BYTES:
            raise ValueError(
                f"a message claims {length} bytes, {MAX_MESSAGE_BYTES} are allowed: it is not "
                "from our worker"
            )
        end = LENGTH_BYTES + length
        self._fill(end, timeout_seconds)
        if len(self._bytes) < end:
            return None
        message: Message = json.loads(self._bytes[LENGTH_BYTES:end].decode())
        del self._bytes[:end]
        return message

    def _fill(self, count: int, timeout_seconds: float | None) -> None:
        """Read until `count` bytes are here, or the other side closes the pipe."""
        deadline = None
        if timeout_seconds is not None:
            deadline = time.monotonic() + timeout_seconds
        while len(self._bytes) < count:
            remaining = None
            if deadline is not None:
                remaining = max(0.0, deadline - time.monotonic())
            if not self._wait(self._fd, remaining):
                raise NoAnswer
            data = os.read(self._fd, READ_BYTES)
            if not data:
                return
            self._bytes += data
