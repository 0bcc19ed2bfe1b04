"""The videos of a playlist or channel, as yt-dlp lists them. No video is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pipeline.download.access.source import SourceSettings
from storage.base.errors import SettingsError

MAX_VIDEOS = 100_000
"""Of one playlist; a longer list is a mistake of the site, or of the address."""


def playlist_reader(source: SourceSettings) -> Callable[[str], list[tuple[str, str]]]:
    """Address → address and title of each of its videos; itself if it is one video."""
    return lambda address: _videos_of(address, source)


def _videos_of(address: str, source: SourceSettings) -> list[tuple[str, str]]:
    # Here, so that lists without playlists need no yt-dlp.
    from yt_dlp.utils import YoutubeDLError

    from pipeline.download.ytdlp import listing_client

    with listing_client(source) as client:
        try:
            info = client.extract_info(address, download=False) or {}
        except (YoutubeDLError, OSError, ValueError) as error:
            raise SettingsError(
                (f"the playlist {address} cannot be listed now: {error}. Run it again later.",)
            ) from error
        found = list(_listed(info))
    if len(found) > MAX_VIDEOS:
        raise SettingsError((f"{address} lists {len(found):,} videos, above {MAX_VIDEOS:,}",))
    return found or [(address, "")]


def _listed(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in info.get("entries") or ():
        if not entry:
            continue
        if entry.get("entries"):
            yield from _listed(entry)  # a channel has a playlist for each of its tabs
            continue
        address = entry.get("webpage_url") or entry.get("url") or ""
        if "://" in address:
            yield str(address), str(entry.get("title") or "")
