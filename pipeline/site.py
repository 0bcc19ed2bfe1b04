"""One video from one site, through yt-dlp as a library.

yt-dlp gets fixed options: it reads no configuration, loads no plugins, starts no other downloader and writes only into
the folder it is given. How often a whole run may ask, and what to do when a site asks us to slow down, is the caller's
matter; so is whether the file decodes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yt_dlp
from yt_dlp.networking.exceptions import HTTPError, TransportError
from yt_dlp.utils import YoutubeDLError

from pipeline.complaints import detail, local_fault, reason_of
from pipeline.media import accepted_suffix
from pipeline.source import SourceSettings
from storage.errors import VideoError
from storage.faults import disk_fault
from storage.records import JSON
from storage.verdicts import failed

_TRANSIENT = frozenset({"network", "server_error"})
_FACTS = ("format_id", "ext", "vcodec", "acodec", "width", "height", "fps")

# A broken site module raises whatever its author did not foresee; one video must not stop the run for it.
_FOREIGN_ERRORS = (
    YoutubeDLError, http.client.HTTPException, OSError,
    ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError,
)  # fmt: skip


def from_site(video_id: str, partial: Path, source: SourceSettings) -> tuple[Path, str, dict[str, JSON]]:
    """The file, below `partial`; the suffix its bytes call for; and what the site says of it.

    `partial` is private to this video and outlives the call, so that a part can be continued. Raises VideoError, or
    SystemicFault when this machine is at fault.
    """
    # An expired media address answers 403; YouTube hands out a fresh one when asked again.
    worth_another = _TRANSIENT | ({"forbidden"} if source.is_youtube else set())
    for attempt in range(source.attempts - 1):
        try:
            return _attempt(video_id, partial, source)
        except VideoError as error:
            if error.verdict.reason not in worth_another:
                raise
        time.sleep(source.backoff_seconds * 2**attempt)
    return _attempt(video_id, partial, source)


def _attempt(video_id: str, partial: Path, source: SourceSettings) -> tuple[Path, str, dict[str, JSON]]:
    notes = _Notes()
    target = partial / "media"
    with _client(source, notes) as client:
        with _in_our_words(video_id, notes, target):
            info = _described(client, video_id, source)
        complete = _transfer(client, info, target, source=source, notes=notes)
    if not complete:
        raise VideoError(video_id, failed("unknown", notes.text()))
    try:
        suffix = accepted_suffix(target, video_id)
    except VideoError:
        target.unlink()
        raise
    facts = {name: info[name] for name in _FACTS if isinstance(info.get(name), str | int | float)}
    return target, suffix, {**(facts if source.is_youtube else {}), "yt_dlp": yt_dlp.version.__version__}


def _transfer(client: Any, info: dict[str, Any], target: Path, *, source: SourceSettings, notes: _Notes) -> bool:
    transfer = _Transfer(target.parent, client.urlopen, address_expires=source.is_youtube)
    client.urlopen = transfer.urlopen
    with contextlib.closing(transfer), _in_our_words(info["id"], notes, target, transfer):
        headers = {**(info.get("http_headers") or {}), **transfer.condition()}
        # `dl` alone: no name is built from what a site says, and no program runs after it.
        complete, _ = client.dl(str(target), {**info, "http_headers": headers})
        return bool(complete)


def _client(source: SourceSettings, notes: _Notes) -> Any:
    # Plugins load from HOME and PYTHONPATH without being asked for; this is yt-dlp's own switch against them.
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    return yt_dlp.YoutubeDL(_options(source, notes))


def _options(source: SourceSettings, notes: _Notes) -> dict[str, object]:
    """Everything yt-dlp is told. What is not here has yt-dlp's default, which for a library means off."""
    return {
        "allowed_extractors": ["youtube"] if source.is_youtube else ["generic"],
        "cachedir": False,
        "color": "never",
        "enable_file_urls": False,
        "extractor_retries": source.attempts - 1,
        # One file, plain HTTP, so nothing has to be merged or handed to another program.
        "format": "bv*[protocol^=http][protocol!*=dash]",
        # Video without sound is half the bytes; H.264 is the cheapest to decode.
        "format_sort": [f"res:{source.max_height}", "vcodec:h264", "+hasaud", "vext"],
        "ignoreerrors": False,
        "logger": notes,
        "noplaylist": True,
        "noprogress": True,
        "postprocessors": [],
        # Empty means none: proxies of the environment would change who is asked, and from where.
        "proxy": "",
        "quiet": True,
        "remote_components": [],
        # Attempts are counted in one place, here; each continues where the one before it stopped.
        "retries": 0,
        "skip_unavailable_fragments": False,
        "socket_timeout": source.socket_timeout_seconds,
    }


