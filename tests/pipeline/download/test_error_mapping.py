"""Messages as sites and yt-dlp have worded them, and the reason each must get."""

from __future__ import annotations

import itertools
import socket
from types import SimpleNamespace

import pytest
from yt_dlp.networking.exceptions import (
    HTTPError,
    IncompleteRead,
    ProxyError,
    SSLError,
    TransportError,
)
from yt_dlp.utils import (
    DownloadError,
    ExtractorError,
    GeoRestrictedError,
    UnsupportedError,
    UserNotLive,
)

from pipeline.download.error_mapping import (
    TEXT_REASONS,
    clean_message,
    local_fault,
    reason_of,
    reason_of_text,
    retry_after_seconds,
)
from storage.base.video_status import REASONS, State

RECORDED = (
    ("private", "[youtube] x: Private video. Sign in if you've been granted access to this video"),
    ("private", "[youtube] x: This video is private"),
    ("removed", "[youtube] x: Video unavailable. This video has been removed by the uploader"),
    (
        "removed",
        "[youtube] x: This video has been removed for violating YouTube's Terms of Service",
    ),
    ("removed", "[youtube] x: Video unavailable"),
    ("removed", "[youtube] x: Video unavailable. This video is unavailable"),
    ("removed", "[youtube] x: This video isn't available anymore"),
    (
        "account_terminated",
        "[youtube] x: Video unavailable. This video is no longer available because the YouTube account associated with "
        "this video has been terminated.",
    ),
    (
        "account_terminated",
        "[youtube] x: Video unavailable. This video is no longer available because the uploader has closed their "
        "YouTube account.",
    ),
    (
        "copyright",
        "[youtube] x: Video unavailable. This video is no longer available due to a copyright claim by Example Records",
    ),
    (
        "copyright",
        "[youtube] x: Video unavailable. This video contains content from X, who has blocked it on copyright grounds",
    ),
    (
        "geo_blocked",
        "[youtube] x: Video unavailable. This video contains content from Example, who has blocked it in your country "
        "on copyright grounds",
    ),
    ("geo_blocked", "[youtube] x: The uploader has not made this video available in your country"),
    (
        "age_restricted",
        "[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.",
    ),
    (
        "members_only",
        "[youtube] x: Join this channel to get access to members-only content like this video",
    ),
    (
        "members_only",
        "[youtube] x: This video is available to this channel's members on level: Fan.",
    ),
    ("members_only", "[youtube] x: This video requires payment to watch"),
    ("not_yet_live", "[youtube] x: This live event will begin in 3 hours."),
    ("not_yet_live", "[youtube] x: Premieres in 20 minutes"),
    (
        "bot_check",
        "[youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies",
    ),
    (
        "bot_check",
        "[youtube] x: Video unavailable. YouTube is requiring a captcha challenge before playback",
    ),
    (
        "rate_limited",
        "[youtube] x: Video unavailable. This content isn't available, try again later. The current session has been "
        "rate-limited by YouTube for up to an hour.",
    ),
    (
        "rate_limited",
        "[youtube] x: Video unavailable. This content isn’t available, try again later.",
    ),
    ("rate_limited", "Unable to download webpage: HTTP Error 429: Too Many Requests"),
    (
        "no_format",
        "[youtube] x: Requested format is not available. Use --list-formats for a list of available formats",
    ),
    ("no_format", "[youtube] x: This video is DRM protected"),
    ("network", "\r[download] Got error: [Errno 104] Connection reset by peer"),
    ("network", "\r[download] Got error: 1000 bytes read, 3120 more expected"),
    ("network", "Did not get any data blocks"),
    (
        "no_javascript",
        "[youtube] No supported JavaScript runtime could be found. Only deno is enabled by default; to use another "
        "runtime add  --js-runtimes RUNTIME[:PATH]  to your command/config.",
    ),
    (
        "no_javascript",
        "[youtube] x: n challenge solving failed: Some formats may be missing. Ensure you have a supported JavaScript "
        "runtime and challenge solver script distribution installed.",
    ),
    (
        "stale_downloader",
        "[youtube] x: Unable to extract yt initial data; please report this issue on  "
        "https://github.com/yt-dlp/yt-dlp/issues?q= , filling out the appropriate issue template. Confirm you are on "
        "the latest version using  yt-dlp -U",
    ),
    ("unknown", "[youtube] x: Video unavailable. This video is not available"),
    ("unknown", "[youtube] x: The page needs to be reloaded."),
    ("unknown", "something nobody has seen before"),
)


@pytest.mark.parametrize(("reason", "text"), RECORDED, ids=itertools.count())
def test_recorded_messages_get_their_reason(reason: str, text: str) -> None:
    assert reason_of(DownloadError(f"ERROR: {text}")) == reason


