"""The status of a video: one of five states, and a reason from a closed, versioned table.

Every id that goes in ends in exactly one state, so the states of a catalog add up to its ids. A
reason is a stable name that people filter and retry by. The raw message of the program that failed
is kept beside it as `detail`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a video. All but `PENDING` are final until a retry is requested."""

    DONE = "done"
    UNAVAILABLE = "unavailable"
    """Its source says that it is gone, or that we may not have it."""
    REJECTED = "rejected"
    """We have the file, and one of our rules refuses it."""
    PENDING = "pending"
    """It failed this time; another try may succeed."""
    QUARANTINED = "quarantined"
    """It hung or killed a decoder, or took too much memory; only a requested retry repeats it."""


class Policy(StrEnum):
    """The automatic reaction to a reason."""

    PERMANENT = "permanent"
    """Recorded once; not tried again until a retry is requested."""
    RETRY = "retry"
    """Tried again within the same call, up to the attempts allowed, then left pending."""
    PARK = "park"
    """Recorded at once: another try needs something first, such as time, cookies or a person."""
    PAUSE = "pause"
    """The site asks our IP address to wait: the queue pauses, and no video is marked."""
    ENVIRONMENT = "environment"
    """This machine cannot do it for any video: the run stops, and no video is marked."""


TAXONOMY_VERSION = 7
"""Incremented when a reason is added, or changes its state or policy.

Kept in media records and availability reports.
"""


@dataclass(frozen=True)
class Reason:
    """One row of the table of reasons."""

    state: State
    policy: Policy
    meaning: str
    advice: str


_GONE = "nothing to do; results are reported on the videos that remain"
_FOLDER = "a changed file in a folder is looked at by the next run"


def _later(reason: str) -> str:
    return f"run again with --retry {reason}, now or when the network is well"


def _limit(reason: str) -> str:
    return f"raise the limit, then --retry {reason}"


def _other_file(action: str, reason: str) -> str:
    return f"{action}; {_FOLDER}, a site is asked again with --retry {reason}"


