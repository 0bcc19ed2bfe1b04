"""Collects what earlier runs of a catalog took, video by video: the sample for a forecast.

Reads the build times under `runs/`, the durations in the catalog, and one manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.extraction.timing import (
    VIDEO_THREAD_STEPS,
    WHOLE_SHARD,
    Seconds,
    read_times,
    sum_times,
)
from storage.base.errors import LookupFailed
from storage.base.paths import Layout
from storage.catalog.catalog import Catalog
from storage.features.manifest_file import read_manifest
from storage.features.store import variant_layouts

Floats = NDArray[np.float64]
BUILDING = "building"
"""A video's share of the elapsed time of its shard's build, without waits for files."""
ALWAYS = (BUILDING, "decode", "download", "media_bytes")
"""Quantities that every pilot has."""


@dataclass(frozen=True)
class Pilot:
    """Some videos of a catalog that were built, and the time and space of each."""

    runs: tuple[str, ...]
    device: str
    """The device that computed, by the manifests; empty if none was written yet."""
    requested: int
    """Videos that were requested. The arrays below have one item per decoded video."""
    claimed_seconds: Floats
    """Duration in the catalog; NaN where it states none."""
    video_seconds: Floats
    """Duration as decoded."""
    spent: Mapping[str, Floats]
    """`download`, `decode`, `compute:c3d`, `media_bytes`, `feature_bytes:c3d`, ... → per video."""

    @property
    def decoded(self) -> int:
        """Number of decoded videos."""
        return len(self.video_seconds)


def find_pilot(layout: Layout, catalog: Catalog, limit: int | None = None) -> Pilot:
    """The first `limit` videos, by id, that any run of the catalog has recorded times for.

    If several runs have times of a video, the latest counts. Raises LookupFailed, with the command
    to run, if no video was decoded.
    """
    times_files = sorted(
        layout.runs.glob("*/times/shard_*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    spent = _latest_times(times_files)
    claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}
    requested = sorted(claimed.keys() & spent.keys())[:limit]
    decoded = [video_id for video_id in requested if spent[video_id].get("video")]
    if not decoded:
        raise LookupFailed(
            f"no run of {catalog.name} has left the times of a decoded video in {layout.runs}. "
            f"Build a pilot first: `luigi --module tasks BuildFeatures --catalog {catalog.name} "
            "--shards 0`. You may stop it with Ctrl-C after some 50 videos: finished videos are "
            "kept, and so are their times."
        )

    def column(step: str) -> Floats:
        return np.array([spent[video_id].get(step, 0.0) for video_id in decoded])

    steps = set(ALWAYS).union(*(spent[video_id] for video_id in decoded)) - {"video"}
    stated = [claimed[video_id] or np.nan for video_id in decoded]
    return Pilot(
        runs=tuple(dict.fromkeys(path.parents[1].name for path in times_files)),
        device=_device(layout, times_files),
        requested=len(requested),
        claimed_seconds=np.array(stated, np.float64),
        video_seconds=column("video"),
        spent={step: column(step) for step in sorted(steps)},
    )


def _latest_times(times_files: Iterable[Path]) -> dict[str, Seconds]:
    """Video id → its times in the last file that has some."""
    spent: dict[str, Seconds] = {}
    for path in times_files:
        spent |= _video_times(read_times(path))
    return spent


def _video_times(shard_times: Mapping[str, Seconds]) -> dict[str, Seconds]:
    """The times of each video, with `building`: its share of the shard's elapsed time."""
    whole_shard = shard_times.get(WHOLE_SHARD, {})
    videos = {video_id: spent for video_id, spent in shard_times.items() if video_id != WHOLE_SHARD}
    thread_seconds = whole_shard.get("wall", 0.0)
    waited_for_files = sum_times(shard_times.values()).get("wait_download", 0.0)
    busy_seconds = max(0.0, thread_seconds - waited_for_files)
    # With several threads, the sum of their `wall` is larger than the elapsed `clock`. With one it
    # is smaller, by the start-up self-tests.
    clock_share = 1.0
    if thread_seconds:
        clock_share = min(1.0, whole_shard.get("clock", thread_seconds) / thread_seconds)
    # Commits and waits that belong to no video are spread in proportion to the videos' own times.
    own = {video_id: _own_seconds(spent) for video_id, spent in videos.items()}
    total = sum(own.values()) or 1.0
    building_seconds = busy_seconds * clock_share
    return {
        video_id: {**spent, BUILDING: building_seconds * own[video_id] / total}
        for video_id, spent in videos.items()
    }


def _own_seconds(spent: Mapping[str, float]) -> float:
    """Time that a video took of the thread that processed it, without the wait for its file."""
    total = 0.0
    for step, seconds in spent.items():
        kind = step.partition(":")[0]
        if kind in VIDEO_THREAD_STEPS and kind != "wait_download":
            total += seconds
    return total


def _device(layout: Layout, times_files: Sequence[Path]) -> str:
    """The device that the manifests of the first shard name; empty if there is none."""
    if not times_files:
        return ""
    first_shard = min(int(path.stem.partition("_")[2]) for path in times_files)
    for variant in variant_layouts(layout.folder):
        manifest = read_manifest(variant, first_shard)
        if manifest is not None:
            return str(manifest.provenance.get("device", ""))
    return ""
