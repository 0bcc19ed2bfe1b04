"""One video from one site, through yt-dlp as a library, asked for until it is whole or its attempts
are spent.

yt-dlp gets fixed options: it reads no configuration, loads no plugins, starts no other downloader
and writes only into the folder it is given. Its success is a hint: `pipeline.download.integrity`
decides. Whether the network may be used at all is the rate limiter's decision.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yt_dlp
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import YoutubeDLError

from pipeline.download.access.connectivity import check_host
from pipeline.download.access.cookies import cookie_jar
from pipeline.download.access.rate_limiter import NoLimit, RateLimiter
from pipeline.download.access.source import SourceSettings
from pipeline.download.error_mapping import (
    causes,
    clean_message,
    local_fault,
    reason_of,
    reason_of_text,
    retry_after_seconds,
)
from pipeline.download.http.bounded_http import TooLarge
from pipeline.download.http.transfer import Transfer, TransferLimits, TransferRequest
from pipeline.download.integrity import check_integrity
from pipeline.download.text_answer import detect_text
from pipeline.download.ytdlp_network import open_url, use_bounded_handler
from pipeline.media.media_file import accepted_suffix, digest
from storage.base.errors import SystemicFault, VideoError
from storage.base.records import JSON
from storage.base.video_status import REASONS, Policy, failure_status
from storage.files.os_errors import disk_fault

_FACTS = ("format_id", "ext", "vcodec", "acodec", "width", "height", "fps", "duration")
_TOLD_BY_WARNINGS = frozenset({"unknown", "no_format", "no_javascript", "stale_downloader"})
_RUNTIMES = ("deno", "node", "quickjs", "bun")
_SMALLEST_BYTES = 64
"""Shorter than any container's header, so a body this small was cut."""
_COURTESY_SECONDS = 0.75
"""Between the requests for one video: what yt-dlp's own `sleep` preset takes for YouTube."""
LONGEST_COURTESY_SECONDS = 60.0
"""A server that fails and asks for a longer wait is left alone in this run: one video must not hold
up the others.
"""

