"""One file over HTTP into one part on disk: continued only where it began, whole or an error,
bounded in time and size.

A part is joined to what comes later only if the server names the same version, length and place,
and sends the last bytes of the part once more. Any other answer begins anew from byte 0. Knows no
yt-dlp, no videos and no weights: whoever uses it brings the way to ask.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO, Protocol

from pipeline.download.http.bounded_http import (
    Body,
    InvalidResponse,
    TooLarge,
    TransferPace,
    declared_bytes,
)
from storage.files.file_lock import check_held

OVERLAP_BYTES = 16384
"""So many bytes of a part are asked for once more, and must be the same: a server may name versions
wrongly.
"""
HEAD_BYTES = 4096
"""What is looked at before any byte is kept."""
RANGE_REFUSED = frozenset({400, 405, 412, 416, 501})
"""States that mean, in answer to a request for a range: ask without."""
_BLOCK_BYTES = 8192
"""So much is kept at a time; between two blocks a transfer can be left."""
_BEGINNINGS = 3
_FILE_STATES = (200, 203)
_CONTENT_RANGE = re.compile(r"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class Response(Protocol):
    """What an answer must have."""

    status: int
    headers: Message
    fp: Body

    def close(self) -> None:
        """Let go of the connection."""
        ...


class RangeRefused(Exception):
    """The server will not send a part of the file."""


class _BeginAnew(Exception):
    """What came cannot be joined to what there is."""


@dataclass(frozen=True)
class TransferLimits:
    """What a transfer may take."""

    max_bytes: int
    silence_seconds: float
    """How long the other side may stay silent; also the window in which a body must show its
    pace.
    """
    min_bytes_per_second: float
    whole_seconds: float
    """For all bytes of one attempt."""


@dataclass(frozen=True)
class TransferRequest:
    """What a user of `Transfer` decides. Each function may raise, which ends the transfer and keeps
    the part.
    """

    ask: Callable[[dict[str, str]], Response]
    """Sends one request with these headers. Raises RangeRefused for a state of `RANGE_REFUSED` to a
    `Range`.
    """
    look: Callable[[bytes, str], None] = lambda head, content_type: None
    """Sees the first bytes and the Content-Type of a file that begins, before anything is kept of
    it.
    """
    on_progress: Callable[[int, int | None], None] = lambda at, total: None
    """Hears of bytes so far, and of all if known, at every block."""
    slice_bytes: int = 0
    """Ask for so many bytes at a time, where a site is slow otherwise; 0: for all at once."""


@dataclass
class _Known:
    """What there is of the file, and what its server said of it."""

    at: int = 0
    version: str = ""
    total: int | None = None
    is_old: bool = False
    """Whether it is of an earlier attempt, so that the server is to send the whole file if it has
    another by now.
    """


class Transfer:
    """One attempt for one file. What it leaves, another continues."""

    def __init__(self, part: Path, want: TransferRequest, limits: TransferLimits) -> None:
        self._part = part
        self._version_file = version_file(part)
        self._want = want
        self._limits = limits
        self._pace = TransferPace(
            limits.silence_seconds, limits.min_bytes_per_second, limits.whole_seconds
        )
        self._ask_for_range = False
        self.declared_bytes = 0
        """Of the whole file; 0 if nobody said."""

    def run(self) -> None:
        """Make the part the whole file.

        Raises TooLarge, after removing the part, and with the part kept ConnectionError,
        TimeoutError, an `http.client.HTTPException`, an OSError of the disk, and what the functions
        of `TransferRequest` raise.
        """
        why = ""
        for _ in range(_BEGINNINGS):
            try:
                self._fill()
            except _BeginAnew as refusal:
                why = str(refusal)
                forget(self._part)
            except TooLarge:
                forget(self._part)
                raise
            else:
                self._version_file.unlink(missing_ok=True)
                return
        raise ConnectionError(f"{why}; the file was begun {_BEGINNINGS} times")

    def _fill(self) -> None:
        known = self._left()
        with self._part.open("r+b" if known.at else "w+b") as file:
            while not self._answered(file, known):
                """A part came; ask for the next."""

    def _left(self) -> _Known:
        """What an earlier attempt left, if it can be continued."""
        size_bytes = self._part.stat().st_size if self._part.exists() else 0
        try:
            noted = json.loads(self._version_file.read_bytes())
            known = _Known(size_bytes, str(noted["version"]), noted["total"], is_old=True)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            known = _Known()
        if size_bytes <= OVERLAP_BYTES or not known.version:
            forget(self._part)
            return _Known()
        return known

    def _answered(self, file: BinaryIO, known: _Known) -> bool:
        """Ask once and keep what comes; whether the file is whole now."""
        start = max(known.at - OVERLAP_BYTES, 0)
        headers = {"Accept-Encoding": "identity"}
        if known.at or self._want.slice_bytes or self._ask_for_range:
            end = known.at + self._want.slice_bytes - 1 if self._want.slice_bytes else ""
            headers["Range"] = f"bytes={start}-{end}"
        if known.at and known.is_old:
            headers["If-Range"] = known.version
        asked_at = time.monotonic()
        try:
            response = self._want.ask(headers)
        except RangeRefused as refusal:
            self._ask_for_range = False
            raise _BeginAnew(f"the server refuses to continue ({refusal})") from refusal
        self._pace.excuse(time.monotonic() - asked_at)
        try:
            if response.status == http.client.PARTIAL_CONTENT:
                return self._part_came(response, file, known, start if "Range" in headers else None)
            if response.status not in _FILE_STATES:
                raise InvalidResponse(f"the server answers {response.status} and sends no file")
            self._whole_came(response, file, known)
            return True
        finally:
            response.close()

    def _whole_came(self, response: Response, file: BinaryIO, known: _Known) -> None:
        body = self._body(response)
        known.total = None if body.codings else declared_bytes(response.headers)
        head = self._seen(body, response)
        if (known.total or 0) > self._limits.max_bytes:
            raise TooLarge(known.total or 0, self._limits.max_bytes)
        known.at, known.version = 0, "" if body.codings else _version(response.headers)
        file.seek(0)
        file.truncate()
        self._note(known)
        self._keep(head, file, known)
        while block := body.read1(_BLOCK_BYTES):
            self._keep(block, file, known)

    def _part_came(
        self, response: Response, file: BinaryIO, known: _Known, start: int | None
    ) -> bool:
        """Keep a 206 that is exactly what was asked for. Raises _BeginAnew for any other."""
        if start is None:
            self._ask_for_range = True
            raise _BeginAnew("the server sends a part that nobody asked for (206)")
        body = self._body(response)
        end = _end_of_range(response, body, known, start)
        total = known.total or 0
        if total > self._limits.max_bytes:
            raise TooLarge(total, self._limits.max_bytes)
        if known.at:
            file.seek(start)
            if body.read(known.at - start) != file.read(known.at - start):
                raise _BeginAnew("the server continues with another file than it began")
        else:
            known.version = _version(response.headers)
            head = self._seen(body, response)
            self._note(known)
            self._keep(head, file, known)
        while known.at <= end and (block := body.read1(_BLOCK_BYTES)):
            self._keep(block, file, known)
        if known.at > end:
            raise _BeginAnew(f"the server sends more bytes than its Content-Range states, {end:,}")
        if known.at < end:
            raise ConnectionError(
                f"{known.at:,} bytes came of the {end:,} that Content-Range states"
            )
        return end == total

    def _body(self, response: Response) -> Body:
        response.fp.pace = self._pace
        response.fp.limit_bytes = self._limits.max_bytes
        return response.fp

    def _seen(self, body: Body, response: Response) -> bytes:
        head = body.read(HEAD_BYTES)
        self._want.look(head, response.headers.get("Content-Type") or "")
        return head

    def _keep(self, block: bytes, file: BinaryIO, known: _Known) -> None:
        check_held(
            once_in_seconds=1.0
        )  # a part that is another process's by now is not ours to write into
        file.write(block)
        known.at += len(block)
        if known.at > self._limits.max_bytes:
            raise TooLarge(known.at, self._limits.max_bytes)
        self._want.on_progress(known.at, known.total)

    def _note(self, known: _Known) -> None:
        """Note which version the part is of, before its first byte is kept."""
        self.declared_bytes = known.total or 0
        if known.version:
            self._version_file.write_text(
                json.dumps({"version": known.version, "total": known.total})
            )
        else:
            self._version_file.unlink(missing_ok=True)


def _end_of_range(response: Response, body: Body, known: _Known, start: int) -> int:
    """The byte behind the part that comes. Sets `known.total`."""
    told = response.headers.get("Content-Range") or ""
    found = _CONTENT_RANGE.fullmatch(told.strip())
    if body.codings or not found:
        raise _BeginAnew(
            f"the server sends a part and calls it {told[:80]!r}, packed {body.codings}"
        )
    first, last, total = map(int, found.groups())
    declared = declared_bytes(response.headers)
    sizes_agree = (
        first <= last < total and declared in (None, last + 1 - first) and last >= known.at
    )
    if first != start or not sizes_agree or known.total not in (None, total):
        raise _BeginAnew(
            f"the server was asked for bytes from {start} on, and calls {declared} bytes {told[:80]!r}"
        )
    if known.at and known.version != _version(response.headers):
        raise _BeginAnew(
            f"the file was {known.version!r} and is now {_version(response.headers)!r}"
        )
    known.total, known.is_old = total, False
    return last + 1


def _version(headers: Message) -> str:
    """What the server calls this version of the file; empty if it gives it no name."""
    tag = headers.get("ETag") or ""
    # A weak tag names things that look alike, not equal bytes.
    version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""
    return version if version.isprintable() else ""


def version_file(part: Path) -> Path:
    """Where the version of a part is noted."""
    return part.with_name(f"{part.name}.version")


def forget(part: Path) -> None:
    """Throw a part away, so that the next attempt begins anew."""
    part.unlink(missing_ok=True)
    version_file(part).unlink(missing_ok=True)
