"""Where videos come from: the settings of a source, and the address of one id.

Opens nothing but the cookie file, and asks whether a folder exists; `pipeline.download.fetch` deals
with what a source answers.
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.download.access.cookies import cookie_faults, cookie_values
from storage.base.records import SOURCE_NAME

FOLDER = "folder"
"""What records call any folder."""
YOUTUBE = "https://www.youtube.com/watch?v={id}"

LONGEST_SILENCE_SECONDS = 86400.0
_YOUTUBE_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"})
_PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True)
class RequestPace:
    """How often everybody behind one egress may ask, and how long to keep still when a site says
    stop.
    """

    videos_per_hour: float
    """0 sets no limit."""
    first_pause_seconds: float
    """The first pause, where the site does not say how long; it doubles while the site still says
    stop.
    """
    longest_pause_seconds: float = 6 * 3600.0
    max_paused_seconds: float = 48 * 3600.0
    """A run that has paused so long in all stops, to be run again later."""


YOUTUBE_PACE = RequestPace(videos_per_hour=250, first_pause_seconds=3600)
"""YouTube cuts a session off at about 300 videos an hour, and then for up to an hour."""
MIRROR_PACE = RequestPace(videos_per_hour=0, first_pause_seconds=60)


@dataclass(frozen=True)
class SourceSettings:
    """Where videos come from: an http(s) address with `{id}` in it, or a folder of files named
    `<id>.<suffix>`.
    """

    template: str = field(default=YOUTUBE, repr=False)
    max_height: int = 360
    """The shorter side to aim for, in pixels; where a site has nothing that small, its smallest is
    taken.
    """
    attempts: int = 3
    """How often one call asks when the network or the server fails."""
    socket_timeout_seconds: float = 20.0
    backoff_seconds: float = 2.0
    """The pause before the second attempt; it doubles before each further one."""
    proxy: str = field(default="", repr=False)
    """Address of a proxy, possibly with a password; empty means none. Proxies of the environment
    are ignored.
    """
    cookies_file: str = field(default="", repr=False)
    """A Netscape cookie file that only its owner may read. It is read once and never written."""
    max_bytes: int = 4_000_000_000
    """A larger file is refused, whether the server declares its size or not."""
    min_bytes_per_second: float = 2000.0
    """A transfer that stays below this for `socket_timeout_seconds` counts as dead."""
    transfer_seconds: float = 6 * 3600.0
    """A transfer that takes longer is given up; the next attempt continues it."""
    asked_pace: RequestPace | None = None
    """None: the site's own, see `pace`."""

    @property
    def folder(self) -> Path | None:
        """The folder that is searched; None when the source is a site."""
        return None if "://" in self.template else Path(self.template)

    @property
    def is_youtube(self) -> bool:
        """Whether yt-dlp's YouTube module is needed; any other site answers with the file
        itself.
        """
        return urllib.parse.urlsplit(self.template).hostname in _YOUTUBE_HOSTS

    @property
    def name(self) -> str:
        """What records call this source: its template with `...` for keys in its query; `folder`
        for any folder.
        """
        if self.folder is not None:
            return FOLDER
        parts = urllib.parse.urlsplit(self.template)
        pairs = [pair.partition("=") for pair in parts.query.split("&")]
        kept = "&".join(
            f"{key}{sign}{value if '{id}' in value or not value else '...'}"
            for key, sign, value in pairs
        )
        return urllib.parse.urlunsplit((*parts[:3], kept, ""))

    @property
    def pace(self) -> RequestPace:
        """What was asked for, else what the site is known to bear."""
        return self.asked_pace or (YOUTUBE_PACE if self.is_youtube else MIRROR_PACE)

    @property
    def egress_key(self) -> str:
        """Twelve hex digits for this site as seen from this proxy with these cookies; no password
        goes into them.
        """
        proxy = urllib.parse.urlsplit(self.proxy)
        way_out = (proxy.scheme, proxy.username or "", proxy.hostname or "", str(proxy.port or ""))
        site = "youtube" if self.is_youtube else urllib.parse.urlsplit(self.template).netloc
        return hashlib.sha256("\0".join((*way_out, self.cookies_file, site)).encode()).hexdigest()[
            :12
        ]

    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be printed or kept, longest first."""
        parts = urllib.parse.urlsplit(self.proxy)
        written = [self.proxy, parts.password or ""]
        spelled = [urllib.parse.unquote(text) for text in written]
        return tuple(
            sorted(
                {*written, *spelled, *cookie_values(self.cookies_file)} - {""},
                key=len,
                reverse=True,
            )
        )

    def address(self, name: str) -> str:
        """Where the video is asked for that the site knows by this name. Raises ValueError for what
        can be none.
        """
        if not SOURCE_NAME.fullmatch(name):
            raise ValueError(
                f"a video is asked for as 1 to 64 of A-Z a-z 0-9 _ - and blanks, got {name!r}"
            )
        return self.template.replace("{id}", urllib.parse.quote(name, safe=""))

    def faults(self) -> tuple[str, ...]:
        """Everything wrong with these settings, one sentence each; empty when they can be used."""
        limits = (
            ("max_height", 1),
            ("attempts", 1),
            ("socket_timeout_seconds", 0.1),
            ("backoff_seconds", 0),
            ("max_bytes", 1),
            ("min_bytes_per_second", 0),
            ("transfer_seconds", 1),
        )
        small = [
            f"source {name} is {getattr(self, name)}; it must be at least {least}."
            for name, least in limits
            if not getattr(self, name) >= least
        ]
        if (
            self.socket_timeout_seconds > LONGEST_SILENCE_SECONDS
        ):  # sockets take no more than some 24 days
            most = f"{LONGEST_SILENCE_SECONDS:,.0f}, a day"
            small.append(
                f"source socket_timeout_seconds is {self.socket_timeout_seconds}; it must be at most {most}."
            )
        cookies = cookie_faults(self.cookies_file) if self.cookies_file else ()
        return (*self._template_faults(), *small, *self._proxy_faults(), *cookies)

    def _proxy_faults(self) -> Iterator[str]:
        # A proxy may hold a password, so no sentence here repeats it.
        try:
            parts = urllib.parse.urlsplit(self.proxy)
            usable = (
                parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port is not None
            )
        except ValueError:
            usable = False
        if self.proxy and not usable:
            schemes = ", ".join(_PROXY_SCHEMES)
            yield f"source proxy must name a host and a port, as in http://host:3128; schemes are {schemes}."

    def _template_faults(self) -> Iterator[str]:
        if self.folder is not None:
            if self.folder.is_file():
                yield f"source {self.template!r} is a file; name the folder that the videos lie in."
            elif not self.folder.is_dir():
                yield f"source folder {self.template!r} does not exist; make it, or give an address such as {YOUTUBE}."
            return
        try:
            parts = urllib.parse.urlsplit(self.template)
            if parts.port == 0 or re.search(r"[\s\x00-\x1f]", self.template):
                raise ValueError("port 0, blanks and control characters cannot be asked")
        except ValueError as error:
            yield f"source template {self.template!r} is no address ({error})."
            return
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"source template {self.template!r} must begin with http:// or https:// and name a host."
        if "{id}" not in parts.path + parts.query:
            yield f"source template {self.template!r} needs {{id}} in its path or query, as in {YOUTUBE}."
        if parts.username is not None or "{id}" in parts.netloc:
            yield "source template may hold no user name, password or {id} before its path; it is written into records."
