"""Transfers one file over HTTP into one part on disk, and continues a part of an earlier attempt.

A part is continued only if the server names the same version, length and place, and sends the last
bytes of the part once more. Any other response starts again at byte 0. How a request is sent is the
caller's part: see `TransferRequest`.
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
from typing import BinaryIO, NamedTuple, Protocol

from pipeline.download.http.body import Body
from pipeline.download.http.response import InvalidResponse, TooLarge, declared_bytes
from pipeline.download.http.time_limits import TransferPace
from storage.files.file_lock import check_held

OVERLAP_BYTES = 16384
"""The end of a part that is requested again and must be the same: a server may name versions
wrongly.
"""
HEAD_BYTES = 4096
"""What is inspected before any byte is written."""
RANGE_REFUSED = frozenset({400, 405, 412, 416, 501})
"""States that mean, as the response to a request for a range: ask without a range."""
_BLOCK_BYTES = 8192
"""Bytes that are written at a time; between two blocks a transfer can be stopped."""
_MAX_STARTS = 3
_FILE_STATES = (200, 203)
_CONTENT_RANGE = re.compile(r"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class Response(Protocol):
    """What a transfer needs of a response."""

    status: int
    headers: Message
    fp: Body

    def close(self) -> None:
        """Close the connection."""
        ...


class RangeRefused(Exception):
    """The server will not send a part of the file."""


class _StartAgain(Exception):
    """What came cannot be joined to the part."""


@dataclass(frozen=True)
class TransferLimits:
    """What a transfer may take."""

    max_bytes: int
    silence_seconds: float
    """How long the other side may send nothing; also the window in which speed is measured."""
    min_bytes_per_second: float
    max_seconds: float
    """For all bytes of one attempt."""


@dataclass(frozen=True)
class TransferRequest:
    """What the user of a `Transfer` decides.

    Each function may raise, which ends the transfer and keeps the part.
    """

    send: Callable[[dict[str, str]], Response]
    """Sends one request with these headers. Raises RangeRefused if the response to a `Range` has a
    state of `RANGE_REFUSED`.
    """
    inspect: Callable[[bytes, str], None] = lambda head, content_type: None
    """Called with the first bytes of a file and its Content-Type, before anything is written."""
    on_progress: Callable[[int, int | None], None] = lambda at, total: None
    """Called at every block with the bytes so far, and the size of the file or None."""
    slice_bytes: int = 0
    """Ask for so many bytes at a time; 0: for all at once."""


@dataclass
class _PartState:
    """What is written of the file, and what its server says of it."""

    at: int = 0
    """Bytes that are written."""
    version: str = ""
    total: int | None = None
    is_old: bool = False
    """Whether it is of an earlier attempt. The server may have another version by now, and should
    then send the whole file.
    """


class Transfer:
    """One attempt for one file. What it leaves, another attempt continues."""

    def __init__(self, part: Path, request: TransferRequest, limits: TransferLimits) -> None:
        """The time limits start now."""
        self._part = part
        self._version_file = version_file(part)
        self._request = request
        self._limits = limits
        self._pace = TransferPace(
            limits.silence_seconds, limits.min_bytes_per_second, limits.max_seconds
        )
        self._always_asks_range = False
        self.declared_bytes = 0
        """Size of the whole file; 0 if the server does not state it."""

    def run(self) -> None:
        """Make the part the complete file.

        Raises:
            TooLarge: after removing the part.
            ConnectionError, TimeoutError, http.client.HTTPException: the part is kept.
            OSError: an error of the disk; the part is kept.
            Exception: what the functions of `TransferRequest` raise; the part is kept.
        """
        why = ""
        for _ in range(_MAX_STARTS):
            try:
                self._fill()
            except _StartAgain as refusal:
                why = str(refusal)
                forget(self._part)
            except TooLarge:
                forget(self._part)
                raise
            else:
                self._version_file.unlink(missing_ok=True)
                return
        raise ConnectionError(f"{why}; the file was begun {_MAX_STARTS} times")

    def _fill(self) -> None:
        state = self._read_old_part()
        with self._part.open("r+b" if state.at else "w+b") as file:
            is_complete = False
            while not is_complete:
                is_complete = self._request_once(file, state)

    def _read_old_part(self) -> _PartState:
        """What an earlier attempt left, if it can be continued."""
        size_bytes = self._part.stat().st_size if self._part.exists() else 0
        try:
            content = json.loads(self._version_file.read_bytes())
            state = _PartState(size_bytes, str(content["version"]), content["total"], is_old=True)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            state = _PartState()
        # A part that is not longer than the overlap saves nothing.
        if size_bytes <= OVERLAP_BYTES or not state.version:
            forget(self._part)
            return _PartState()
        return state

    def _request_once(self, file: BinaryIO, state: _PartState) -> bool:
        """Send one request and write what comes; whether the file is complete now."""
        headers = self._headers(state)
        started = time.monotonic()
        try:
            response = self._request.send(headers)
        except RangeRefused as refusal:
            self._always_asks_range = False
            raise _StartAgain(f"the server refuses to continue ({refusal})") from refusal
        self._pace.exclude(time.monotonic() - started)
        try:
            if response.status == http.client.PARTIAL_CONTENT:
                return self._write_range(response, file, state, asked_range="Range" in headers)
            if response.status not in _FILE_STATES:
                raise InvalidResponse(f"the server answers {response.status} and sends no file")
            self._write_whole(response, file, state)
            return True
        finally:
            response.close()

    def _headers(self, state: _PartState) -> dict[str, str]:
        # A range of a compressed body is not a range of the file.
        headers = {"Accept-Encoding": "identity"}
        slice_bytes = self._request.slice_bytes
        asks_range = state.at > 0 or slice_bytes > 0 or self._always_asks_range
        if asks_range:
            start = _range_start(state)
            end = ""
            if slice_bytes:
                end = str(state.at + slice_bytes - 1)
            headers["Range"] = f"bytes={start}-{end}"
        if state.at and state.is_old:
            # The server sends the whole file if it has another version now.
            headers["If-Range"] = state.version
        return headers

    def _write_whole(self, response: Response, file: BinaryIO, state: _PartState) -> None:
        body = self._limited_body(response)
        # The length of a compressed body is not the length of the file.
        state.total = None if body.codings else declared_bytes(response.headers)
        head = self._inspect_head(body, response)
        self._check_total(state.total or 0)
        state.at = 0
        state.version = "" if body.codings else _version(response.headers)
        file.seek(0)
        # The part may hold the beginning of another version.
        file.truncate()
        self._write_version(state)
        self._write_block(head, file, state)
        while block := body.read1(_BLOCK_BYTES):
            self._write_block(block, file, state)

    def _write_range(
        self, response: Response, file: BinaryIO, state: _PartState, *, asked_range: bool
    ) -> bool:
        """Write a 206 that is exactly what was asked for; whether the file is complete now.

        Raises _StartAgain for any other.
        """
        if not asked_range:
            # Some servers send 206 always; they are then asked for the range from 0 on.
            self._always_asks_range = True
            raise _StartAgain("the server sends a part that was not asked for (206)")
        body = self._limited_body(response)
        end = _check_range(response, body, state)
        total = state.total or 0
        self._check_total(total)
        if state.at:
            self._check_overlap(body, file, state)
        else:
            state.version = _version(response.headers)
            head = self._inspect_head(body, response)
            self._write_version(state)
            self._write_block(head, file, state)
        # One byte more than stated is read, to notice a server that sends too much.
        while state.at <= end and (block := body.read1(_BLOCK_BYTES)):
            self._write_block(block, file, state)
        if state.at > end:
            raise _StartAgain(f"the server sends more bytes than its Content-Range states, {end:,}")
        if state.at < end:
            raise ConnectionError(
                f"{state.at:,} bytes came of the {end:,} that Content-Range states"
            )
        return end == total

    def _check_total(self, total: int) -> None:
        if total > self._limits.max_bytes:
            raise TooLarge(total, self._limits.max_bytes)

    def _check_overlap(self, body: Body, file: BinaryIO, state: _PartState) -> None:
        """Compare the repeated bytes; leaves `file` at its end."""
        start = _range_start(state)
        overlap_bytes = state.at - start
        file.seek(start)
        if body.read(overlap_bytes) != file.read(overlap_bytes):
            raise _StartAgain("the server continues with another file than it began")

    def _limited_body(self, response: Response) -> Body:
        response.fp.pace = self._pace
        response.fp.limit_bytes = self._limits.max_bytes
        return response.fp

    def _inspect_head(self, body: Body, response: Response) -> bytes:
        head = body.read(HEAD_BYTES)
        self._request.inspect(head, response.headers.get("Content-Type") or "")
        return head

    def _write_block(self, block: bytes, file: BinaryIO, state: _PartState) -> None:
        # If another process took over the shard, the part is not ours to write any more.
        check_held(once_in_seconds=1.0)
        file.write(block)
        state.at += len(block)
        if state.at > self._limits.max_bytes:
            raise TooLarge(state.at, self._limits.max_bytes)
        self._request.on_progress(state.at, state.total)

    def _write_version(self, state: _PartState) -> None:
        """Record which version the part is of, before its first byte is written."""
        self.declared_bytes = state.total or 0
        if state.version:
            content = {"version": state.version, "total": state.total}
            self._version_file.write_text(json.dumps(content))
        else:
            self._version_file.unlink(missing_ok=True)


def _range_start(state: _PartState) -> int:
    return max(state.at - OVERLAP_BYTES, 0)


class _ContentRange(NamedTuple):
    """The header Content-Range: bytes `first` to `last`, both included, of `total`."""

    first: int
    last: int
    total: int


def _check_range(response: Response, body: Body, state: _PartState) -> int:
    """Check that a 206 continues the part. Sets `state.total`; the end of its bytes in the file."""
    start = _range_start(state)
    header = response.headers.get("Content-Range") or ""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    # Several ranges in one response have another content type and no Content-Range.
    if body.codings or not match:
        raise _StartAgain(
            f"the server sends a part and calls it {header[:80]!r}, packed {body.codings}"
        )
    stated = _ContentRange(*map(int, match.groups()))
    declared = declared_bytes(response.headers)
    is_asked_for = stated.first == start and state.total in (None, stated.total)
    if not is_asked_for or not _is_consistent(stated, declared, state.at):
        raise _StartAgain(
            f"the server was asked for bytes from {start} on, "
            f"and calls {declared} bytes {header[:80]!r}"
        )
    version = _version(response.headers)
    if state.at and state.version != version:
        raise _StartAgain(f"the file was {state.version!r} and is now {version!r}")
    state.total = stated.total
    state.is_old = False
    return stated.last + 1


def _is_consistent(stated: _ContentRange, declared: int | None, at: int) -> bool:
    """Whether the numbers of a 206 agree, and it brings bytes after place `at`."""
    in_order = stated.first <= stated.last < stated.total
    length_agrees = declared in (None, stated.last + 1 - stated.first)
    return in_order and length_agrees and stated.last >= at


def _version(headers: Message) -> str:
    """The server's name for this version of the file; empty if it has none."""
    version = headers.get("ETag") or ""
    # A weak tag names files that look alike, which may have different bytes.
    is_strong = version and not version.startswith("W/")
    if not is_strong:
        version = headers.get("Last-Modified") or ""
    if not version.isprintable():
        return ""
    return version


def version_file(part: Path) -> Path:
    """Where the version of a part is recorded."""
    return part.with_name(f"{part.name}.version")


def forget(part: Path) -> None:
    """Remove a part, so that the next attempt starts at byte 0."""
    part.unlink(missing_ok=True)
    version_file(part).unlink(missing_ok=True)
