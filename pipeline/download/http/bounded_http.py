"""Opens http and https connections whose responses have limits of time and size.

The limits are in `time_limits`, `response` and `body`. This module puts them into the handlers of
urllib; `pipeline.download.ytdlp_network` puts them into those of yt-dlp.
"""

from __future__ import annotations

import functools
import urllib.request
from collections.abc import Callable
from typing import Any

from pipeline.download.http.public_addresses import connect_to_public
from pipeline.download.http.response import BoundedResponse, TimedSocket
from pipeline.download.http.time_limits import RESPONSE_SILENCES, Deadline


class BoundedConnections:
    """Mixin of a handler of urllib or yt-dlp: its connections end at the request's deadline."""

    deadline: Callable[[], Deadline]
    public_only = False
    """Whether connections to this machine and to private networks are refused."""

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        """As `urllib.request.AbstractHTTPHandler.do_open`."""
        open_bounded: Any = super().do_open  # type: ignore[misc]
        connect = functools.partial(
            _connection, http_class, self.deadline(), public_only=self.public_only
        )
        return open_bounded(connect, req, **options)


def _connection(
    http_class: Any, deadline: Deadline, host: str, *, public_only: bool, **options: Any
) -> Any:
    silence_seconds = options.get("timeout")
    if isinstance(silence_seconds, int | float):
        # Connecting counts for the deadline too.
        options["timeout"] = min(silence_seconds, deadline.left_seconds())
    connection = http_class(host, **options)
    if public_only:
        connection._create_connection = connect_to_public

    def make_response(sock: Any, *arguments: Any, **more: Any) -> BoundedResponse:
        return BoundedResponse(TimedSocket(sock, deadline), *arguments, **more)

    connection.response_class = make_response
    return connection


class UnreadRedirects:
    """Mixin of a redirect handler: the body of a redirect is not read.

    urllib would read it whole, into memory.
    """

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """As `urllib.request.HTTPRedirectHandler.http_error_302`."""
        is_redirect = "location" in headers or "uri" in headers
        if is_redirect:
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
    """Opens http and https addresses, and no others, within the limits; for one request.

    `silence_seconds` is how long the other side may send nothing.
    """
    deadline = Deadline(RESPONSE_SILENCES * silence_seconds, "the answer")
    plain = _HTTPHandler()
    secure = _HTTPSHandler()
    plain.deadline = secure.deadline = lambda: deadline
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        plain,
        secure,
        # Without handlers for ftp, file and data, such redirects fail.
        urllib.request.UnknownHandler(),
        _RedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
