"""Downloads one video from one site with yt-dlp as a library, in a limited number of attempts.

yt-dlp gets fixed options: it reads no configuration, loads no plugins, starts no other downloader
and writes only into the folder it is given. Whether a file is complete is decided by
`pipeline.download.integrity`, when a request may be sent by the rate limiter.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
from pipeline.download.http.response import TooLarge
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
_FACTS_OF_PAGES = ("title", "extractor_key")
_LONGEST_FACT = 500
_EXPLAINED_BY_WARNINGS = frozenset({"unknown", "no_format", "no_javascript", "stale_downloader"})
_RUNTIMES = ("deno", "node", "quickjs", "bun")
_SMALLEST_BYTES = 64
"""Shorter than any container's header, so a body this small was cut."""
_COURTESY_SECONDS = 0.75
"""Between the requests for one video: what yt-dlp's own `sleep` preset takes for YouTube."""
LONGEST_COURTESY_SECONDS = 60.0
"""A server that fails and asks for a longer wait is left alone in this run: one video must not hold
up the others.
"""

# A broken site module may raise any of these. That must fail one video, and not the run.
_FOREIGN_ERRORS = (
    YoutubeDLError,
    http.client.HTTPException,
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Downloaded:
    """A file that a site gave."""

    path: Path
    suffix: str
    """By its first bytes. Empty if nothing in it can be opened."""
    facts: Mapping[str, JSON]
    """What the site says of the video, and the version of yt-dlp."""
    damage: str = ""
    """Why it is not complete; empty if it is. Only a file that came twice with the same bytes may
    be damaged.
    """


def download(
    video_id: str,
    partial: Path,
    source: SourceSettings,
    rate_limiter: RateLimiter | None = None,
) -> Downloaded:
    """A complete file below `partial`; a damaged one if the site gave the same bytes twice.

    `partial` is a folder of this video only. It outlives the call, so that a part can be continued.
    Raises VideoError, or SystemicFault when this machine is at fault.
    """
    rate_limiter = rate_limiter or NoLimit()
    attempts = _DownloadAttempts(video_id, partial, source)
    while True:
        # A new log for each attempt, so that its warnings explain only its own error.
        log = _YtdlpLog(source)
        permit = rate_limiter.acquire()
        try:
            downloaded = attempts.run_one(log, rate_limiter)
        except VideoError as error:
            # Raises if the run is ending: it cuts connections, and the video is not to blame.
            rate_limiter.sleep(0)
            wait_seconds = log.retry_after_seconds
            if rate_limiter.report(permit, error.status.reason, wait_seconds, video_id):
                continue
            attempts.count_failure(error, wait_seconds or 0.0)
            rate_limiter.sleep(max(attempts.pause_seconds, wait_seconds or 0.0))
        else:
            rate_limiter.report(permit, "", video_id=video_id)
            if attempts.accept(downloaded):
                return downloaded
            rate_limiter.sleep(attempts.pause_seconds)


class _DownloadAttempts:
    """The attempts for one video. A failure that allows no further attempt is raised."""

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

    def run_one(self, log: _YtdlpLog, rate_limiter: RateLimiter) -> Downloaded:
        return _attempt(self._video_id, self._partial, self._source, log, rate_limiter)

    def count_failure(self, error: VideoError, wait_seconds: float = 0.0) -> None:
        """Count a failed attempt. Returns if another attempt should follow, else raises.

        `wait_seconds` is how long the server asks us to wait.
        """
        reason = error.status.reason
        self._attempts += 1
        has_attempts = self._attempts < self._source.attempts
        is_short_wait = wait_seconds <= LONGEST_COURTESY_SECONDS
        if has_attempts and is_short_wait and self._is_worth_another(reason):
            return
        if reason == "network" and not self._source.is_one_of_many:
            unreachable = check_host(self._source)
            if unreachable:
                raise _environment_fault("offline", unreachable)
        # A few videos that yt-dlp does not understand are normal. If it understands none, the rate
        # limiter stops the run.
        is_environment = REASONS[reason].policy is Policy.ENVIRONMENT
        if is_environment and reason != "stale_downloader":
            raise _environment_fault(reason, error.status.detail)
        raise error

    def _is_worth_another(self, reason: str) -> bool:
        if reason == "forbidden":
            # An expired media address answers 403; YouTube hands out a fresh one when asked again.
            return self._source.is_youtube
        return REASONS[reason].policy is Policy.RETRY or reason == "proxy"

    def accept(self, downloaded: Downloaded) -> bool:
        """Whether to keep the file. A damaged one counts as a failed attempt."""
        if not downloaded.damage:
            return True
        sha256 = digest(downloaded.path)
        is_same_again = sha256 == self._damaged_sha256
        self._damaged_sha256 = sha256
        # The same bytes twice are what the site has. Before the last attempt, try for better ones.
        is_last = self._attempts == self._source.attempts - 1
        is_stable = is_same_again and is_last
        if is_stable and downloaded.suffix:
            return True
        downloaded.path.unlink()
        reason = "unreadable" if is_stable else "network"
        detail = f"the file is not whole: {downloaded.damage}"
        self.count_failure(VideoError(self._video_id, failure_status(reason, detail)))
        return False


def _environment_fault(reason: str, why: str) -> SystemicFault:
    row = REASONS[reason]
    return SystemicFault(f"{row.meaning}: {why}. No video was marked for it; {row.advice}.")


def _attempt(
    video_id: str,
    partial: Path,
    source: SourceSettings,
    log: _YtdlpLog,
    rate_limiter: RateLimiter,
) -> Downloaded:
    target = partial / "media"
    with _client(source, log, lambda: rate_limiter.sleep(0)) as client:
        with _as_video_errors(video_id, log, target):
            info = _describe_video(client, video_id, source)
        _transfer(client, info, target, source=source, log=log, rate_limiter=rate_limiter)
    try:
        _check_size(video_id, target.stat().st_size)
        suffix = accepted_suffix(target, video_id)
        result = check_integrity(video_id, target, _stated_seconds(info))
    except VideoError:
        # A file that is not a video is not worth continuing.
        target.unlink()
        raise
    is_useful = result.opens or not result.damage
    return Downloaded(target, suffix if is_useful else "", _facts(info, source), result.damage)


def _stated_seconds(info: Mapping[str, Any]) -> float | None:
    seconds = info.get("duration")
    return float(seconds) if isinstance(seconds, int | float) else None


def _check_size(video_id: str, size_bytes: int) -> None:
    """Raise VideoError `network` if a file is too small to be one: it was cut on its way."""
    if size_bytes < _SMALLEST_BYTES:
        detail = f"the file has {size_bytes} bytes, less than any container's header"
        raise VideoError(video_id, failure_status("network", detail))


def _facts(info: Mapping[str, Any], source: SourceSettings) -> dict[str, JSON]:
    facts: dict[str, JSON] = {}
    names: tuple[str, ...] = _FACTS if source.is_youtube else ()
    if source.is_listed and not source.sends_file:
        names = (*_FACTS, *_FACTS_OF_PAGES)
    for name in names:
        value = info.get(name)
        if isinstance(value, str):
            facts[name] = clean_message(value, source.secrets())[:_LONGEST_FACT]
        elif isinstance(value, int | float):
            facts[name] = value
    facts["yt_dlp"] = yt_dlp.version.__version__
    return facts


def _transfer(
    client: Any,
    info: Mapping[str, Any],
    target: Path,
    *,
    source: SourceSettings,
    log: _YtdlpLog,
    rate_limiter: RateLimiter,
) -> None:
    """Make `target` the file that `info` describes.

    yt-dlp's own transfer is not used: it joins parts of different versions of a file.
    """
    video_id = str(info["id"])
    part = target.with_name("media.part")
    headers = info.get("http_headers") or {}
    own_headers = {str(name): str(value) for name, value in headers.items()}

    def send(range_headers: dict[str, str]) -> Any:
        return open_url(client, info["url"], {**own_headers, **range_headers})

    def refuse_text(head: bytes, content_type: str) -> None:
        text = detect_text(head, content_type)
        if text:
            detail = log.clean(f"it begins {text!r}")
            raise VideoError(video_id, failure_status("text_answer", detail))

    request = TransferRequest(
        send, refuse_text, lambda at, total: rate_limiter.sleep(0), _slice_bytes(info)
    )
    limits = TransferLimits(
        source.max_bytes,
        source.socket_timeout_seconds,
        source.min_bytes_per_second,
        source.transfer_seconds,
    )
    wait_seconds = _seconds_until_available(info)
    if wait_seconds:
        rate_limiter.sleep(wait_seconds)
    transfer = Transfer(part, request, limits)  # its time limit starts here, after the wait
    # A media address handed out for a few hours answers 404 when it is stale; that says nothing
    # about the video.
    with _as_video_errors(video_id, log, target, transfer, address_expires=source.is_youtube):
        transfer.run()
        part.replace(target)


def _slice_bytes(info: Mapping[str, Any]) -> int:
    """How much to ask for at a time: YouTube sends large requests slowly. 0: no limit."""
    return int((info.get("downloader_options") or {}).get("http_chunk_size") or 0)


def _seconds_until_available(info: Mapping[str, Any]) -> float:
    """YouTube's addresses are valid only after the advertisements before a video."""
    seconds = (info.get("available_at") or 0) - time.time()
    return float(min(max(seconds, 0.0), LONGEST_COURTESY_SECONDS))


def _client(
    source: SourceSettings, log: _YtdlpLog, check_wanted: Callable[[], None] = lambda: None
) -> Any:
    # Plugins load from HOME and PYTHONPATH without being asked for; this is yt-dlp's own switch
    # against them.
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    client = yt_dlp.YoutubeDL(_options(source, log))
    use_bounded_handler(client, check_wanted, public_only=not source.allow_private)
    return client


def listing_client(source: SourceSettings) -> Any:
    """A client that lists the videos of a playlist, for any site that yt-dlp knows."""
    client = _client(replace(source, is_listed=True), _YtdlpLog(source))
    client.params |= {"allowed_extractors": ["default"], "extract_flat": "in_playlist"}
    client.params |= {"noplaylist": False, "js_runtimes": {}}
    return client


def javascript_runtimes() -> list[tuple[str, str, bool]]:
    """Every JavaScript runtime that yt-dlp finds here: name, version, whether it is supported."""
    source = SourceSettings()
    found = []
    with _client(source, _YtdlpLog(source)) as client:
        for runtime in client._js_runtimes.values():
            info = runtime.info if runtime is not None else None
            if info is not None:
                found.append((info.name, info.version, info.supported))
    return found


def _options(source: SourceSettings, log: _YtdlpLog) -> dict[str, object]:
    """The options of yt-dlp. All others keep its defaults, which for a library mean off."""
    return {
        "allowed_extractors": _allowed_extractors(source),
        # Its cache lies in HOME, and would make runs depend on earlier ones.
        "cachedir": False,
        "color": "never",
        "cookiefile": _cookies(source),
        # An address of a list is one video: the entries of a playlist are not looked at.
        "extract_flat": "in_playlist" if source.is_listed else False,
        # A page may name file:// addresses; a download must not read our disk.
        "enable_file_urls": False,
        # Attempts are counted in one place, here; each continues where the one before it stopped.
        "extractor_retries": 0,
        # One file, plain HTTP, so nothing has to be merged or handed to another program.
        "format": "bv*[protocol^=http][protocol!*=dash]",
        # Video without sound is half the bytes; H.264 is the cheapest to decode.
        "format_sort": [f"res:{source.max_height}", "vcodec:h264", "+hasaud", "vext"],
        # Otherwise yt-dlp prints an error and returns nothing.
        "ignoreerrors": False,
        # YouTube hides its addresses behind a script; any runtime that is installed will do.
        "js_runtimes": {name: {} for name in _RUNTIMES} if source.is_youtube else {},
        "logger": log,
        "noplaylist": True,
        "noprogress": True,
        "postprocessors": [],
        # Empty means none: proxies of the environment would change which site is asked, and from
        # where.
        "proxy": source.proxy,
        "quiet": True,
        # Scripts that yt-dlp would download and run.
        "remote_components": [],
        "retries": 0,
        "skip_unavailable_fragments": False,
        # Requests of one video; the rate limiter counts videos.
        "sleep_interval_requests": _COURTESY_SECONDS if source.is_youtube else 0,
        "socket_timeout": source.socket_timeout_seconds,
    }


def _allowed_extractors(source: SourceSettings) -> list[str]:
    """Patterns of yt-dlp's site modules that may read an address."""
    if source.is_youtube:
        return ["youtube"]
    return ["generic"] if source.sends_file else ["default"]


def _cookies(source: SourceSettings) -> object:
    if not source.cookies_file:
        return None
    jar = cookie_jar(source.cookies_file)
    jar.seek(0)
    return jar


def _describe_video(client: Any, video_id: str, source: SourceSettings) -> dict[str, Any]:
    """What yt-dlp calls the info dict of a video."""
    address = source.address(video_id)
    if source.sends_file:
        return {"id": video_id, "title": video_id, "url": address, "ext": "mp4"}
    info = client.extract_info(address, download=False) or {}
    if source.is_listed and info.get("_type", "video") != "video":
        detail = f"{info.get('playlist_count') or 'several'} videos"
        raise VideoError(video_id, failure_status("playlist", detail))
    if source.is_listed:
        # The id in the catalog is ours; what the site calls the video is in the facts.
        info = {**info, "id": video_id}
    if info.get("id") != video_id or "url" not in info:
        detail = f"asked for {video_id}, got {info.get('id')!r}"
        raise VideoError(video_id, failure_status("unknown", detail))
    live_status = info.get("live_status")
    if live_status in ("is_live", "is_upcoming", "post_live"):
        raise VideoError(video_id, failure_status("not_yet_live", str(live_status)))
    return dict(info)


class _YtdlpLog:
    """The logger of yt-dlp. Keeps warnings, which often hold the cause, and prints nothing."""

    def __init__(self, source: SourceSettings) -> None:
        self.warnings: list[str] = []
        self.retry_after_seconds: float | None = None
        """How long the server of the last error asks us to wait."""
        self._source = source

    def debug(self, message: str) -> None:
        """Progress and chatter: not kept."""

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        """Every error is raised as well, since `ignoreerrors` is off."""

    @property
    def has_proxy(self) -> bool:
        """Whether requests go to a proxy."""
        return bool(self._source.proxy)

    def clean(self, text: str) -> str:
        """A text without secrets and control characters."""
        return clean_message(text, self._source.secrets())

    def text(self) -> str:
        """The warnings as one line, each once."""
        return self.clean(" | ".join(dict.fromkeys(self.warnings)))


@contextlib.contextmanager
def _as_video_errors(
    video_id: str,
    log: _YtdlpLog,
    target: Path,
    transfer: Transfer | None = None,
    *,
    address_expires: bool = False,
) -> Iterator[None]:
    """Turn errors of yt-dlp and of the transfer into VideoError, those of our disk into faults."""
    try:
        yield
    except TooLarge as error:
        raise VideoError(video_id, failure_status("too_large", str(error))) from None
    except _FOREIGN_ERRORS as error:
        fault = local_fault(error)
        if fault is not None:
            needed_bytes = transfer.declared_bytes if transfer else 0
            raise disk_fault(fault, target, needed_bytes) from error
        log.retry_after_seconds = retry_after_seconds(error)
        _close_responses(error)
        reason = _reason(error, log, address_expires=address_expires)
        status = failure_status(reason, _detail(error, reason, log))
        # Not `from error`: a traceback would print addresses and headers that `_detail` has cut
        # out.
        raise VideoError(video_id, status) from None


def _close_responses(error: BaseException) -> None:
    """Close the connections of HTTP errors, which would stay open until garbage collection."""
    for link in causes(error):
        if isinstance(link, HTTPError):
            link.response.close()


def _reason(error: BaseException, log: _YtdlpLog, *, address_expires: bool) -> str:
    reason = reason_of(error)
    is_stale_address = reason == "not_found" and address_expires
    # Without a proxy the 407 is the site's own, and is about this video only.
    is_proxy_of_site = reason == "proxy" and not log.has_proxy
    if is_stale_address or is_proxy_of_site:
        return "forbidden"
    if reason == "no_format":
        # Without a JavaScript runtime yt-dlp finds no formats, and says why in a warning.
        warned_reason = reason_of_text(log.text())
        if warned_reason == "no_javascript":
            return warned_reason
    return reason


def _detail(error: BaseException, reason: str, log: _YtdlpLog) -> str:
    text = log.clean(str(error) or repr(error))
    warnings = log.text()
    is_explained = reason in _EXPLAINED_BY_WARNINGS
    if log.warnings and is_explained:
        return f"{text} | {warnings}"
    return text