# A broken site module raises whatever its author did not foresee; one video must not stop the run
# for it.
_FOREIGN_ERRORS = (
    YoutubeDLError, http.client.HTTPException, OSError,
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Downloaded:
    """A file that a site gave: where it lies, the suffix its bytes call for, what the site says of
    it.
    """

    path: Path
    suffix: str
    facts: Mapping[str, JSON]
    damage: str = ""
    """Why it is not whole; empty if it is. Only a file that came twice with the same bytes may be
    damaged.
    """


def download(
    video_id: str, partial: Path, source: SourceSettings, rate_limiter: RateLimiter | None = None
) -> Downloaded:
    """The file, below `partial`, whole; or damaged, if the site gave the same damaged bytes again.

    `partial` is private to this video and outlives the call, so that a part can be continued.
    Raises VideoError, or SystemicFault when this machine is at fault.
    """
    rate_limiter = rate_limiter or NoLimit()
    asking = _DownloadAttempts(video_id, partial, source)
    while True:
        notes = _YtdlpLog(source)
        permit = rate_limiter.acquire()
        try:
            arrived = asking.attempt(notes, rate_limiter)
        except VideoError as error:
            rate_limiter.sleep(
                0
            )  # a run that is being left cuts connections off, and blames no video for it
            wait = notes.retry_after_seconds
            if not rate_limiter.report(permit, error.status.reason, wait, video_id):
                asking.failed_with(error, wait or 0.0)
                rate_limiter.sleep(max(asking.pause_seconds, wait or 0.0))
        else:
            rate_limiter.report(permit, "", video_id=video_id)
            if asking.satisfied_with(arrived):
                return arrived
            rate_limiter.sleep(asking.pause_seconds)


class _DownloadAttempts:
    """The attempts for one video. One that is not worth another, and the last, raise."""

    def __init__(self, video_id: str, partial: Path, source: SourceSettings) -> None:
        self._video_id = video_id
        self._partial = partial
        self._source = source
        self._attempts = 0
        self._damaged_sha256 = ""

    @property
    def pause_seconds(self) -> float:
        """The wait before the next attempt."""
        return float(self._source.backoff_seconds * 2 ** (self._attempts - 1))

    def attempt(self, notes: _YtdlpLog, rate_limiter: RateLimiter) -> Downloaded:
        return _attempt(self._video_id, self._partial, self._source, notes, rate_limiter)

    def failed_with(self, error: VideoError, wait_seconds: float = 0.0) -> None:
        """Count the attempt; return if another is worth it, after so long as the server asked us to
        wait.
        """
        reason = error.status.reason
        self._attempts += 1
        allowed = (
            self._attempts < self._source.attempts and wait_seconds <= LONGEST_COURTESY_SECONDS
        )
        if allowed and self._worth_another(reason):
            return
        if reason == "network" and (why := check_host(self._source)):
            raise _environment("offline", why)
        # A few videos that yt-dlp does not understand are normal; the gate stops the run when it is
        # every one.
        if REASONS[reason].policy is Policy.ENVIRONMENT and reason != "stale_downloader":
            raise _environment(reason, error.status.detail)
        raise error

    def _worth_another(self, reason: str) -> bool:
        if reason == "forbidden":
            # An expired media address answers 403; YouTube hands out a fresh one when asked again.
            return self._source.is_youtube
        return REASONS[reason].policy is Policy.RETRY or reason == "proxy"

    def satisfied_with(self, arrived: Downloaded) -> bool:
        """Whether the file can be had no better. A damaged one is asked for again until the
        attempts are spent.
        """
        if not arrived.damage:
            return True
        before, self._damaged_sha256 = self._damaged_sha256, digest(arrived.path)
        stable = before == self._damaged_sha256 and self._attempts == self._source.attempts - 1
        if not (stable and arrived.suffix):
            arrived.path.unlink()
            reason = "unreadable" if stable else "network"
            self.failed_with(
                VideoError(
                    self._video_id,
                    failure_status(reason, f"the file is not whole: {arrived.damage}"),
                )
            )
            return False
        return True


def _environment(reason: str, why: str) -> SystemicFault:
    row = REASONS[reason]
    return SystemicFault(f"{row.meaning}: {why}. No video was marked for it; {row.advice}.")


def _attempt(
    video_id: str,
    partial: Path,
    source: SourceSettings,
    notes: _YtdlpLog,
    rate_limiter: RateLimiter,
) -> Downloaded:
    target = partial / "media"
    with _client(source, notes, lambda: rate_limiter.sleep(0)) as client:
        with _in_our_words(video_id, notes, target):
            info = _described(client, video_id, source)
        _transfer(client, info, target, source=source, notes=notes, rate_limiter=rate_limiter)
    try:
        _check_size(video_id, target.stat().st_size)
        suffix = accepted_suffix(target, video_id)
        seconds = info.get("duration")
        finding = check_integrity(
            video_id, target, float(seconds) if isinstance(seconds, int | float) else None
        )
    except VideoError:
        target.unlink()
        raise
    return Downloaded(
        target,
        suffix if finding.opens or not finding.damage else "",
        _facts(info, source),
        finding.damage,
    )


def _check_size(video_id: str, size_bytes: int) -> None:
    """Raise VideoError `network` for a stump: of a transfer it says that more should have come."""
    if size_bytes < _SMALLEST_BYTES:
        told = f"the file has {size_bytes} bytes, less than any container's header"
        raise VideoError(video_id, failure_status("network", told))


def _facts(info: Mapping[str, Any], source: SourceSettings) -> dict[str, JSON]:
    facts = {name: info[name] for name in _FACTS if isinstance(info.get(name), str | int | float)}
    return {**(facts if source.is_youtube else {}), "yt_dlp": yt_dlp.version.__version__}


def _transfer(
    client: Any,
    info: Mapping[str, Any],
    target: Path,
    *,
    source: SourceSettings,
    notes: _YtdlpLog,
    rate_limiter: RateLimiter,
) -> None:
    """Make `target` the file that `info` describes. yt-dlp's own transfer joins versions of a file
    without asking.
    """
    video_id, part = str(info["id"]), target.with_name("media.part")
    own_headers = {
        str(name): str(value) for name, value in (info.get("http_headers") or {}).items()
    }

    def ask(headers: dict[str, str]) -> Any:
        return open_url(client, info["url"], {**own_headers, **headers})

    def look(head: bytes, content_type: str) -> None:
        if text := detect_text(head, content_type):
            raise VideoError(
                video_id, failure_status("text_answer", notes.clean(f"it begins {text!r}"))
            )

    want = TransferRequest(ask, look, lambda at, total: rate_limiter.sleep(0), _slice_bytes(info))
    limits = TransferLimits(
        source.max_bytes,
        source.socket_timeout_seconds,
        source.min_bytes_per_second,
        source.transfer_seconds,
    )
    if wait := _wait_until_available(info):
        rate_limiter.sleep(wait)
    transfer = Transfer(part, want, limits)  # its clock runs from here on
    # A media address handed out for a few hours answers 404 when it is stale; that says nothing
    # about the video.
    with _in_our_words(video_id, notes, target, transfer, address_expires=source.is_youtube):
        transfer.run()
        part.replace(target)


def _slice_bytes(info: Mapping[str, Any]) -> int:
    """YouTube sends large requests slowly; yt-dlp says how much to ask for at a time."""
    return int((info.get("downloader_options") or {}).get("http_chunk_size") or 0)


def _wait_until_available(info: Mapping[str, Any]) -> float:
    """YouTube hands out addresses that are good only after the advertisements before a video."""
    seconds = (info.get("available_at") or 0) - time.time()
    return float(min(max(seconds, 0.0), LONGEST_COURTESY_SECONDS))


def _client(
    source: SourceSettings, notes: _YtdlpLog, go_on: Callable[[], None] = lambda: None
) -> Any:
    # Plugins load from HOME and PYTHONPATH without being asked for; this is yt-dlp's own switch
    # against them.
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    client = yt_dlp.YoutubeDL(_options(source, notes))
    use_bounded_handler(client, go_on)
    return client


def javascript_runtimes() -> list[tuple[str, str, bool]]:
    """Name, version and fitness of every JavaScript runtime that yt-dlp finds here."""
    source = SourceSettings()
    with _client(source, _YtdlpLog(source)) as client:
        found = [runtime.info for runtime in client._js_runtimes.values() if runtime is not None]
    return [(info.name, info.version, info.supported) for info in found if info is not None]


def _options(source: SourceSettings, notes: _YtdlpLog) -> dict[str, object]:
    """Everything yt-dlp is told. What is not here has yt-dlp's default, which for a library means
    off.
    """
    return {
        "allowed_extractors": ["youtube"] if source.is_youtube else ["generic"],
        "cachedir": False,
        "color": "never",
        "cookiefile": _cookies(source),
        "enable_file_urls": False,
        # Attempts are counted in one place, here; each continues where the one before it stopped.
        "extractor_retries": 0,
        # One file, plain HTTP, so nothing has to be merged or handed to another program.
        "format": "bv*[protocol^=http][protocol!*=dash]",
        # Video without sound is half the bytes; H.264 is the cheapest to decode.
        "format_sort": [f"res:{source.max_height}", "vcodec:h264", "+hasaud", "vext"],
        "ignoreerrors": False,
        # YouTube hides its addresses behind a script; any runtime that is installed will do.
        "js_runtimes": {name: {} for name in _RUNTIMES} if source.is_youtube else {},
        "logger": notes,
        "noplaylist": True,
        "noprogress": True,
        "postprocessors": [],
        # Empty means none: proxies of the environment would change who is asked, and from where.
        "proxy": source.proxy,
        "quiet": True,
        "remote_components": [],
        "retries": 0,
        "skip_unavailable_fragments": False,
        "sleep_interval_requests": _COURTESY_SECONDS if source.is_youtube else 0,
        "socket_timeout": source.socket_timeout_seconds,
    }


def _cookies(source: SourceSettings) -> object:
    if not source.cookies_file:
        return None
    copy = cookie_jar(source.cookies_file)
    copy.seek(0)
    return copy


def _described(client: Any, video_id: str, source: SourceSettings) -> dict[str, Any]:
    address = source.address(video_id)
    if not source.is_youtube:
        return {"id": video_id, "title": video_id, "url": address, "ext": "mp4"}
    info = client.extract_info(address, download=False)
    if not info or info.get("id") != video_id or "url" not in info:
        raise VideoError(
            video_id,
            failure_status("unknown", f"asked for {video_id}, got {(info or {}).get('id')!r}"),
        )
    if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise VideoError(video_id, failure_status("not_yet_live", str(info["live_status"])))
    return dict(info)


class _YtdlpLog:
    """Stands where yt-dlp expects a logger; keeps warnings, which often hold the cause, and prints
    nothing.
    """

    def __init__(self, source: SourceSettings) -> None:
        self.warnings: list[str] = []
        self.retry_after_seconds: float | None = None
        self._source = source

    def debug(self, message: str) -> None:
        """Progress and chatter: not kept."""

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        """Every error is raised as well, since `ignoreerrors` is off."""

    @property
    def has_proxy(self) -> bool:
        """Whether a proxy is asked."""
        return bool(self._source.proxy)

    def clean(self, text: str) -> str:
        """A text without what must not be kept."""
        return clean_message(text, self._source.secrets())

    def text(self) -> str:
        return self.clean(" | ".join(dict.fromkeys(self.warnings)))


@contextlib.contextmanager
def _in_our_words(
    video_id: str,
    notes: _YtdlpLog,
    target: Path,
    transfer: Transfer | None = None,
    *,
    address_expires: bool = False,
) -> Iterator[None]:
    try:
        yield
    except TooLarge as error:
        raise VideoError(video_id, failure_status("too_large", str(error))) from None
    except _FOREIGN_ERRORS as error:
        fault = local_fault(error)
        if fault is not None:
            raise disk_fault(fault, target, transfer.declared_bytes if transfer else 0) from error
        notes.retry_after_seconds = retry_after_seconds(error)
        _let_go(error)
        reason = _reason(error, notes, address_expires=address_expires)
        if (
            reason == "proxy" and not notes.has_proxy
        ):  # a site that answers 407 by itself speaks for that video alone
            reason = "forbidden"
        status = failure_status(reason, _text(error, reason, notes))
        # Not `from error`: a traceback would print addresses and headers that `_text` has cut out.
        raise VideoError(video_id, status) from None


def _let_go(error: BaseException) -> None:
    """Close the connections of refusals, which would hold their sockets until they are
    collected.
    """
    for link in causes(error):
        if isinstance(link, HTTPError):
            link.response.close()


def _reason(error: BaseException, notes: _YtdlpLog, *, address_expires: bool) -> str:
    reason = reason_of(error)
    if reason == "not_found" and address_expires:
        return "forbidden"
    if reason == "no_format" and reason_of_text(notes.text()) == "no_javascript":
        return "no_javascript"
    return reason


def _text(error: BaseException, reason: str, notes: _YtdlpLog) -> str:
    text = notes.clean(str(error) or repr(error))
    return f"{text} | {notes.text()}" if notes.warnings and reason in _TOLD_BY_WARNINGS else text
