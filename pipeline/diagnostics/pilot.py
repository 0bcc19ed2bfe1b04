"""What earlier runs of a catalog took, video by video: the sample that a forecast of the whole is
made from.

Reads the ledgers of times under `runs/`, the catalog's durations, and one sidecar. Refuses to
extrapolate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""Clock seconds of a shard's build that are a video's, without those spent waiting for files."""
ALWAYS = (BUILDING, "decode", "download", "media_bytes")
"""Told of every pilot."""


@dataclass(frozen=True)
class Pilot:
    """Some videos of a catalog that were built, and what each took."""

    runs: tuple[str, ...]
    device: str
    """What computed, as the sidecars say; empty if none was written yet."""
    asked: int
    """Videos that were asked for; the arrays below are about those of them that were decoded."""
    claimed_seconds: Floats
    """Duration in the catalog; NaN where it states none."""
    video_seconds: Floats
    """Duration as decoded."""
    spent: Mapping[str, Floats]
    """`download`, `decode`, `compute:c3d`, `media_bytes`, `feature_bytes:c3d`, ... → of each
    video.
    """

    @property
    def decoded(self) -> int:
        """How many."""
        return len(self.video_seconds)


def find_pilot(layout: Layout, catalog: Catalog, most: int | None = None) -> Pilot:
    """The first `most` videos, by id, that any run of the catalog has booked times for.

    Of a video in several runs the latest counts. Raises LookupFailed, saying what to run, if there
    is none.
    """
    ledgers = sorted(
        layout.runs.glob("*/times/shard_*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    spent: dict[str, Seconds] = {}
    for path in ledgers:
        spent |= _of_videos(read_times(path))
    known = sorted({video.video_id for video in catalog.videos} & spent.keys())[:most]
    if not any(spent[video_id].get("video") for video_id in known):
        raise LookupFailed(
            f"no run of {catalog.name} has left the times of a decoded video in {layout.runs}. Build a pilot first: "
            f"`luigi --module tasks BuildFeatures --catalog {catalog.name} --shards 0`. It may be broken off (Ctrl-C) "
            "when some 50 videos are through; what is done is kept, and the times too."
        )
    claimed = {video.video_id: video.claimed_duration_seconds for video in catalog.videos}
    decoded = [video_id for video_id in known if spent[video_id].get("video")]
    names = sorted(
        {what for video_id in decoded for what in spent[video_id]} - {"video"} | set(ALWAYS)
    )
    return Pilot(
        runs=tuple(dict.fromkeys(path.parents[1].name for path in ledgers)),
        device=_device(layout, ledgers),
        asked=len(known),
        claimed_seconds=np.array([claimed[video_id] or np.nan for video_id in decoded], np.float64),
        video_seconds=np.array([spent[video_id]["video"] for video_id in decoded]),
        spent={
            what: np.array([spent[video_id].get(what, 0.0) for video_id in decoded])
            for what in names
        },
    )


def _of_videos(ledger: Mapping[str, Seconds]) -> dict[str, Seconds]:
    """Video → what it took, with `building`: its share of the shard's clock."""
    of_shard = ledger.get(WHOLE_SHARD, {})
    videos = {video_id: spent for video_id, spent in ledger.items() if video_id != WHOLE_SHARD}
    total = sum_times(ledger.values())
    wall = of_shard.get("wall", 0.0)
    busy = max(0.0, wall - total.get("wait_download", 0.0))
    # Several threads may lead at once: their `wall` is then more than the clock's. One is less, by
    # the start-up proofs. Commits and waits that are nobody's are spread over the videos as their
    # own time is.
    scale = busy * (min(1.0, of_shard.get("clock", wall) / wall) if wall else 1.0)
    led = {video_id: _leading(spent) for video_id, spent in videos.items()}
    every = sum(led.values()) or 1.0
    return {
        video_id: {**spent, BUILDING: scale * led[video_id] / every}
        for video_id, spent in videos.items()
    }


def _leading(spent: Mapping[str, float]) -> float:
    return sum(
        s
        for what, s in spent.items()
        if what.partition(":")[0] in VIDEO_THREAD_STEPS and what != "wait_download"
    )


def _device(layout: Layout, ledgers: Sequence[Path]) -> str:
    shards = {int(path.stem.partition("_")[2]) for path in ledgers}
    found = (
        read_manifest(one, shard)
        for one in variant_layouts(layout.folder)
        for shard in sorted(shards)[:1]
    )
    return next((str(one.provenance.get("device", "")) for one in found if one is not None), "")
