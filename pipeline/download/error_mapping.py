"""What a downloader's error means: one table from yt-dlp's errors to the reasons of
`storage.base.video_status`.

Typed causes and HTTP states are asked before message texts, because texts change with every release
and a server may write what it likes. A text nobody has listed stays `unknown`, which is tried
again: a video is never called gone by guess. Knows nothing about files, settings or retries.
"""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping

from yt_dlp.networking.exceptions import HTTPError, ProxyError, TransportError
from yt_dlp.utils import ContentTooShortError, GeoRestrictedError, UnsupportedError, UserNotLive

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
            r"live event will begin|premieres? (in|will begin)|not currently live|live stream .*offline",
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
"""What asks for more is a mistake, not a wish, and counts as not said."""
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
        waiting += [
            (getattr(link, "exc_info", None) or (None, None))[1],
            getattr(link, "cause", None),
            link.__cause__,
        ]


def reason_of(error: BaseException) -> str:
    """The reason, a key of `storage.base.video_status.REASONS`, for an error that yt-dlp raised."""
    chain = list(causes(error))
    statuses = [link.status for link in chain if isinstance(link, HTTPError)]
    statuses += [int(status) for status in _STATUS_IN_TEXT.findall(str(error))]
    for reason in map(_reason_of_status, statuses):
        if reason:
            return reason
    for kind, reason in TYPE_REASONS:
        if any(isinstance(link, kind) for link in chain):
            return reason
    return reason_of_text(str(error))


def _reason_of_status(status: int) -> str:
    return STATUS_REASONS.get(status, "server_error" if 500 <= status <= 599 else "")


def reason_of_text(text: str) -> str:
    """The reason for a message alone; `unknown` when no row of the table fits."""
    return next((reason for reason, pattern in TEXT_REASONS if pattern.search(text)), "unknown")


def local_fault(error: BaseException) -> OSError | None:
    """The error of our own disk behind `error`; None when the network or the site is to blame."""
    chain = list(causes(error))
    remote = (HTTPError, *(kind for kind, _ in TYPE_REASONS))
    if any(isinstance(link, remote) for link in chain):
        return None
    return next((link for link in chain if isinstance(link, OSError)), None)


def retry_after_seconds(error: BaseException) -> float | None:
    """How long the server behind `error` asks us to wait: 0 to a week from now; None if it says
    nothing, or nonsense.

    A date is compared with the server's own clock, never with ours.
    """
    for link in causes(error):
        if isinstance(link, HTTPError):
            return _wait_in(link.response.headers)
    return None


def _wait_in(headers: Mapping[str, str]) -> float | None:
    told = str(headers.get("Retry-After") or "").strip()
    seconds = (
        float(told) if _NUMBER.fullmatch(told) else _until(told, str(headers.get("Date") or ""))
    )
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_WAIT_SECONDS else None


def _until(told: str, server_now: str) -> float | None:
    """Seconds to a date, 0 for one that is over; None for what is no date."""
    try:
        until, now = (email.utils.parsedate_to_datetime(text) for text in (told, server_now))
        return max((until - now).total_seconds(), 0.0)
    # Besides texts that are no dates, some that look like dates: of a year or a zone that cannot
    # be, or without a zone.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def clean_message(text: str, secrets: Iterable[str] = ()) -> str:
    """A message fit to keep: no control characters, none of `secrets`, at most 4,000 characters.

    User names and query strings are cut from addresses: media addresses carry our network address
    and a token.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _UNPRINTABLE.sub(" ", text).removeprefix("ERROR: ").strip()
    text = _ADDRESS.sub(lambda found: found[1] + found[2] + ("?..." if found[3] else ""), text)
    if len(text) <= _LONGEST_DETAIL:
        return text
    return f"{text[:_LONGEST_DETAIL]}... ({len(text) - _LONGEST_DETAIL:,} characters more)"
