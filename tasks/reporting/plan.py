"""What a build would do: videos, hours, requests and disk, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from models.extractors.base.sampling import (
    ConsecutiveFrames,
    EveryFrame,
    FramesAtRate,
    FramesAtRateWithHistory,
    Sampling,
)
from pipeline.extraction.variant import Variant
from storage.catalog.catalog import Catalog
from tasks.config.settings import Settings
from tasks.execution.video_sources import by_source

MEDIA_GIGABYTES_PER_HOUR = 0.225
"""PHD2 at 360p: 2.3 TB for 10,212 hours."""
NATIVE_FRAMES_PER_SECOND = 30.0
"""Assumed of videos that were not decoded yet."""


@dataclass(frozen=True)
class Plan:
    """What is left to build."""

    videos: int
    shards: int
    hours: float
    """Of the videos whose duration the catalog states."""
    unknown_durations: int
    requests: int
    """Videos that are asked for at a site; 0 for a folder."""
    requests_per_hour: float
    """0: no limit."""
    feature_gigabytes: Mapping[str, float]
    """Variant → size of its rows of fixed shape, for the hours above."""

    def lines(self) -> Iterator[str]:
        """Sentences for a person."""
        unknown = (
            f" ({self.unknown_durations} of unknown duration)" if self.unknown_durations else ""
        )
        videos = f"{self.videos:,} videos in {self.shards} shards"
        yield f"plan: {videos}, {self.hours:,.1f} hours{unknown}"
        if not self.requests:
            yield "  requests: none, the videos are in a folder"
        elif self.requests_per_hour:
            hours = self.requests / self.requests_per_hour
            pace = f"at {self.requests_per_hour:g} an hour {hours:,.1f} hours"
            yield f"  requests: {self.requests:,}, {pace}"
        else:
            yield f"  requests: {self.requests:,}, without a rate limit"
        if self.requests:
            media = self.hours * MEDIA_GIGABYTES_PER_HOUR
            yield f"  media: about {media:,.1f} GB at 360p"
        for name, gigabytes in self.feature_gigabytes.items():
            yield f"  {name}: about {gigabytes:,.2f} GB of features"
        yield "nothing was started; leave out --plan to build"


def make_plan(
    settings: Settings, catalog: Catalog, unfinished: Mapping[int, frozenset[str]]
) -> Plan:
    """The plan for these unfinished videos, by shard."""
    wanted = frozenset().union(*unfinished.values())
    durations = [
        video.claimed_duration_seconds for video in catalog.videos if video.video_id in wanted
    ]
    known = [seconds for seconds in durations if seconds is not None]
    hours = sum(known) / 3600
    sources = by_source(settings, catalog, wanted)
    asked = sum(len(ids) for source, ids in sources.items() if source.folder is None)
    return Plan(
        videos=len(wanted),
        shards=len(unfinished),
        hours=hours,
        unknown_durations=len(durations) - len(known),
        requests=asked,
        requests_per_hour=settings.source.pace.videos_per_hour,
        feature_gigabytes={
            variant.full_name: hours * gigabytes_per_hour(variant) for variant in settings.variants
        },
    )


def gigabytes_per_hour(variant: Variant) -> float:
    """Size of an hour's rows, spans included; ragged arrays are not counted."""
    return rows_per_second(variant.sampling) * 3600 * variant.fixed_row_bytes / 1e9


def rows_per_second(sampling: Sampling) -> float:
    """Rows for a second of video at 30 frames a second; 0 for annotated segments."""
    if isinstance(sampling, ConsecutiveFrames):
        return NATIVE_FRAMES_PER_SECOND / sampling.stride_frames
    if isinstance(sampling, FramesAtRate | FramesAtRateWithHistory):
        return sampling.frames_per_second
    return NATIVE_FRAMES_PER_SECOND if isinstance(sampling, EveryFrame) else 0.0
