"""Which source is asked for each video of one's own, and what a machine needs for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from luigi.configuration import get_config

from pipeline.datasets.own_videos.settings import OwnVideosSettings
from storage.base.records import Metadata, Video
from storage.catalog.catalog import Catalog
from tasks.config.own_catalogs import _listing_source
from tasks.config.settings import Settings, load_settings
from tasks.execution.video_sources import by_source

PLACES = {
    "film": "/films/film.mp4",
    "talk": "https://example.org/talk.mp4",
    "tube": "https://www.youtube.com/watch?v=16WT8mzB-bM",
    "other": "https://www.youtube.com/watch?v=26WT8mzB-bM",
}


@pytest.fixture
def settings() -> Settings:
    return replace(load_settings("sample"), is_own=True, allow_private=False)


def catalog() -> Catalog:
    return Catalog(
        name="mine",
        videos=[Video(video_id) for video_id in (*PLACES, "named")],
        users=(),
        links=(),
        annotations=(),
        shard_count=1,
        time_unit="seconds",
        metadata=[Metadata(video_id, "place", place) for video_id, place in PLACES.items()],
    )


def test_youtube_is_a_group_of_its_own_since_it_needs_more_of_a_machine(
    settings: Settings,
) -> None:
    groups = by_source(settings, catalog(), (*PLACES, "named"))
    kinds = {
        ids: (source.folder is not None, source.is_listed, source.is_youtube)
        for source, ids in groups.items()
    }
    assert kinds[frozenset({"tube", "other"})] == (False, True, True)
    assert kinds[frozenset({"talk"})] == (False, True, False)
    assert kinds[frozenset({"film"})][:2] == (True, False)
    assert len(groups) == 4
    assert not any(source.allow_private for source in groups if source.is_listed)


def test_playlists_are_listed_through_the_proxy_of_the_settings() -> None:
    config = get_config()
    config.set("download", "proxy", "http://proxy.example:3128")
    try:
        source = _listing_source(OwnVideosSettings("list.txt"))
    finally:
        config.remove_option("download", "proxy")
    assert source.proxy == "http://proxy.example:3128"
    assert not source.allow_private