def _described(client: Any, video_id: str, source: SourceSettings) -> dict[str, Any]:
    address = source.address(video_id)
    if not source.is_youtube:
        return {"id": video_id, "title": video_id, "url": address, "ext": "mp4"}
    info = client.extract_info(address, download=False)
    if not info or info.get("id") != video_id or "url" not in info:
        raise VideoError(video_id, failed("unknown", f"asked for {video_id}, got {(info or {}).get('id')!r}"))
    if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise VideoError(video_id, failed("not_yet_live", str(info["live_status"])))
    return dict(info)


class _Notes:
    """Stands where yt-dlp expects a logger; keeps warnings, which often hold the cause, and prints nothing."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        """Progress and chatter: not kept."""

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def error(self, message: str) -> None:
        """Every error is raised as well, since `ignoreerrors` is off."""

    def text(self) -> str:
        return detail(" | ".join(dict.fromkeys(self.warnings)))


class _Transfer:
    """One media transfer. A part left by an earlier attempt is continued only if the server names the same version."""

    def __init__(self, partial: Path, urlopen: Callable[[Any], Any], *, address_expires: bool) -> None:
        self.address_expires = address_expires
        # A media address handed out for a few hours answers 404 when it is stale; that says nothing about the video.
        self._part = partial / "media.part"
        self._version_file = partial / "version"
        self._urlopen = urlopen
        self._expected = ""
        self._responses: list[Any] = []
        self.declared_bytes = 0

    def close(self) -> None:
        """Close what yt-dlp leaves open: answers it gave up on would hold their sockets until they are collected."""
        for response in self._responses:
            response.close()

    def condition(self) -> dict[str, str]:
        """The request header that makes a server send the whole file when it is no longer the version we began."""
        if self._part.exists() and self._version_file.exists():
            self._expected = self._version_file.read_text()
            return {"If-Range": self._expected}
        self._part.unlink(missing_ok=True)
        return {}

    def urlopen(self, request: Any) -> Any:
        """Ask as yt-dlp asks, and note the version. Raises TransportError if a continuation is of another version."""
        try:
            response = self._urlopen(request)
        except HTTPError as error:
            self._responses.append(error.response)
            raise
        self._responses.append(response)
        self.declared_bytes = int(response.headers.get("Content-Length") or 0)
        tag = response.headers.get("ETag") or ""
        # A weak tag names things that look alike, not equal bytes.
        version = response.headers.get("Last-Modified") or "" if tag.startswith("W/") or not tag else tag
        if response.status == http.client.PARTIAL_CONTENT and self._expected and version != self._expected:
            self._version_file.unlink(missing_ok=True)
            raise TransportError(f"the file was {self._expected} and is now {version or 'without a version'}")
        if version:
            self._version_file.write_text(version)
        else:
            self._version_file.unlink(missing_ok=True)
        return response


@contextlib.contextmanager
def _in_our_words(video_id: str, notes: _Notes, target: Path, transfer: _Transfer | None = None) -> Iterator[None]:
    try:
        yield
    except _FOREIGN_ERRORS as error:
        fault = local_fault(error)
        if fault is not None:
            raise disk_fault(fault, target, transfer.declared_bytes if transfer else 0) from error
        reason = reason_of(error)
        if reason == "not_found" and transfer is not None and transfer.address_expires:
            reason = "forbidden"
        text = detail(str(error) or repr(error))
        if reason in ("unknown", "no_format") and notes.warnings:
            text = f"{text} | {notes.text()}"
        raise VideoError(video_id, failed(reason, text)) from error
