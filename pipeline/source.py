"""Where videos come from: the settings of a source, and the address of one id.

Opens nothing but asks whether a folder exists; what a source answers is `pipeline.download`'s matter.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.records import VIDEO_ID

YOUTUBE = "https://www.youtube.com/watch?v={id}"

_YOUTUBE_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"})


@dataclass(frozen=True)
class SourceSettings:
    """Where videos come from: an http(s) address with `{id}` in it, or a folder of files named `<id>.<suffix>`."""

    template: str = YOUTUBE
    max_height: int = 360
    """The shorter side to aim for, in pixels; where a site has nothing that small, its smallest is taken."""
    attempts: int = 3
    """How often one call asks when the network or the server fails."""
    socket_timeout_seconds: float = 20.0
    backoff_seconds: float = 2.0
    """The pause before the second attempt; it doubles before each further one."""

    @property
    def folder(self) -> Path | None:
        """The folder that is searched; None when the source is a site."""
        return None if "://" in self.template else Path(self.template)

    @property
    def is_youtube(self) -> bool:
        """Whether yt-dlp's YouTube module is needed; any other site answers with the file itself."""
        return urllib.parse.urlsplit(self.template).hostname in _YOUTUBE_HOSTS

    @property
    def name(self) -> str:
        """What records call this source: the template, or `folder`, since a record never holds a path."""
        return self.template if self.folder is None else "folder"

    def address(self, video_id: str) -> str:
        """Where the video is asked for. Raises ValueError for anything that is no video id."""
        if not VIDEO_ID.fullmatch(video_id):
            raise ValueError(f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {video_id!r}")
        return self.template.replace("{id}", urllib.parse.quote(video_id, safe=""))

    def faults(self) -> tuple[str, ...]:
        """Everything wrong with these settings, one sentence each; empty when they can be used."""
        limits = (("max_height", 1), ("attempts", 1), ("socket_timeout_seconds", 0.1), ("backoff_seconds", 0))
        small = [
            f"source {name} is {getattr(self, name)}; it must be at least {least}."
            for name, least in limits
            if not getattr(self, name) >= least
        ]
        return (*self._template_faults(), *small)

    def _template_faults(self) -> Iterator[str]:
        if self.folder is not None:
            if not self.folder.is_dir():
                yield f"source folder {self.template!r} does not exist; make it, or give an address such as {YOUTUBE}."
            return
        try:
            parts = urllib.parse.urlsplit(self.template)
        except ValueError as error:
            yield f"source template {self.template!r} is no address ({error})."
            return
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield f"source template {self.template!r} must begin with http:// or https:// and name a host."
        if "{id}" not in parts.path + parts.query:
            yield f"source template {self.template!r} needs {{id}} in its path or query, as in {YOUTUBE}."
        if parts.username is not None or "{id}" in parts.netloc:
            yield "source template may hold no user name, password or {id} before its path; it is written into records."
