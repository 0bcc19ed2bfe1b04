"""One media transfer through yt-dlp's connection: continued only where it began, bounded in bytes, never a drip.

Stands between yt-dlp and its `urlopen`. Refuses to know what the bytes are and whether they are all there.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yt_dlp.networking.exceptions import HTTPError, TransportError

from pipeline.download.source import SourceSettings
from storage.errors import VideoError
from storage.verdicts import failed

OVERLAP_BYTES = 16384
"""So many bytes of a part are asked for once more, and must be the same: a server may name versions wrongly."""


class Transfer:
    """One media transfer. A part left by an earlier attempt is continued only if the server names the same version."""

    def __init__(
        self,
        video_id: str,
        partial: Path,
        urlopen: Callable[[Any], Any],
        source: SourceSettings,
        go_on: Callable[[], None],
    ) -> None:
        """`go_on` is called at every block; it raises when the transfer is no longer wanted, and the part stays."""
        self.address_expires = source.is_youtube
        # A media address handed out for a few hours answers 404 when it is stale; that says nothing about the video.
        self._video_id = video_id
        self._source = source
        self._part = partial / "media.part"
        self._version_file = partial / "version"
        self._urlopen = urlopen
        self._go_on = go_on
        self._expected = ""
        self._overlap = b""
        self._overlap_at = 0
        self._responses: list[Any] = []
        self.declared_bytes = 0

    def close(self) -> None:
        """Close what yt-dlp leaves open: answers it gave up on would hold their sockets until they are collected."""
        for response in self._responses:
            response.close()

    def condition(self) -> dict[str, str]:
        """The request header that makes a server send the whole file when it is no longer the version we began."""
        size_bytes = self._part.stat().st_size if self._part.exists() else 0
        if size_bytes <= OVERLAP_BYTES or not self._version_file.exists():
            self.forget()
            return {}
        self._overlap_at = size_bytes - OVERLAP_BYTES
        with self._part.open("rb+") as file:
            file.seek(self._overlap_at)
            self._overlap = file.read(OVERLAP_BYTES)
            file.truncate(self._overlap_at)
        self._expected = self._version_file.read_text()
        return {"If-Range": self._expected}

    def forget(self) -> None:
        """Throw the part away, so that the next attempt begins anew."""
        self._part.unlink(missing_ok=True)
        self._version_file.unlink(missing_ok=True)

    def urlopen(self, request: Any) -> Any:
        """Ask as yt-dlp asks, and note the version.

        Raises TransportError if a continuation is of another version, VideoError(too_large) beyond the limit.
        """
        try:
            response = self._urlopen(request)
        except HTTPError as error:
            self._responses.append(error.response)
            raise
        self._responses.append(response)
        continued = response.status == http.client.PARTIAL_CONTENT and bool(self._expected)
        already_bytes = self._overlap_at if continued else 0
        self.declared_bytes = int(response.headers.get("Content-Length") or 0)
        self._check_size(already_bytes + self.declared_bytes)
        self._note_version(response, continued=continued)
        response.fp = _Stream(response.fp, self, already_bytes, self._overlap if continued else b"")
        return response

    def _note_version(self, response: Any, *, continued: bool) -> None:
        tag = response.headers.get("ETag") or ""
        # A weak tag names things that look alike, not equal bytes.
        version = response.headers.get("Last-Modified") or "" if tag.startswith("W/") or not tag else tag
        if continued and version != self._expected:
            self._version_file.unlink(missing_ok=True)
            raise TransportError(f"the file was {self._expected} and is now {version or 'without a version'}")
        if version:
            self._version_file.write_text(version)
        else:
            self._version_file.unlink(missing_ok=True)

    def refuse_other_bytes(self) -> None:
        """What was asked for twice came differently. Raises ConnectionError, so that another attempt begins anew."""
        self.forget()
        raise ConnectionError("the server continued with another file than it began; got error: begin anew")

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._source.max_bytes:
            self.forget()
            raise VideoError(
                self._video_id, failed("too_large", f"{size_bytes:,} bytes, allowed {self._source.max_bytes:,}")
            )

    def took(self, size_bytes: int) -> None:
        """So many bytes have arrived in all. Raises VideoError(too_large), and whatever `go_on` raises."""
        self._go_on()
        self._check_size(size_bytes)

    @property
    def window_seconds(self) -> float:
        """The time in which a transfer must show its pace."""
        return self._source.socket_timeout_seconds

    @property
    def window_bytes(self) -> float:
        """What must arrive in that time."""
        return self._source.min_bytes_per_second * self._source.socket_timeout_seconds


class _Stream:
    """The body of an answer. Hands over what has arrived instead of waiting for a full block, so a drip is seen."""

    def __init__(self, body: Any, transfer: Transfer, already_bytes: int, overlap: bytes) -> None:
        self._body = body
        self._transfer = transfer
        self._total = already_bytes
        self._overlap = overlap
        self._window_start = time.monotonic()
        self._window_bytes = 0

    def read(self, amount: int | None = None, **options: Any) -> bytes:
        """At most `amount` bytes; empty at the end. Raises TimeoutError for a drip."""
        data: bytes = self._body.read(**options) if amount is None else self._body.read1(amount, **options)
        self._total += len(data)
        self._transfer.took(self._total)
        self._pace(len(data))
        if self._overlap:
            expected, self._overlap = self._overlap[: len(data)], self._overlap[len(data) :]
            if not data.startswith(expected) or not data:
                self._transfer.refuse_other_bytes()
        return data

    def _pace(self, size_bytes: int) -> None:
        self._window_bytes += size_bytes
        now = time.monotonic()
        if size_bytes and now - self._window_start >= self._transfer.window_seconds:
            if self._window_bytes < self._transfer.window_bytes:
                raise TimeoutError(f"timed out: {self._window_bytes} bytes in {now - self._window_start:.0f} s")
            self._window_start, self._window_bytes = now, 0

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