def test_every_row_of_the_table_names_a_reason_and_is_needed_by_a_recorded_message() -> None:
    assert {reason for reason, _ in TEXT_REASONS} <= set(REASONS)
    for number, (reason, pattern) in enumerate(TEXT_REASONS):
        needing = [
            text for _, text in RECORDED if pattern.search(text) and reason_of_text(text) == reason
        ]
        earlier = [
            text for text in needing if any(row.search(text) for _, row in TEXT_REASONS[:number])
        ]
        assert len(needing) > len(earlier), (
            f"no recorded message needs row {number}, {reason}: {pattern.pattern}"
        )


def wrapped(cause: Exception) -> DownloadError:
    """As yt-dlp hands errors over: an ExtractorError around the cause, a DownloadError around
    that.
    """
    middle = ExtractorError("Unable to download webpage", cause=cause)
    return DownloadError("ERROR: Private video", (ExtractorError, middle, None))


def http_error(code: int) -> HTTPError:
    return HTTPError(SimpleNamespace(status=code, reason="Private video", close=lambda: None))


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        *((http_error(code), "not_found") for code in (404, 410)),
        *((http_error(code), "forbidden") for code in (401, 403)),
        (http_error(429), "rate_limited"),
        *((http_error(code), "server_error") for code in (500, 502, 599)),
        (http_error(407), "proxy"),
        (ProxyError("Tunnel connection failed: 403 Forbidden"), "proxy"),
        (TransportError("timed out"), "network"),
        (SSLError("bad certificate"), "network"),
        (IncompleteRead(5, 7), "network"),
        (socket.gaierror(-2, "Name or service not known"), "network"),
        (TimeoutError("timed out"), "network"),
        (ConnectionResetError(104, "reset"), "network"),
        (GeoRestrictedError("not here", countries=["DE"]), "geo_blocked"),
        (UserNotLive(video_id="x"), "not_yet_live"),
        (UnsupportedError("http://x.invalid/"), "not_a_video"),
    ],
    ids=repr,
)
def test_typed_causes_are_asked_before_texts(cause: Exception, reason: str) -> None:
    assert reason_of(wrapped(cause)) == reason
    assert local_fault(wrapped(cause)) is None


DATE = "Sat, 21 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": " 0 "}, 0.0),
        (
            {"Retry-After": "Sat, 21 Nov 2026 10:02:00 GMT", "Date": DATE},
            120.0,
        ),  # by the server's clock, not by ours
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:02:00 GMT"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "soon", "Date": DATE}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    response = SimpleNamespace(status=429, reason="slow down", headers=headers, close=lambda: None)
    assert retry_after_seconds(wrapped(HTTPError(response))) == seconds


def test_a_cut_connection_asks_for_nothing() -> None:
    assert retry_after_seconds(wrapped(TransportError("reset"))) is None


def test_an_error_of_our_disk_is_nobodys_video() -> None:
    full = OSError(28, "No space left on device")
    assert local_fault(DownloadError("ERROR: unable to write data", (OSError, full, None))) is full
    assert local_fault(DownloadError("ERROR: Private video")) is None
    # The same number under a network error belongs to the network.
    assert (
        local_fault(wrapped(TransportError(cause=OSError(101, "Network is unreachable")))) is None
    )


def test_causes_that_name_each_other_end() -> None:
    first, second = ExtractorError("first", expected=True), ExtractorError("second", expected=True)
    first.cause, second.cause = second, first
    assert reason_of(first) == "unknown"


def test_what_cannot_be_known_is_never_called_gone() -> None:
    assert (
        REASONS[reason_of_text("Video unavailable. This video is not available")].state
        is State.PENDING
    )


def test_known_secrets_are_cut_out_wherever_they_stand() -> None:
    assert clean_message("sid=SECRET; SECRET2", ("SECRET2", "SECRET")) == "sid=***; ***"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ERROR: plain", "plain"),
        (
            "see https://r1.invalid/videoplayback?ip=1.2.3.4&sig=SECRET now",
            "see https://r1.invalid/videoplayback?... now",
        ),
        ("at 'http://user:SECRET@x.invalid/a#SECRET'", "at 'http://x.invalid/a?...'"),
        ("a\x1b[31mred\x1b[0m\r\nline\u202egnp", "a red line gnp"),
        ("socks5h://user:SECRET@x.invalid:1080 refused", "socks5h://x.invalid:1080 refused"),
        ("x" * 4001, "x" * 4000 + "... (1 characters more)"),
    ],
)
def test_details_are_kept_without_secrets_and_control_characters(text: str, kept: str) -> None:
    assert clean_message(text) == kept
