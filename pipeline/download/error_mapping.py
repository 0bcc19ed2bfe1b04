"""Maps an error of yt-dlp to one of the reasons in `storage.base.video_status`.

Error types and HTTP states are used before message texts: texts change with every release, and a
server may write anything. An unlisted text is `unknown`, which is tried again, so no video is
recorded as gone by a guess.
"""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence

from yt_dlp.networking.exceptions import HTTPError, ProxyError, TransportError
from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive

from pipeline.download.http.public_addresses import PrivateAddress

STATUS_REASONS = {
    401: "forbidden",
    403: "forbidden",
    404: "not_found",
    407: "proxy",
    408: "network",
    410: "not_found",
    429: "rate_limited",
}
"""HTTP states with a meaning of their own; every 5xx is `server_error`."""

TYPE_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (PrivateAddress, "private_address"),
    (GeoRestrictedError, "geo_blocked"),
    (UserNotLive, "not_yet_live"),
    (UnsupportedError, "not_a_video"),
    (ContentTooShortError, "network"),
    (ProxyError, "proxy"),
    (TransportError, "network"),
    (ConnectionError, "network"),
    (TimeoutError, "network"),
    (ssl.SSLError, "network"),
    (socket.gaierror, "network"),
    (http.client.HTTPException, "network"),
)

# The first match wins. What asks us to wait comes first: YouTube words a rate limit like a video
# that is gone.
TEXT_REASONS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        (
            "rate_limited",
            r"rate-limited|content isn.t available, try again later|too many requests",
        ),
        ("bot_check", r"not a (bot|robot)|captcha"),
        ("age_restricted", r"confirm your age|age-restricted|inappropriate for some users"),
        (
            "members_only",
            r"members-only|available to .{0,60}\bmembers|requires payment|join this channel",
        ),
        ("private", r"private video|video is private"),
        ("account_terminated", r"account .{0,60}has been terminated|closed their youtube account"),
        ("geo_blocked", r"(available|blocked it) in your (country|location|region)|geo.?restrict"),
        ("copyright", r"copyright (claim|grounds)|who has blocked it"),
        ("removed", r"removed by the (uploader|user)|video has been removed"),
        (
            "not_yet_live",
            r"live event will begin|premieres? (in|will begin)|not currently live"
            r"|live stream .*offline",
        ),
        ("no_javascript", r"no supported javascript runtime|challenge solving failed"),
        (
            "no_format",
            r"requested format is not available|no video formats found|drm protected|only images",
        ),
        (
            "removed",
            r"video unavailable(\. this video (is unavailable|isn.t available anymore))?[. ]*$",
        ),
        ("removed", r"this video (is no longer available|isn.t available anymore)[. ]*$"),
        ("network", r"got error:|did not get any data blocks|timed out|content too short"),
        (
            "stale_downloader",
            r"confirm you are on the latest version|unable to extract|signature extraction failed",
        ),
    )
)

LONGEST_WAIT_SECONDS = 7 * 86400.0
"""A server that asks for a longer wait is wrong; its Retry-After is ignored."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_STATUS_IN_TEXT = re.compile(r"HTTP Error (\d{3})")
_ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^\s/@'\"]*@)?([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?", re.IGNORECASE
)
_UNPRINTABLE = re.compile(
    r"(\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069])+"
)
_LONGEST_DETAIL = 4000


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and the errors it names as its causes, outermost first."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        # yt-dlp keeps the origin in either of two fields of its own. `__context__` is left out: it
        # also holds errors that were handled long before.
        exc_info = getattr(link, "exc_info", None) or (None, None)
        waiting += [exc_info[1], getattr(link, "cause", None), link.__cause__]


def reason_of(error: BaseException) -> str:
    """The reason, a key of `storage.base.video_status.REASONS`, for an error that yt-dlp raised."""
    chain = list(causes(error))
    message = str(error)
    statuses = [link.status for link in chain if isinstance(link, HTTPError)]
    # yt-dlp turns some HTTP errors into messages.
    statuses += map(int, _STATUS_IN_TEXT.findall(message))
    for status in statuses:
        reason = _reason_of_status(status)
        if reason:
            return reason
    reason = _reason_of_type(chain)
    if reason:
        return reason
    return reason_of_text(message)


def _reason_of_type(chain: Sequence[BaseException]) -> str:
    # The order of the table decides, not that of the chain.
    for kind, reason in TYPE_REASONS:
        has_kind = any(isinstance(link, kind) for link in chain)
        if has_kind:
            return reason
    return ""


def _reason_of_status(status: int) -> str:
    if 500 <= status <= 599:
        return STATUS_REASONS.get(status, "server_error")
    return STATUS_REASONS.get(status, "")


def reason_of_text(text: str) -> str:
    """The reason for a message; `unknown` if no row of the table matches."""
    for reason, pattern in TEXT_REASONS:
        if pattern.search(text):
            return reason
    return "unknown"


def local_fault(error: BaseException) -> OSError | None:
    """The error of our own disk behind `error`; None if the network or the site is to blame."""
    chain = list(causes(error))
    if any(map(_is_remote, chain)):
        return None
    for link in chain:
        if isinstance(link, OSError):
            return link
    return None


def _is_remote(error: BaseException) -> bool:
    return isinstance(error, HTTPError) or _reason_of_type([error]) != ""


def retry_after_seconds(error: BaseException) -> float | None:
    """How long the server behind `error` asks us to wait, in seconds.

    None if it does not say, or asks for a time below 0 or above `LONGEST_WAIT_SECONDS`. A date is
    compared with the server's own clock, because ours may be wrong.
    """
    for link in causes(error):
        if isinstance(link, HTTPError):
            return _retry_after_in(link.response.headers)
    return None


def _retry_after_in(headers: Mapping[str, str]) -> float | None:
    retry_after = str(headers.get("Retry-After") or "").strip()
    is_number = _NUMBER.fullmatch(retry_after) is not None
    seconds: float | None
    if is_number:
        seconds = float(retry_after)
    else:
        server_now = str(headers.get("Date") or "")
        seconds = _seconds_until(retry_after, server_now)
    if seconds is None or not 0 <= seconds <= LONGEST_WAIT_SECONDS:
        return None
    return seconds


def _seconds_until(date: str, server_now: str) -> float | None:
    """Seconds to a date, 0 for one that has passed; None if a text is not a date."""
    try:
        until = email.utils.parsedate_to_datetime(date)
        now = email.utils.parsedate_to_datetime(server_now)
        return max((until - now).total_seconds(), 0.0)
    # Besides texts that are not dates, some look like dates but name an impossible year or zone,
    # or lack a zone.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def clean_message(text: str, secrets: Iterable[str] = ()) -> str:
    """A message that may be kept: without control characters, secrets, tokens, and not too long.

    User names and query strings are cut from addresses: addresses of media files carry our network
    address and a token.
    """
    # Longest first, as `SourceSettings.secrets` gives them.
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _UNPRINTABLE.sub(" ", text).removeprefix("ERROR: ").strip()
    text = _ADDRESS.sub(_without_query, text)
    if len(text) <= _LONGEST_DETAIL:
        return text
    # A server chooses the text, so it may be of any length.
    return f"{text[:_LONGEST_DETAIL]}... ({len(text) - _LONGEST_DETAIL:,} characters more)"


def _without_query(address: re.Match[str]) -> str:
    scheme, place, query = address.groups()
    return f"{scheme}{place}?..." if query else f"{scheme}{place}"
