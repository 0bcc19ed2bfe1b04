"""Files from http(s) addresses for people: weights and annotations. One that breaks off is
continued by the next call.

Knows the limits that suit such files. Refuses to know what a file is for and whether it is the
right one.
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

from pipeline.download.http.bounded_http import Body, TooLarge, TransferPace, bounded_opener
from pipeline.download.http.transfer import (
    RANGE_REFUSED,
    RangeRefused,
    Transfer,
    TransferLimits,
    TransferRequest,
)
from storage.base.errors import SystemicFault
from storage.files.os_errors import disk_fault

TIMEOUT_SECONDS = 60.0
"""How long the other side may stay silent. All that comes before a body may take four times as
long.
"""
MIN_BYTES_PER_SECOND = 1000.0
"""A body that stays below this for `TIMEOUT_SECONDS` is given up."""
WHOLE_SECONDS = 12 * 3600.0
"""No body takes longer."""


@dataclass
class Reply:
    """A successful answer."""

    status: int
    headers: Message
    fp: Body

    def close(self) -> None:
        """Let go of the connection."""
        self.fp.close()


def send_request(
    url: str, headers: dict[str, str], *, max_bytes: int, timeout_seconds: float
) -> Reply:
    """Send one request.

    Raises urllib.error.HTTPError for a state that is no success, another OSError or an
    `http.client.HTTPException` where nobody answers in HTTP, and ValueError for what is no address.
    """
    request = urllib.request.Request(url, headers={**headers, "Accept-Encoding": "identity"})  # noqa: S310  # the opener knows http(s) only
    answer = bounded_opener(timeout_seconds).open(request, timeout=timeout_seconds)
    return Reply(answer.status, answer.headers, Body(answer, max_bytes))


def fetch_bytes(url: str, *, max_bytes: int, timeout_seconds: float) -> bytes:
    """A small file, whole. Raises TooLarge, and what `ask` and `Body` raise."""
    reply = send_request(url, {}, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
    try:
        if reply.status != http.client.OK:
            raise http.client.HTTPException(f"it answers {reply.status} and sends no whole file")
        reply.fp.pace = TransferPace(timeout_seconds, MIN_BYTES_PER_SECOND, WHOLE_SECONDS)
        return reply.fp.read()
    finally:
        reply.close()


def fetch_file(
    url: str, part: Path, *, max_bytes: int, on_progress: Callable[[int, int | None], None]
) -> None:
    """Make `part` the whole file at `url`, continuing what an earlier call left if the server names
    the same version.

    `on_progress` is called with bytes so far, and of all if known. Raises SystemicFault for anything that may be
    better later, with what has arrived kept; for an answer that will stay so, the part is removed
    first.
    """

    def asked(headers: dict[str, str]) -> Reply:
        try:
            return send_request(url, headers, max_bytes=max_bytes, timeout_seconds=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if "Range" in headers and error.code in RANGE_REFUSED:
                raise RangeRefused(f"{error.code} {error.reason}") from error
            raise _Refused(
                f"{url} answers {error.code} {error.reason}. Run the same command again later."
            ) from error
        except ValueError as error:
            raise _Refused(f"{url!r} is no address: {error}") from error
        except OSError as error:  # others, of routes and names, would look like those of our disk
            raise ConnectionError(str(error)) from error

    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        limits = TransferLimits(max_bytes, TIMEOUT_SECONDS, MIN_BYTES_PER_SECOND, WHOLE_SECONDS)
        Transfer(part, TransferRequest(asked, on_progress=on_progress), limits).run()
    except _Refused as refusal:
        raise SystemicFault(str(refusal)) from refusal
    except TooLarge as error:
        raise SystemicFault(
            f"the server sends more than {max_bytes:,} bytes; this is another file"
        ) from error
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        size_bytes = part.stat().st_size if part.exists() else 0
        left = (
            f" {size_bytes:,} bytes came. Run the same command again; it continues from there."
            if size_bytes
            else ""
        )
        raise SystemicFault(
            f"{_host(url)} cannot be reached or broke off: {error}.{left}"
        ) from error
    except OSError as error:
        raise disk_fault(error, part) from error


class _Refused(Exception):
    """An answer that ends the transfer, in words for people."""


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
