"""Where each video of a catalog comes from, with a rate limiter for each site.

Videos of a published dataset all come from `[download] source`. In a catalog of one's own videos a
file is read where it lies, through a link that is named by the id, and an address is asked at its
own site.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.download.access.rate_limiter import SharedRateLimiter
from pipeline.download.access.source import SourceSettings
from pipeline.media.media_file import read_record
from storage.base.paths import Layout
from storage.base.records import PLACE
from storage.base.video_status import State
from storage.catalog.catalog import Catalog, shard_of
from tasks.config.settings import Settings
from tasks.execution import progress


class VideoSources:
    """The source and the rate limiter of each video; one limiter for each site."""

    def __init__(self, settings: Settings, catalog: Catalog, notify: Callable[[str], None]) -> None:
        """`notify` gets the messages of rate limiters."""
        self._settings = settings
        self._places = places_of(settings, catalog)
        self._notify = notify
        self._limiters: dict[str, SharedRateLimiter] = {}
        self._lock = threading.Lock()
        self._is_stopped = False

    def source(self, video_id: str) -> SourceSettings:
        """Where this video comes from."""
        return source_of(self._settings, self._places.get(video_id, ""))

    def rate_limiter(self, video_id: str) -> SharedRateLimiter:
        """The limiter of its site, which all processes of the data root share."""
        source = self.source(video_id)
        with self._lock:
            limiter = self._limiters.get(source.egress_key)
            if limiter is None:
                folder = self._settings.layout.egress(source.egress_key)
                limiter = SharedRateLimiter(folder, source.pace, notify=self._notify)
                self._limiters[source.egress_key] = limiter
                if self._is_stopped:
                    limiter.stop()
            return limiter

    def stop(self) -> None:
        """End every wait, now and later: the run ends."""
        with self._lock:
            self._is_stopped = True
            limiters = list(self._limiters.values())
        for limiter in limiters:
            limiter.stop()


def places_of(settings: Settings, catalog: Catalog) -> Mapping[str, str]:
    """Video id → its path or address; empty for a published dataset."""
    if not settings.is_own:
        return {}
    return {row.video_id: row.value for row in catalog.metadata if row.key == PLACE}


def source_of(settings: Settings, place: str) -> SourceSettings:
    """The source of a video with this place; without a place, `[download] source`."""
    source = replace(settings.source, is_one_of_many=settings.is_own)
    if "://" in place:
        return replace(source, template=place, is_listed=True, allow_private=settings.allow_private)
    if place:
        return replace(source, template=str(settings.layout.links))
    return source


def by_source(
    settings: Settings, catalog: Catalog, video_ids: Collection[str]
) -> Mapping[SourceSettings, frozenset[str]]:
    """The videos by the source that is asked for them.

    Of addresses there are two groups, YouTube and all other sites: they need different things of a
    machine. The source of a group is that of one of its videos.
    """
    places = places_of(settings, catalog)
    groups: dict[str, set[str]] = {}
    for video_id in video_ids:
        groups.setdefault(_kind_of(places.get(video_id, "")), set()).add(video_id)
    return {
        source_of(settings, places.get(min(ids), "")): frozenset(ids) for ids in groups.values()
    }


def _kind_of(place: str) -> str:
    """`youtube`, `site`, `file`, or empty for an id of `[download] source`."""
    if "://" in place:
        return "youtube" if SourceSettings(place).is_youtube else "site"
    return "file" if place else ""


def report_replaced_files(layout: Layout, catalog: Catalog) -> None:
    """Say which videos have another file now: features that are done stay those of the old one."""
    replaced = replaced_files(layout, catalog)
    if replaced:
        shown = ", ".join(replaced[:5]) + (", ..." if len(replaced) > 5 else "")
        progress.log_line(
            f"{catalog.name}: {len(replaced):,} videos have another file since their features were "
            f"made ({shown}): features that are done stay those of the old file. Give a new film "
            "another name, or build under another --catalog"
        )


def replaced_files(layout: Layout, catalog: Catalog) -> list[str]:
    """Videos whose local file has another size than the one that their features were made of."""
    replaced = []
    for row in catalog.metadata:
        is_file = row.key == PLACE and "://" not in row.value
        if not is_file or not Path(row.value).is_file():
            continue
        shard = shard_of(row.video_id, catalog.shard_count)
        record = read_record(layout.media_record(row.video_id, shard))
        if record is None or record.status.state is not State.DONE:
            continue
        if record.size_bytes != Path(row.value).stat().st_size:
            replaced.append(row.video_id)
    return replaced


def link_local_files(layout: Layout, catalog: Catalog) -> int:
    """A link for each local file of a catalog, named by its id; returns how many there are.

    A link whose file was moved is made anew.
    """
    folder = layout.links
    count = 0
    for row in catalog.metadata:
        is_file = row.key == PLACE and "://" not in row.value
        if not is_file:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        target = Path(row.value)
        link = folder / f"{row.video_id}{target.suffix}"
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        count += 1
    return count
