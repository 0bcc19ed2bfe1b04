"""The HTTP handler that yt-dlp uses here: its own, with the limits of `bounded_http`.

yt-dlp itself decompresses bodies whole in memory, and waits for every byte without a limit of the
whole. Pages of a site have a limit of their own here; media files have the limits of
`pipeline.download.http.transfer`.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from typing import Any

from yt_dlp.networking import Request
from yt_dlp.networking._urllib import HTTPHandler, ProxyHandler, RedirectHandler, UrllibRH
from yt_dlp.networking.exceptions import HTTPError

from pipeline.download.http.body import Body
from pipeline.download.http.bounded_http import BoundedConnections, UnreadRedirects
from pipeline.download.http.time_limits import RESPONSE_SILENCES, Deadline
from pipeline.download.http.transfer import RANGE_REFUSED, RangeRefused, Response
from storage.base.errors import SystemicFault

PAGE_BYTES = 64_000_000
"""No page of a site is larger, as it comes or unpacked."""


class _Handler(BoundedConnections, HTTPHandler):  # type: ignore[misc]
    """yt-dlp's connections with limits. Bodies stay compressed; `Body` decompresses them."""

    def http_response(self, req: Any, resp: Any) -> Any:
        """The response as it is."""
        return resp

    https_response = http_response


class _RedirectHandler(UnreadRedirects, RedirectHandler):  # type: ignore[misc]
    """yt-dlp's rules for redirects, without reading their bodies."""


class BoundedRH(UrllibRH):  # type: ignore[misc]
    """yt-dlp's request handler, for http and https only."""

    _SUPPORTED_URL_SCHEMES = ("http", "https")
    check_wanted: Callable[[], None]
    public_only = False

    def _create_instance(self, proxies: Any, cookiejar: Any, legacy_ssl_support: Any = None) -> Any:
        handler = _Handler(
            context=self._make_sslcontext(legacy_ssl_support=legacy_ssl_support),
            source_address=self.source_address,
        )
        handler.deadline = lambda: self._deadline
        # A proxy resolves names itself, and may well be on this machine.
        handler.public_only = self.public_only and not any(proxies.values())
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
        opener.addheaders = []  # yt-dlp sends headers of its own
        return opener

    def _send(self, request: Any) -> Any:
        seconds = RESPONSE_SILENCES * self._calculate_timeout(request)
        self._deadline = Deadline(seconds, "the answer", self.check_wanted)
        try:
            response = super()._send(request)
        except HTTPError as error:
            # Site modules of yt-dlp read the pages of errors too.
            error.response.fp = Body(error.response.fp, PAGE_BYTES)
            raise
        response.fp = Body(response.fp, PAGE_BYTES)
        return response


def use_bounded_handler(
    client: Any, check_wanted: Callable[[], None], *, public_only: bool = False
) -> None:
    """Make BoundedRH the only request handler of this `yt_dlp.YoutubeDL`.

    `check_wanted` raises SystemicFault when the run ends; a request then ends with a
    TransportError. With `public_only`, so does a request to this machine or a private network.
    """

    def check_wanted_for_ytdlp() -> None:
        try:
            check_wanted()
        except SystemicFault as fault:
            # yt-dlp hides errors of types that it does not know.
            raise ConnectionAbortedError(str(fault)) from fault

    # yt-dlp otherwise picks its HTTP library by what is installed, and results would differ.
    client._request_director = client.build_request_director([BoundedRH])
    for handler in client._request_director.handlers.values():
        handler.check_wanted = check_wanted_for_ytdlp
        handler.public_only = public_only


def open_url(client: Any, address: str, headers: dict[str, str]) -> Response:
    """Send a request for a file. Raises RangeRefused, and what yt-dlp raises."""
    try:
        response: Response = client.urlopen(Request(address, headers=headers))
    except HTTPError as error:
        if "Range" in headers and error.status in RANGE_REFUSED:
            # Its body is not read, so the connection cannot be used again.
            error.response.close()
            raise RangeRefused(str(error)) from error
        raise
    return response