REASONS: dict[str, Reason] = {
    "not_found": Reason(
        State.UNAVAILABLE,
        Policy.PERMANENT,
        "the address answers 404 or 410, or the folder has no such file",
        f"{_GONE}; a file that is put into the folder is found by the next run",
    ),
    "removed": Reason(
        State.UNAVAILABLE, Policy.PERMANENT, "taken down by its uploader or by the site", _GONE
    ),
    "private": Reason(State.UNAVAILABLE, Policy.PERMANENT, "private", _GONE),
    "account_terminated": Reason(
        State.UNAVAILABLE, Policy.PERMANENT, "the uploader's account was closed", _GONE
    ),
    "copyright": Reason(State.UNAVAILABLE, Policy.PERMANENT, "blocked by a copyright claim", _GONE),
    "members_only": Reason(State.UNAVAILABLE, Policy.PERMANENT, "for paying members", _GONE),
    "age_restricted": Reason(
        State.UNAVAILABLE,
        Policy.PARK,
        "needs a signed-in adult",
        "set cookies, then --retry age_restricted",
    ),
    "geo_blocked": Reason(
        State.UNAVAILABLE,
        Policy.PARK,
        "not shown in this country",
        "use another network, then --retry geo_blocked",
    ),
    "only_text": Reason(
        State.UNAVAILABLE,
        Policy.PERMANENT,
        "its address gave text on three runs, while other videos of the host came",
        "look at what it says; --retry only_text asks again",
    ),
    "not_a_video": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "the bytes are not a video container that we open",
        _other_file("look at the file", "not_a_video"),
    ),
    "no_video_stream": Reason(
        State.REJECTED, Policy.PERMANENT, "a container without a moving picture", "nothing to do"
    ),
    "too_short": Reason(
        State.REJECTED, Policy.PERMANENT, "fewer frames than the extractor's clip", "nothing to do"
    ),
    "too_many_pixels": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "a frame above [decode] max_pixels",
        _limit("too_many_pixels"),
    ),
    "too_long": Reason(
        State.REJECTED, Policy.PERMANENT, "above [decode] max_seconds", _limit("too_long")
    ),
    "too_large": Reason(
        State.REJECTED, Policy.PERMANENT, "above [download] max_megabytes", _limit("too_large")
    ),
    "playlist": Reason(
        State.REJECTED,
        Policy.PARK,
        "the address is a playlist or channel, not one video",
        "list its videos, or set [list] playlists = true, then --retry playlist",
    ),
    "private_address": Reason(
        State.REJECTED,
        Policy.PARK,
        "the address leads to this machine or a private network",
        "if that is wanted, set [list] allow_private = true, then --retry private_address",
    ),
    "unreadable": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "a video container, but no frame of it decodes",
        _other_file("get another copy", "unreadable"),
    ),
    "bad_timestamps": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "frames without usable times, so rows would have none",
        _other_file("re-mux the file", "bad_timestamps"),
    ),
    "misaligned": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "frame numbers of the annotations cannot be placed in this file",
        _other_file("find the file that was annotated", "misaligned"),
    ),
    "no_segment": Reason(
        State.REJECTED, Policy.PERMANENT, "no annotated segment lies in the video", "nothing to do"
    ),
    "non_finite": Reason(
        State.REJECTED,
        Policy.PERMANENT,
        "a feature is NaN or infinite",
        "check the weights and the precision, then --retry non_finite",
    ),
    "forbidden": Reason(
        State.PENDING,
        Policy.RETRY,
        "the address answers 401, 403 or, without a proxy, 407",
        _later("forbidden"),
    ),
    "rate_limited": Reason(
        State.PENDING,
        Policy.PAUSE,
        "the site asks us to slow down",
        "wait an hour, then --retry rate_limited",
    ),
    "bot_check": Reason(
        State.PENDING,
        Policy.PAUSE,
        "the site wants proof of a human",
        "wait, or use another network or cookies, then --retry bot_check",
    ),
    "network": Reason(
        State.PENDING,
        Policy.RETRY,
        "time-out, reset, DNS, TLS or a cut transfer",
        _later("network"),
    ),
    "server_error": Reason(
        State.PENDING, Policy.RETRY, "the address answers 5xx", _later("server_error")
    ),
    "text_answer": Reason(
        State.PENDING,
        Policy.PARK,
        "text came in place of a video: a captcha, a portal, an error",
        "look at what it says; fix cookies, proxy or network, then --retry text_answer",
    ),
    "not_yet_live": Reason(
        State.PENDING,
        Policy.PARK,
        "a live stream that has not ended",
        "when it has, run again with --retry not_yet_live",
    ),
    "no_format": Reason(
        State.PENDING,
        Policy.PARK,
        "no format on offer that we take",
        "update yt-dlp, then --retry no_format",
    ),
    "stale_downloader": Reason(
        State.PENDING,
        Policy.ENVIRONMENT,
        "yt-dlp no longer understands the site",
        "update yt-dlp, and run again",
    ),
    "no_javascript": Reason(
        State.PENDING,
        Policy.ENVIRONMENT,
        "YouTube's formats need a JavaScript runtime",
        "install deno (or node 22) and yt-dlp-ejs, check with `python -m pipeline doctor`, "
        "and run again",
    ),
    "proxy": Reason(
        State.PENDING,
        Policy.ENVIRONMENT,
        "the proxy refuses us",
        "correct [download] proxy, and run again",
    ),
    "offline": Reason(
        State.PENDING,
        Policy.ENVIRONMENT,
        "the source cannot be reached at all",
        "repair the network, and run again",
    ),
    "altered": Reason(
        State.PENDING,
        Policy.PARK,
        "the kept file is not the one that was recorded when it was fetched",
        "--retry altered fetches it anew, or takes the file of a folder as it is now",
    ),
    "requested": Reason(
        State.PENDING, Policy.RETRY, "a retry was asked for and has not happened yet", "run again"
    ),
    "unknown": Reason(
        State.PENDING,
        Policy.PARK,
        "a message that is not in our table; it is kept in full",
        "read the detail and report it; --retry unknown asks again",
    ),
    "hang": Reason(
        State.QUARANTINED,
        Policy.PARK,
        "no sign of life for [decode] stall_seconds, or more CPU time than max_wait_seconds and "
        "max_wait_ratio allow",
        "look at it; raise the limit that its detail names, then --retry hang",
    ),
    "memory": Reason(
        State.QUARANTINED,
        Policy.PARK,
        "decoding it takes more than [decode] max_memory_megabytes",
        "look at it; raise the limit, then --retry memory",
    ),
    "crash": Reason(
        State.QUARANTINED,
        Policy.PARK,
        "the decoder died on it",
        f"look at it, then --retry crash; {_FOLDER}",
    ),
}
"""Reason → its state, its meaning, and what to do. A name is never reused for another meaning."""


@dataclass(frozen=True)
class VideoStatus:
    """The state of one video and the reason for it."""

    state: State
    reason: str = ""
    """A key of `REASONS`; empty exactly when the state is `DONE`."""
    detail: str = ""
    """The numbers or the raw message behind it. Never interpreted."""

    def __post_init__(self) -> None:
        if self.state is State.DONE:
            if self.reason:
                raise ValueError(f"a done video has no reason, got {self.reason!r}")
            return
        # A state that does not fit its reason means a damaged record, or another release's table.
        expected = _reason(self.reason).state
        if expected is not self.state:
            raise ValueError(f"reason {self.reason!r} belongs to {expected}, not to {self.state}")

    def __str__(self) -> str:
        name = f"{self.state}:{self.reason}" if self.reason else str(self.state)
        return f"{name} ({self.detail})" if self.detail else name


DONE = VideoStatus(State.DONE)


def failure_status(reason: str, detail: str = "") -> VideoStatus:
    """The status for a reason of `REASONS`. Raises ValueError for an unknown reason."""
    return VideoStatus(_reason(reason).state, reason, detail)


def _reason(name: str) -> Reason:
    if name not in REASONS:
        raise ValueError(f"unknown reason {name!r}; known reasons are {', '.join(REASONS)}")
    return REASONS[name]
