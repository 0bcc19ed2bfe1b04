"""yt-dlp's own way to ask over HTTP, with cookies, proxies and SOCKS, whose answers end: see
`bounded_http`.

yt-dlp unpacks bodies whole in memory and waits for each byte anew. Everything it asks for passes
here: a site's pages within a limit of their own, media files by the limits of
`pipeline.download.http.transfer`.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

from yt_dlp.networking import Request
from yt_dlp.networking._urllib import HTTPHandler, ProxyHandler, RedirectHandler, UrllibRH
from yt_dlp.networking.exceptions import HTTPError

from pipeline.download.http.bounded_http import (
    ANSWER_SILENCES,
    Body,
    BoundedConnections,
    Deadline,
    UnreadRedirects,
)
from pipeline.download.http.transfer import RANGE_REFUSED, RangeRefused, Response
from storage.base.errors import SystemicFault

PAGE_BYTES = 64_000_000
"""No page of a site is larger, as it comes or unpacked."""


class _Handler(BoundedConnections, HTTPHandler):  # type: ignore[misc]
    """yt-dlp's connections, bounded; a body stays packed here, and is unpacked as it is read."""

    def http_response(self, req: Any, resp: Any) -> Any:
        """The answer as it is."""
        return resp

    https_response = http_response


class _RedirectHandler(UnreadRedirects, RedirectHandler):  # type: ignore[misc]
    """yt-dlp's rules for redirects, without reading their bodies."""


class BoundedRH(UrllibRH):  # type: ignore[misc]
    """yt-dlp's handler of requests, of http and https alone."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")
    still_wanted: Callable[[], None]

    def _create_instance(self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:
        handler = _Handler(
            context=self._make_sslcontext(legacy_ssl_support=legacy_ssl_support),
            source_address=self.source_address,
        )
        handler.deadline = lambda: self._deadline
        opener = urllib.request.OpenerDirector()
        for each in (
            ProxyHandler(proxies),
            handler,
            urllib.request.HTTPCookieProcessor(cookiejar),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _RedirectHandler(),
        ):
            opener.add_handler(each)
        opener.addheaders = []  # yt-dlp names itself in headers of its own
        return opener

    def _send(self, request: Any) -> Any:
        seconds = ANSWER_SILENCES * self._calculate_timeout(request)
        self._deadline = Deadline(seconds, "the answer", self.still_wanted)
        try:
            response = super()._send(request)
        except HTTPError as error:  # site modules read the pages of refusals too
            error.response.fp = Body(error.response.fp, PAGE_BYTES)
            raise
        response.fp = Body(response.fp, PAGE_BYTES)
        return response


def use_bounded_handler(client: Any, go_on: Callable[[], None]) -> None:
    """Make BoundedRH the only way by which this `yt_dlp.YoutubeDL` asks. Others are used where they
    are installed.

    `go_on` raises SystemicFault when the run is being left; a request then ends with a
    TransportError.
    """

    def still_wanted() -> None:
        try:
            go_on()
        except SystemicFault as fault:  # yt-dlp keeps errors to itself that it does not know
            raise ConnectionAbortedError(str(fault)) from fault

    client._request_director = client.build_request_director([BoundedRH])
    for handler in client._request_director.handlers.values():
        handler.still_wanted = still_wanted


def open_url(client: Any, address: str, headers: dict[str, str]) -> Response:
    """Ask for a file. Raises RangeRefused, and what yt-dlp raises."""
    try:
        response: Response = client.urlopen(Request(address, headers=headers))
    except HTTPError as error:
        if "Range" in headers and error.status in RANGE_REFUSED:
            error.response.close()
            raise RangeRefused(str(error)) from error
        raise
    return response
