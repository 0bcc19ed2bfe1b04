"""HTTP responses whose headers arrive within a deadline and state the body's length without doubt.

Python's client accepts responses that can be read in two ways: two lengths, chunk sizes such as
`-5`, headers that end with the connection. A wrong guess would make a cut file look complete, so
such responses are refused here.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import re
import socket
import time
from email.message import Message
from typing import Any

from pipeline.download.http.time_limits import Deadline

MOST_INTERIM = 20
"""So many `100 Continue`, `102 Processing` or `103 Early Hints` may come before a response."""
LOOK_EVERY_SECONDS = 1.0
"""How often `Deadline` is asked while a connection is silent."""
BLOCK_BYTES = 1 << 16
_LONGEST_CHUNK_LINE_BYTES = 4096
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_LENGTH = re.compile(r"[0-9]{1,18}")


class InvalidResponse(http.client.HTTPException):
    """The response breaks the rules of HTTP, so it is unknown which bytes the server meant."""


class TooLarge(InvalidResponse):
    """More bytes than allowed, as received or decompressed."""

    def __init__(self, size_bytes: int, allowed_bytes: int) -> None:
        super().__init__(f"{size_bytes:,} bytes, allowed {allowed_bytes:,}")


class _TimedReader(io.RawIOBase):
    """A socket's bytes. A read ends at the deadline, or when the other side is silent too long."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        # An open file keeps the connection open.
        self._open_file = connection.makefile("rb", buffering=0)
        self._silence_seconds = connection.gettimeout() or math.inf
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        silent_until = time.monotonic() + self._silence_seconds
        while True:
            wait = min(self._deadline.left_seconds(), silent_until - time.monotonic())
            if wait <= 0:
                raise TimeoutError(f"timed out: nothing came for {self._silence_seconds:g} s")
            self._connection.settimeout(min(wait, LOOK_EVERY_SECONDS))
            with contextlib.suppress(TimeoutError):
                return self._connection.recv_into(buffer)

    def close(self) -> None:
        super().close()
        self._open_file.close()


class TimedSocket:
    """The part of a socket that `BoundedResponse` needs: a file to read, with a deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self.deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file of the socket's bytes."""
        return io.BufferedReader(_TimedReader(self._connection, self.deadline), BLOCK_BYTES)


class _LineReader:
    """Reads lines of a file and keeps the last one; it is empty at the end of the connection."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def close(self) -> None:
        self._file.close()


class BoundedResponse(http.client.HTTPResponse):
    """A response with one length or plain chunks, after few interim responses."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.deadline: Deadline = sock.deadline

    def begin(self) -> None:
        """Read everything before the body.

        Raises InvalidResponse if it breaks off, or the body's length is in doubt.
        """
        if self.headers is not None:
            return
        file = self.fp
        lines = _LineReader(file)
        self.fp = lines
        try:
            super().begin()
        except http.client.UnknownProtocol as error:
            # The text of the error is only the version.
            raise InvalidResponse(
                f"the server answers in {error.version[:40]!r}; only HTTP/1 is supported"
            ) from error
        finally:
            # Unless the base class closed the connection, which sets `fp` to None.
            if self.fp is lines:
                self.fp = file
        # The base class takes the end of the connection for the end of the headers: half an address
        # of a redirect would be followed.
        if lines.last not in (b"\r\n", b"\n"):
            raise InvalidResponse("the answer breaks off within its headers")
        declared_bytes(self.headers)
        self._fix_chunked()

    def _fix_chunked(self) -> None:
        """Set the body to chunked where the base class overlooks it.

        The base class reads only the first Transfer-Encoding header, white space included.
        """
        is_declared = _transfer_coding(self.headers) == "chunked"
        has_no_body = self.length == 0
        if self.chunked or has_no_body:
            return
        if is_declared:
            self.chunked = True
            self.chunk_left = None
            self.length = None

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INTERIM):
            version, status, reason = self._read_status_line()
            is_interim = 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS
            if not is_interim:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise InvalidResponse(f"the server sent {MOST_INTERIM} interim answers and no other")

    def _read_status_line(self) -> tuple[str, int, str]:
        try:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            return line
        # A subclass of BadStatusLine: no response came at all, which is a network error.
        except http.client.RemoteDisconnected:
            raise
        except http.client.BadStatusLine as error:
            # The text of the error is only the line.
            raise InvalidResponse(
                f"the server answers {str(error).strip()[:80]!r}, which is not a status of HTTP"
            ) from error

    def _read_next_chunk_size(self) -> int:
        # The base class accepts `-5` and `0x10` as sizes.
        # The line may have extensions after a semicolon; they are ignored.
        line = self.fp.readline(_LONGEST_CHUNK_LINE_BYTES)
        size = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not _CHUNK_SIZE.fullmatch(size):
            self.close()
            raise ValueError(f"a chunk cannot have the size {size[:20]!r}")
        return int(size, 16)


def declared_bytes(headers: Message) -> int | None:
    """The length that headers state for a body; None if they state none.

    Raises InvalidResponse if the length is in doubt.
    """
    transfer_coding = _transfer_coding(headers)
    if transfer_coding not in ("", "chunked"):
        raise InvalidResponse(
            f"the server sends Transfer-Encoding {transfer_coding[:40]!r}; "
            "only chunked is supported"
        )
    if transfer_coding == "chunked":
        return None
    lengths = set(_header_values(headers, "Content-Length"))
    if not lengths:
        return None
    # Some servers repeat the header; that is harmless only if all are equal.
    length = min(lengths)
    if len(lengths) > 1 or not _LENGTH.fullmatch(length):
        stated = " and ".join(sorted(lengths))
        raise InvalidResponse(f"the server states the length {stated[:80]!r}, not one number")
    return int(length)


def content_codings(headers: Message) -> tuple[str, ...]:
    """How a body is compressed, the outermost last.

    No request asks for compression, but some servers compress anyway.
    """
    return tuple(_codings(headers, "Content-Encoding"))


def _transfer_coding(headers: Message) -> str:
    """The distinct codings of all Transfer-Encoding headers together."""
    return ", ".join(dict.fromkeys(_codings(headers, "Transfer-Encoding")))


def _codings(headers: Message, name: str) -> list[str]:
    codings = [value.lower() for value in _header_values(headers, name)]
    return [coding for coding in codings if coding not in ("", "identity")]


def _header_values(headers: Message, name: str) -> list[str]:
    """The values of all headers of that name, each split at its commas."""
    values: list[str] = []
    for header in headers.get_all(name, []):
        values += [part.strip() for part in str(header).split(",")]
    return values
