"""HTTP answers that end: a wall limit for all that comes before a body, a pace for the body, little
memory for both.

Python's own client waits for each byte anew, so that a server which sends one now and then is
waited for without end; it reads the bodies of redirects whole, and hands packed bodies on as they
are. Here every wait ends at a `Deadline`, whatever is being waited for: a proxy, a status line,
headers, the size of a chunk, a trailer. Knows no files, no ranges and no retries.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import math
import re
import socket
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

from pipeline.download.http.content_encoding import decode_content

ANSWER_SILENCES = 4
"""Everything before a body, redirects included, may take so many times as long as the other side
may stay silent.
"""
MOST_INTERIM = 20
"""So many `100 Continue`, `102 Processing` or `103 Early Hints` may come before an answer."""
MOST_CODINGS = 3
LOOK_EVERY_SECONDS = 1.0
"""So often a silent connection is asked whether anybody still waits for it."""
BLOCK_BYTES = 1 << 16
_LONGEST_CHUNK_LINE_BYTES = 4096
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_LENGTH = re.compile(r"[0-9]{1,18}")


class InvalidResponse(http.client.HTTPException):
    """The answer breaks the rules of HTTP, so that nobody can say which bytes the server meant."""


class TooLarge(InvalidResponse):
    """More bytes than allowed, as they came or unpacked."""

    def __init__(self, size_bytes: int, allowed_bytes: int) -> None:
        super().__init__(f"{size_bytes:,} bytes, allowed {allowed_bytes:,}")


class Deadline:
    """When what is being waited for must be there. A request and its redirects share one; a body
    sets it anew.
    """

    def __init__(
        self, seconds: float, what: str, still_wanted: Callable[[], None] = lambda: None
    ) -> None:
        """`still_wanted` is called about every second, and raises when nobody waits for the answer
        any more.
        """
        self.allow(seconds, what)
        self._still_wanted = still_wanted

    def allow(self, seconds: float, what: str) -> None:
        """From now on so long, for `what`."""
        self._seconds, self._what = seconds, what
        self._end = time.monotonic() + seconds

    def left_seconds(self) -> float:
        """More than 0. Raises TimeoutError when the time is over, and what `still_wanted`
        raises.
        """
        self._still_wanted()
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: {self._what} took more than {self._seconds:g} s")
        return left


class TransferPace:
    """What one transfer must show, over all its answers: so many bytes in every window, and an
    end.
    """

    def __init__(
        self, window_seconds: float, min_bytes_per_second: float, whole_seconds: float
    ) -> None:
        self._window_seconds = window_seconds
        self._window_bytes = min_bytes_per_second * window_seconds
        self._whole_seconds = whole_seconds
        self._end = time.monotonic() + whole_seconds
        self._window_start = time.monotonic()
        self._got_bytes = 0

    def excuse(self, seconds: float) -> None:
        """So long it was not the body that was waited for, but an answer; that has a deadline of
        its own.
        """
        self._window_start += seconds

    def before_read(self, deadline: Deadline) -> None:
        """Allow one window for the next bytes. Raises TimeoutError when the whole transfer takes
        too long.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"timed out: the transfer took more than {self._whole_seconds:g} s")
        deadline.allow(min(self._window_seconds, left), "the next bytes of the body")

    def took(self, size_bytes: int) -> None:
        """So many bytes of the body came. Raises TimeoutError for a drip."""
        self._got_bytes += size_bytes
        now = time.monotonic()
        if size_bytes and now - self._window_start >= self._window_seconds:
            if self._got_bytes < self._window_bytes:
                raise TimeoutError(
                    f"timed out: {self._got_bytes} bytes in {now - self._window_start:.0f} s"
                )
            self._window_start, self._got_bytes = now, 0


class _TimedReader(io.RawIOBase):
    """A socket's bytes. No read outlasts the deadline, and none the time the other side may stay
    silent.
    """

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._held = connection.makefile(
            "rb", buffering=0
        )  # as long as it is open, so is the connection
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
        self._held.close()


class _TimedSocket:
    """What a `BoundedResponse` needs of a socket: a file to read."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self.deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connection, self.deadline), BLOCK_BYTES)


class _Lines:
    """The lines of a file, and the last one that was read; empty at the end of the connection."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def close(self) -> None:
        self._file.close()


