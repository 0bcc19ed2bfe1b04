"""Settings of a source of videos, and the address of one id.

Reads only the cookie file, and looks whether a folder exists; `pipeline.download.fetch` handles
what a source answers.
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
FILE_SUFFIXES = frozenset({
    ".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".ts", ".m4v", ".ogv", ".mpg", ".mpeg", ".3gp",
})  # fmt: skip
"""Of addresses that send a video itself."""
_PROXY_SCHEMES = ("http", "socks4", "socks4a", "socks5", "socks5h")


_LEAST_VALUES = (
    ("max_height", 1),
    ("attempts", 1),
    ("socket_timeout_seconds", 0.1),
    ("backoff_seconds", 0),
    ("max_bytes", 1),
    ("min_bytes_per_second", 0),
    ("transfer_seconds", 1),
)


@dataclass(frozen=True)
class RequestPace:
    """How often all processes behind one network address may ask, and how long they pause."""

    videos_per_hour: float
    """0 sets no limit."""
    first_pause_seconds: float
    """The first pause after a stop, if the site does not say how long. It doubles with each further
    stop.
    """
    longest_pause_seconds: float = 6 * 3600.0
    max_paused_seconds: float = 48 * 3600.0
    """A run that has paused so long in total ends; it can be run again later."""


YOUTUBE_PACE = RequestPace(videos_per_hour=250, first_pause_seconds=3600)
"""YouTube cuts a session off at about 300 videos an hour, and then for up to an hour."""
MIRROR_PACE = RequestPace(videos_per_hour=0, first_pause_seconds=60)


@dataclass(frozen=True)
class SourceSettings:
    """Where videos come from, and how they are asked for."""

    template: str = field(default=YOUTUBE, repr=False)
    """An http(s) address with `{id}` in it, or a folder of files named `<id>.<suffix>`."""
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
    pace_override: RequestPace | None = None
    """None: the site's own, see `pace`."""
    is_listed: bool = False
    """Whether `template` is one address of a user's list: of any site that yt-dlp knows."""
    is_one_of_many: bool = False
    """Whether the catalog has videos of other sites too. A host that cannot be reached is then the
    fault of its videos, and the others go on.
    """
    allow_private: bool = True
    """Whether this machine and private networks may be asked."""

    @property
    def folder(self) -> Path | None:
        """The folder that is searched; None if the source is a site."""
        return None if "://" in self.template else Path(self.template)

    @property
    def is_youtube(self) -> bool:
        """Whether yt-dlp's YouTube module is needed."""
        return urllib.parse.urlsplit(self.template).hostname in _YOUTUBE_HOSTS

    @property
    def sends_file(self) -> bool:
        """Whether the address is that of the file itself, so that no page has to be read."""
        if self.is_youtube:
            return False
        suffix = Path(urllib.parse.urlsplit(self.template).path).suffix.lower()
        return not self.is_listed or suffix in FILE_SUFFIXES

    @property
    def name(self) -> str:
        """What records call this source: its template, without the values of keys in its query.

        `folder` for any folder.
        """
        if self.folder is not None:
            return FOLDER
        parts = urllib.parse.urlsplit(self.template)
        pairs = [_without_value(pair) for pair in parts.query.split("&")]
        return urllib.parse.urlunsplit((*parts[:3], "&".join(pairs), ""))

    @property
    def pace(self) -> RequestPace:
        """The pace of the settings, else the site's own."""
        if self.pace_override is not None:
            return self.pace_override
        return YOUTUBE_PACE if self.is_youtube else MIRROR_PACE

    @property
    def egress_key(self) -> str:
        """Twelve hex digits for this site, as seen from this proxy with these cookies.

        Runs with equal keys share a rate limiter. No password goes into the key.
        """
        proxy = urllib.parse.urlsplit(self.proxy)
        # A proxy hides our address, so the site counts requests of each proxy separately.
        way_out = [
            proxy.scheme,
            proxy.username or "",
            proxy.hostname or "",
            str(proxy.port or ""),
        ]
        site = urllib.parse.urlsplit(self.template).netloc
        if self.is_youtube:
            # Its host names are one site.
            site = "youtube"
        text = "\0".join([*way_out, self.cookies_file, site])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be printed or stored, longest first."""
        password = urllib.parse.urlsplit(self.proxy).password or ""
        written = [self.proxy, password]
        # Messages may hold the password as it is written in the address, or decoded.
        decoded = [urllib.parse.unquote(text) for text in written]
        found = {*written, *decoded, *cookie_values(self.cookies_file)} - {""}
        # A secret may contain another one; the longer must be cut out first.
        return tuple(sorted(found, key=len, reverse=True))

    def address(self, name: str) -> str:
        """The address of a video. Raises ValueError if `name` cannot be an id."""
        if not SOURCE_NAME.fullmatch(name):
            raise ValueError(
                f"a video is asked for as 1 to 64 of A-Z a-z 0-9 _ - and blanks, got {name!r}"
            )
        # Some sites name videos with blanks.
        return self.template.replace("{id}", urllib.parse.quote(name, safe=""))

    def faults(self) -> tuple[str, ...]:
        """Everything wrong with these settings, one sentence each; empty if they can be used."""
        cookies = cookie_faults(self.cookies_file) if self.cookies_file else ()
        template = self._address_faults() if self.folder is None else self._folder_faults()
        return (*template, *self._limit_faults(), *self._proxy_faults(), *cookies)

    def _limit_faults(self) -> Iterator[str]:
        for name, least in _LEAST_VALUES:
            value = getattr(self, name)
            if not value >= least:
                yield f"source {name} is {value}; it must be at least {least}."
        # Sockets accept no more than about 24 days.
        if self.socket_timeout_seconds > LONGEST_SILENCE_SECONDS:
            yield (
                f"source socket_timeout_seconds is {self.socket_timeout_seconds}; "
                f"it must be at most {LONGEST_SILENCE_SECONDS:,.0f}, a day."
            )

    def _proxy_faults(self) -> Iterator[str]:
        # A proxy may hold a password, so no sentence here repeats it.
        if self.proxy and not _is_proxy(self.proxy):
            schemes = ", ".join(_PROXY_SCHEMES)
            yield (
                "source proxy must name a host and a port, as in http://host:3128; "
                f"schemes are {schemes}."
            )

    def _folder_faults(self) -> Iterator[str]:
        path = Path(self.template)
        if path.is_file():
            yield f"source {self.template!r} is a file; name the folder that the videos lie in."
        elif not path.is_dir():
            yield (
                f"source folder {self.template!r} does not exist; make it, "
                f"or give an address such as {YOUTUBE}."
            )

    def _address_faults(self) -> Iterator[str]:
        template = f"source template {self.template!r}"
        try:
            parts = urllib.parse.urlsplit(self.template)
            if parts.port == 0 or re.search(r"[\s\x00-\x1f]", self.template):
                raise ValueError("port 0, blanks and control characters cannot be asked")
        except ValueError as error:
            yield f"{template} is not an address ({error})."
            return
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"{template} must begin with http:// or https:// and name a host."
        if "{id}" not in parts.path + parts.query:
            yield f"{template} needs {{id}} in its path or query, as in {YOUTUBE}."
        if parts.username is not None or "{id}" in parts.netloc:
            yield (
                "source template may hold no user name, password or {id} before its path; "
                "it is written into records."
            )


def _is_proxy(address: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    is_known_scheme = parts.scheme in _PROXY_SCHEMES
    names_host_and_port = bool(parts.hostname) and port is not None
    return is_known_scheme and names_host_and_port


def _without_value(pair: str) -> str:
    """`key=...` of `key=value`: the value may be a token. `{id}` stays."""
    key, sign, value = pair.partition("=")
    is_secret = value and "{id}" not in value
    return f"{key}{sign}..." if is_secret else f"{key}{sign}{value}"
