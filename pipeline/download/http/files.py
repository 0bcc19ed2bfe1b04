"""Fetches files from http(s) addresses for people: weights and annotations.

A transfer that breaks off is continued by the next call. Whether a file is the right one is the
caller's question.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import TypeVar

from pipeline.download.http.body import Body
from pipeline.download.http.bounded_http import bounded_opener
from pipeline.download.http.response import TooLarge
from pipeline.download.http.time_limits import TransferPace
from pipeline.download.http.transfer import (
    RANGE_REFUSED,
    RangeRefused,
    Transfer,
    TransferLimits,
    TransferRequest,
)
from storage.base.errors import SystemicFault
from storage.files.os_errors import disk_fault

T = TypeVar("T")
TIMEOUT_SECONDS = 60.0
"""How long the other side may send nothing. Everything before a body may take four times as long.
"""
MIN_BYTES_PER_SECOND = 1000.0
"""A body that stays below this for `TIMEOUT_SECONDS` is given up."""
MAX_SECONDS = 12 * 3600.0
"""No body takes longer."""
ATTEMPTS = 3
"""How often a request is made whose failure may be over a moment later."""
PAUSE_SECONDS = 1.0
"""The pause after the first failure; each further one is four times as long."""
TRANSIENT_STATES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Responses after which the same request may succeed."""


@dataclass
class Reply:
    """A successful response."""

    status: int
    headers: Message
    fp: Body

    def close(self) -> None:
        """Close the connection."""
        self.fp.close()


def send_request(
    url: str, headers: dict[str, str], *, max_bytes: int, timeout_seconds: float
) -> Reply:
    """Send one request.

    Raises:
        urllib.error.HTTPError: the response has a state that is not a success.
        OSError: the connection failed.
        http.client.HTTPException: the response is not valid HTTP.
        ValueError: `url` is not an address.
    """
    # A compressed body could not be continued.
    headers = {**headers, "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # opens http(s) only
    response = bounded_opener(timeout_seconds).open(request, timeout=timeout_seconds)
    return Reply(response.status, response.headers, Body(response, max_bytes))


def fetch_bytes(url: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """The bytes of a small file; a failure that may be over soon is tried again.

    Raises TooLarge, and what `send_request` and `Body` raise.
    """

    def fetch() -> bytes:
        try:
            reply = send_request(url, {}, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
        except urllib.error.HTTPError as error:
            error.close()  # its body is not needed; it may be endless
            raise
        try:
            if reply.status != http.client.OK:
                raise http.client.HTTPException(
                    f"it answers {reply.status} and sends no whole file"
                )
            reply.fp.pace = TransferPace(timeout_seconds, MIN_BYTES_PER_SECOND, MAX_SECONDS)
            return reply.fp.read()
        finally:
            reply.close()

    return _with_retries(fetch)


def _with_retries(request: Callable[[], T]) -> T:
    """What `request` returns; its last error after `ATTEMPTS` failures that may be over soon."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    attempts = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=PAUSE_SECONDS, exp_base=4),
        retry=retry_if_exception(_may_be_over_soon),
        reraise=True,
    )
    return attempts(request)


def _may_be_over_soon(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in TRANSIENT_STATES
    # A wrong name, route or certificate stays as it is, and a time limit has waited long enough.
    broke_off = isinstance(error, ConnectionError | http.client.HTTPException)
    return broke_off and not isinstance(error, http.client.InvalidURL)


def fetch_file(
    url: str, part: Path, *, max_bytes: int, on_progress: Callable[[int, int | None], None]
) -> None:
    """Make `part` the complete file at `url`.

    Continues what an earlier call left, if the server names the same version.

    Args:
        url: an http(s) address.
        part: the file to write.
        max_bytes: a larger file is refused.
        on_progress: called with the bytes so far, and the size of the whole or None.

    Raises:
        SystemicFault: a failure. What came is kept if a later call may continue it, else removed.
    """

    def send(headers: dict[str, str]) -> Reply:
        return _send_for_transfer(url, headers, max_bytes)

    limits = TransferLimits(max_bytes, TIMEOUT_SECONDS, MIN_BYTES_PER_SECOND, MAX_SECONDS)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        Transfer(part, TransferRequest(send, on_progress=on_progress), limits).run()
    except _Refused as refusal:
        raise SystemicFault(str(refusal)) from refusal
    except TooLarge as error:
        raise SystemicFault(
            f"the server sends more than {max_bytes:,} bytes; this is another file"
        ) from error
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        size_bytes = part.stat().st_size if part.exists() else 0
        advice = ""
        if size_bytes:
            advice = (
                f" {size_bytes:,} bytes came. Run the same command again; it continues from there."
            )
        raise SystemicFault(
            f"{_host(url)} cannot be reached or broke off: {error}.{advice}"
        ) from error
    except OSError as error:
        raise disk_fault(error, part) from error


class _Refused(Exception):
    """A response that ends the transfer; the message is for people."""


def _send_for_transfer(url: str, headers: dict[str, str], max_bytes: int) -> Reply:
    """Send one request, with the errors that `Transfer` expects."""
    try:
        return send_request(url, headers, max_bytes=max_bytes, timeout_seconds=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        # The body of an error is not needed; it may be endless.
        error.close()
        if "Range" in headers and error.code in RANGE_REFUSED:
            raise RangeRefused(f"{error.code} {error.reason}") from error
        raise _Refused(
            f"{url} answers {error.code} {error.reason}. Run the same command again later."
        ) from error
    except ValueError as error:
        raise _Refused(f"{url!r} is not an address: {error}") from error
    except OSError as error:
        # An error of a route or a name would look like an error of our disk.
        raise ConnectionError(str(error)) from error


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