class BoundedResponse(http.client.HTTPResponse):
    """An answer whose framing is beyond doubt: one length, plain chunks, few interim answers."""

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.deadline: Deadline = sock.deadline

    def begin(self) -> None:
        """Read everything before the body. Raises InvalidResponse if it breaks off, or the body's
        length is in doubt.
        """
        if self.headers is not None:
            return
        file, lines = self.fp, _Lines(self.fp)
        self.fp = lines
        try:
            super().begin()
        except http.client.UnknownProtocol as error:  # its text is the version alone
            raise InvalidResponse(
                f"the server answers in {error.version[:40]!r}; only HTTP/1 is read"
            ) from error
        finally:
            if self.fp is lines:  # an answer that is no HTTP is closed already
                self.fp = file
        # The built-in method takes the end of the connection for the end of the headers: half an
        # address of a redirect would be followed.
        if lines.last not in (b"\r\n", b"\n"):
            raise InvalidResponse("the answer breaks off within its headers")
        declared_bytes(self.headers)
        if _transfer_coding(self.headers) == "chunked" and not self.chunked and self.length != 0:
            # The built-in method looks at the first header of that name alone, blanks included.
            self.chunked, self.chunk_left, self.length = True, None, None

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INTERIM):
            version, status, reason = self._status_line()
            if status == http.client.SWITCHING_PROTOCOLS or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise InvalidResponse(f"the server sent {MOST_INTERIM} interim answers and no other")

    def _status_line(self) -> tuple[str, int, str]:
        try:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            return line
        except http.client.RemoteDisconnected:
            raise
        except http.client.BadStatusLine as error:  # its text is the line alone
            raise InvalidResponse(
                f"the server answers {str(error).strip()[:80]!r}, which is not a status of HTTP"
            ) from error

    def _read_next_chunk_size(self) -> int:
        # The built-in method takes `-5` and `0x10` for sizes.
        line = self.fp.readline(_LONGEST_CHUNK_LINE_BYTES)
        size = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not _CHUNK_SIZE.fullmatch(size):
            self.close()
            raise ValueError(f"a chunk cannot have the size {size[:20]!r}")
        return int(size, 16)


def declared_bytes(headers: Message) -> int | None:
    """The length that a body states; None if it states none. Raises InvalidResponse where that is in
    doubt.
    """
    transfer_coding = _transfer_coding(headers)
    if transfer_coding not in ("", "chunked"):
        raise InvalidResponse(
            f"the server sends Transfer-Encoding {transfer_coding[:40]!r}; chunked alone is read"
        )
    if transfer_coding == "chunked":
        return None
    told = {
        part.strip()
        for value in headers.get_all("Content-Length", [])
        for part in str(value).split(",")
    }
    if not told:
        return None
    if len(told) > 1 or not _LENGTH.fullmatch(min(told)):
        raise InvalidResponse(
            f"the server states the length {' and '.join(sorted(told))[:80]!r}, which is no number"
        )
    return int(min(told))


def _transfer_coding(headers: Message) -> str:
    """What all headers of that name say together."""
    told = [
        name.strip().lower()
        for value in headers.get_all("Transfer-Encoding", [])
        for name in value.split(",")
    ]
    named = dict.fromkeys(name for name in told if name not in ("", "identity"))
    return ", ".join(named)


def codings(headers: Message) -> tuple[str, ...]:
    """How a body is packed, the outermost last. Nothing is asked to be packed, and some servers do
    it all the same.
    """
    told = [
        name.strip().lower()
        for value in headers.get_all("Content-Encoding", [])
        for name in value.split(",")
    ]
    return tuple(name for name in told if name not in ("", "identity"))


