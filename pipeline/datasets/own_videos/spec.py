"""The dataset of a user's own videos, made from settings and not from a published file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from pipeline.datasets.own_videos.entries import Playlist, list_content
from pipeline.datasets.own_videos.reader import ROLE, read_own_videos
from pipeline.datasets.own_videos.rows import TABLE_SUFFIXES
from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.datasets.registry import DatasetSpec, SourceFile
from storage.catalog.catalog import Catalog


def own_dataset(
    settings: OwnVideosSettings, earlier: Callable[[], Catalog | None], playlist: Playlist
) -> DatasetSpec:
    """How a catalog is made from these settings; `earlier` reads the one that is there already."""
    suffix = Path(settings.path).suffix.lower()
    kept = f"videos{suffix}" if suffix in TABLE_SUFFIXES else "videos.txt"
    file = SourceFile("path", kept, read=list_content, description="What the catalog is made from.")
    return DatasetSpec(
        description="videos of your own",
        citation="none",
        url="",
        files={ROLE: file},
        read=functools.partial(
            read_own_videos, settings=settings, earlier=earlier, playlist=playlist
        ),
        options={
            "columns": list(settings.columns),
            "playlists": settings.playlists,
            "allow_private": settings.allow_private,
        },
        is_own=True,
    )
