"""One catalog and its variants, opened once and again whenever a build has changed them.

Requests come from several threads, and readers of a store keep open files: `lock` is held while
rows are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from storage.base.errors import HighlightsError, LookupFailed
from storage.base.paths import Layout
from storage.base.records import STREAM_CLOCK, Annotation
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.store import FeatureStore, VariantReader

UNREADABLE = (HighlightsError, OSError, ValueError, KeyError, TypeError)
"""What reading a damaged part of a store may raise: it becomes a message on the page."""
SHARE_OF_REST = 20
"""A store that took one second to open is not opened again within so many."""
Stamp = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class OpenVariant:
    """One variant that could be opened."""

    reader: VariantReader
    statuses: Mapping[str, VideoStatus]
    weights: str
    """As its settings name them; empty for an extractor without weights."""
    notes: tuple[str, ...]
    """Why its rows are not a result, or what is uncertain about their times."""


@dataclass(frozen=True)
class Snapshot:
    """The store as it was at one moment."""

    layout: Layout
    catalog: Catalog
    variants: Mapping[str, OpenVariant]
    """Full name → the variant."""
    problems: tuple[str, ...]
    """What could not be opened, in sentences."""

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of the catalog."""
        return frozenset(video.video_id for video in self.catalog.videos)

    @cached_property
    def claimed_durations(self) -> Mapping[str, float | None]:
        """Video id → its duration in seconds as the catalog states it."""
        return {video.video_id: video.claimed_duration_seconds for video in self.catalog.videos}

    @cached_property
    def annotations(self) -> Mapping[str, list[Annotation]]:
        """Video id → its annotations, for the videos that have any."""
        videos: dict[str, list[Annotation]] = {}
        for row in self.catalog.annotations:
            videos.setdefault(row.video_id, []).append(row)
        return videos

    def title(self, video_id: str) -> str:
        """What people call the video; empty if the catalog does not say."""
        return self.catalog.metadata_by_video.get(video_id, {}).get("title", "")

    def readers_of(self, video_id: str) -> dict[str, OpenVariant]:
        """The variants in which the video is done."""
        return {name: one for name, one in self.variants.items() if video_id in one.reader}


class OpenedStore:
    """The catalog in `folder` (`ROOT/<catalog>`), opened anew after a change."""

    def __init__(self, folder: Path) -> None:
        """Raises LookupFailed unless the folder holds a catalog."""
        folder = folder.absolute()
        self.layout = Layout(folder.parent, folder.name)
        self.lock = threading.RLock()
        self._stamp: Stamp = ()
        self._next_look = 0.0
        self._snapshot: Snapshot | None = None
        if not self.layout.catalog_file.is_file():
            raise LookupFailed(f"no catalog in {folder}; give ROOT/<catalog>, such as data/sample")

    def snapshot(self) -> Snapshot:
        """The store as it is now, or was a moment ago.

        Raises IntegrityError if its catalog is damaged.
        """
        with self.lock:
            if self._snapshot is None or time.monotonic() >= self._next_look:
                self._snapshot = self._reopened(self._snapshot)
            return self._snapshot

    def _reopened(self, known: Snapshot | None) -> Snapshot:
        """`known` if nothing has changed since."""
        stamp = self._current_stamp()
        if known is not None and stamp == self._stamp:
            return known
        started = time.monotonic()
        opened = _open(self.layout)
        self._stamp = stamp
        # A build commits every few seconds, and opening a large store takes some.
        ended = time.monotonic()
        self._next_look = ended + SHARE_OF_REST * (ended - started)
        return opened

    def _current_stamp(self) -> Stamp:
        """Times of change. A manifest is replaced by renaming, which changes its folder's time."""
        paths = [self.layout.catalog_file]
        if self.layout.features.is_dir():
            paths += [self.layout.features, *sorted(self.layout.features.iterdir())]
        return tuple((str(path), path.stat().st_mtime_ns) for path in paths)


def _open(layout: Layout) -> Snapshot:
    catalog = read_catalog(layout.folder)
    store = FeatureStore(layout.folder)
    variants: dict[str, OpenVariant] = {}
    problems: list[str] = []
    for name in store.variants():
        try:
            variants[name] = _open_variant(store[name])
        except UNREADABLE as error:
            problems.append(f"{name} cannot be opened. {error}")
    return Snapshot(layout, catalog, variants, tuple(problems))


def _open_variant(reader: VariantReader) -> OpenVariant:
    weights = str(reader.settings.get("weights") or "")
    notes = []
    if weights.startswith("random:"):
        notes.append(f"random weights ({weights}): no result about real videos")
    elif weights.startswith("planted:"):
        notes.append(f"planted rows ({weights}): no result about real videos")
    if STREAM_CLOCK in reader.time_origins:
        notes.append("times count from the stream's own clock, which may differ from the player's")
    return OpenVariant(reader, reader.statuses, weights, tuple(notes))