class Body:
    """The body of an answer, unpacked: all of it, or an error."""

    def __init__(self, answer: BoundedResponse, limit_bytes: int) -> None:
        self._answer = answer
        # Some answers state the length of a body that they do not have: those to HEAD, 204, 304.
        self._declared_bytes = 0 if answer.length == 0 else declared_bytes(answer.headers)
        self.codings = codings(answer.headers)
        self.limit_bytes = limit_bytes
        """Of the bytes as they come, and of the unpacked ones."""
        self.pace: TransferPace | None = None
        """None: what is left of the answer's deadline is for the body too."""
        self.closed = False
        self._pieces = self._unpacked()
        self._rest = b""

    def read1(self, most_bytes: int) -> bytes:
        """The next bytes, at most so many; empty at the end.

        Raises ConnectionError, TimeoutError, TooLarge, and InvalidResponse or another
        `http.client.HTTPException`.
        """
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data, self._rest = self._rest[:most_bytes], self._rest[most_bytes:]
        return data

    def read(self, amount: int | None = None) -> bytes:
        """So many bytes, or all; fewer only at the end. Raises what `read1` does."""
        got = bytearray()
        while amount is None or len(got) < amount:
            data = self.read1(BLOCK_BYTES if amount is None else amount - len(got))
            if not data:
                break
            got += data
        return bytes(got)

    def readable(self) -> bool:
        """As files say it."""
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self.closed = True
        self._answer.close()

    def _unpacked(self) -> Iterator[bytes]:
        size_bytes = 0
        try:
            for piece in self._pieces_without_codings():
                size_bytes += len(piece)
                self._allow(size_bytes)
                yield piece
        except (zlib.error, ValueError, EOFError) as error:
            raise InvalidResponse(
                f"the body is packed as {', '.join(self.codings)}, and {error}"
            ) from error
        finally:
            self._answer.close()  # at the end, and after any error, the connection is of no more use

    def _pieces_without_codings(self) -> Iterator[bytes]:
        if len(self.codings) > MOST_CODINGS:
            raise ValueError(f"that is {len(self.codings)} times over")
        pieces = self._raw()
        for coding in reversed(self.codings):
            pieces = decode_content(pieces, coding)
        return pieces

    def _raw(self) -> Iterator[bytes]:
        size_bytes = 0
        while data := self._received():
            size_bytes += len(data)
            self._allow(size_bytes)
            yield data
        if self._declared_bytes not in (None, size_bytes):
            raise ConnectionError(f"{size_bytes:,} of {self._declared_bytes:,} bytes came")

    def _received(self) -> bytes:
        if self.pace is not None:
            self.pace.before_read(self._answer.deadline)
        try:
            data = self._answer.read1(BLOCK_BYTES)
        except (ConnectionError, TimeoutError):
            raise
        except http.client.IncompleteRead as error:
            raise InvalidResponse(
                "the connection ended within a chunk of the body, or before the last one"
            ) from error
        except OSError as error:  # others, of routes and devices, would look like those of our disk
            raise ConnectionError(str(error)) from error
        if self.pace is not None:
            self.pace.took(len(data))
        return data

    def _allow(self, size_bytes: int) -> None:
        if size_bytes > self.limit_bytes:
            raise TooLarge(size_bytes, self.limit_bytes)


class BoundedConnections:
    """Mixed into a handler of urllib or yt-dlp: each connection it opens reads by the deadline of
    the request.
    """

    deadline: Callable[[], Deadline]

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        """As `urllib.request.AbstractHTTPHandler.do_open`."""
        open_bounded: Any = super().do_open  # type: ignore[misc]
        return open_bounded(
            functools.partial(_connection, http_class, self.deadline()), req, **options
        )


def _connection(http_class: Any, deadline: Deadline, host: str, **options: Any) -> Any:
    silence = options.get("timeout")
    if isinstance(silence, int | float):
        options["timeout"] = min(silence, deadline.left_seconds())
    connection = http_class(host, **options)
    connection.response_class = lambda sock, *rest, **more: BoundedResponse(
        _TimedSocket(sock, deadline), *rest, **more
    )
    return connection


class UnreadRedirects:
    """Mixed into a redirect handler: the body of a redirect is not read. urllib would read it
    whole, into memory.
    """

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """As `urllib.request.HTTPRedirectHandler.http_error_302`."""
        if "location" in headers or "uri" in headers:
            fp.close()
        follow: Any = super().http_error_302  # type: ignore[misc]
        return follow(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class _HTTPHandler(BoundedConnections, urllib.request.HTTPHandler):
    pass


class _HTTPSHandler(BoundedConnections, urllib.request.HTTPSHandler):
    pass


class _RedirectHandler(UnreadRedirects, urllib.request.HTTPRedirectHandler):
    pass


def bounded_opener(silence_seconds: float) -> urllib.request.OpenerDirector:
    """Opens http and https within the limits, for one request. Other kinds of addresses are not
    opened.
    """
    deadline = Deadline(ANSWER_SILENCES * silence_seconds, "the answer")
    opener = urllib.request.OpenerDirector()
    plain, secure = _HTTPHandler(), _HTTPSHandler()
    plain.deadline = secure.deadline = lambda: deadline
    for handler in (
        urllib.request.ProxyHandler(),
        plain,
        secure,
        urllib.request.UnknownHandler(),
        _RedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
