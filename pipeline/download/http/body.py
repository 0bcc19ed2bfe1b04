"""The decompressed body of an HTTP response: all of it or an error, with limits of size and time.

A body is never held in memory as a whole, however much its compressed bytes decompress to.
"""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Iterator

from pipeline.download.http.content_encoding import decode_content
from pipeline.download.http.response import (
    BLOCK_BYTES,
    BoundedResponse,
    InvalidResponse,
    TooLarge,
    content_codings,
    declared_bytes,
)
from pipeline.download.http.time_limits import TransferPace

MOST_CODINGS = 3
"""A body may be compressed so many times over."""


class Body:
    """The decompressed body of a response."""

    def __init__(self, response: BoundedResponse, limit_bytes: int) -> None:
        self._response = response
        # Responses to HEAD, 204 and 304 may state the length of a body that they do not have.
        has_no_body = response.length == 0
        self._declared_bytes = 0 if has_no_body else declared_bytes(response.headers)
        self.codings = content_codings(response.headers)
        self.limit_bytes = limit_bytes
        """Limit for the received bytes, and for the decompressed ones."""
        self.pace: TransferPace | None = None
        """None: the rest of the response's deadline applies to the body too."""
        self.closed = False
        self._pieces = self._decompressed()
        self._rest = b""

    def read1(self, most_bytes: int) -> bytes:
        """The next bytes, at most `most_bytes`; empty at the end.

        Raises ConnectionError, TimeoutError, TooLarge, and InvalidResponse or another
        `http.client.HTTPException`.
        """
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data = self._rest[:most_bytes]
        self._rest = self._rest[most_bytes:]
        return data

    def read(self, amount: int | None = None) -> bytes:
        """`amount` bytes, or all; fewer only at the end. Raises as `read1` does."""
        data = bytearray()
        while amount is None or len(data) < amount:
            most_bytes = BLOCK_BYTES if amount is None else amount - len(data)
            block = self.read1(most_bytes)
            if not block:
                break
            data += block
        return bytes(data)

    def readable(self) -> bool:
        """As a file has it."""
        return True

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        self._response.close()

    def _decompressed(self) -> Iterator[bytes]:
        size_bytes = 0
        try:
            for piece in self._without_codings():
                size_bytes += len(piece)
                self._check_size(size_bytes)
                yield piece
        except (zlib.error, ValueError, EOFError) as error:
            codings = ", ".join(self.codings)
            raise InvalidResponse(f"the body is packed as {codings}, and {error}") from error
        finally:
            # At the end, and after any error, the connection cannot be used again.
            self._response.close()

    def _without_codings(self) -> Iterator[bytes]:
        if len(self.codings) > MOST_CODINGS:
            raise ValueError(f"that is {len(self.codings)} times over")
        pieces = self._received()
        for coding in reversed(self.codings):
            pieces = decode_content(pieces, coding)
        return pieces

    def _received(self) -> Iterator[bytes]:
        size_bytes = 0
        while data := self._read_block():
            size_bytes += len(data)
            self._check_size(size_bytes)
            yield data
        if self._declared_bytes not in (None, size_bytes):
            raise ConnectionError(f"{size_bytes:,} of {self._declared_bytes:,} bytes came")

    def _read_block(self) -> bytes:
        if self.pace is not None:
            self.pace.before_read(self._response.deadline)
        try:
            data = self._response.read1(BLOCK_BYTES)
        except (ConnectionError, TimeoutError):
            raise
        except http.client.IncompleteRead as error:
            raise InvalidResponse(
                "the connection ended within a chunk of the body, or before the last one"
            ) from error
        except OSError as error:
            # An error of a route or device would look like an error of our disk.
            raise ConnectionError(str(error)) from error
        if self.pace is not None:
            self.pace.after_read(len(data))
        return data

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self.limit_bytes:
            raise TooLarge(size_bytes, self.limit_bytes)
