"""What the server accepts and adds to every answer: the token, the host, byte ranges and headers.

The token is the first part of the path: `/TOKEN/video/ID`. A cookie would be sent to every port of
127.0.0.1, so also to a server of another user of the machine. A query would have to be added to
every link and picture. A path does neither: relative links keep it, and it leaves the browser only
in requests to this server, because the pages send no referrer and name no other site.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from storage.base.records import JSON

TOKEN_BYTES = 24
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of all answers: only this server, nothing inline, in no frame."""
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def new_token() -> str:
    """A random token for one run of the server, safe in a path."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def is_token(given: str, token: str) -> bool:
    """Whether `given` is the token, compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def is_own_host(hosts: Sequence[str], port: int) -> bool:
    """Whether a request names this server, given its `Host` headers.

    A page of another site can make its own name point to 127.0.0.1. The browser then takes that
    page and this server for one site, but it sends the other name here.
    """
    return len(hosts) == 1 and hosts[0].lower() in (f"127.0.0.1:{port}", f"localhost:{port}")


def safe_json(content: JSON) -> str:
    """JSON that may also stand inside a `<script>` element. Raises ValueError for NaN."""
    # Inside a script element an HTML parser looks for `</script` and `<!--` before any quote ends.
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


@dataclass(frozen=True)
class ByteRange:
    """Bytes `[first, end)` of a file."""

    first: int
    end: int


class RangeNotSatisfiable(Exception):
    """No byte of the file lies in the range that was asked for."""


def parse_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """The range that a `Range` header asks for; None for the whole file.

    A header of another form, or with several ranges, asks for the whole file, as RFC 9110 allows.

    Raises:
        RangeNotSatisfiable: the range is empty or begins at or after the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        wanted = ByteRange(max(0, size_bytes - int(last)), size_bytes)
    else:
        end = min(int(last) + 1, size_bytes) if last else size_bytes
        wanted = ByteRange(int(first), end)
        # RFC 9110: a range whose last byte lies before its first is invalid, so it is ignored.
        if last and int(last) < int(first):
            return None
    if wanted.first >= wanted.end:
        raise RangeNotSatisfiable
    return wanted
