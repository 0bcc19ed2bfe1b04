"""Where the time of a run went: added up over its shards, kept as `runs/<run>/time.json`, told in
lines, and drawn.

Shards of one run may be built side by side: their hours add up, and are then more than the clock's.
Refuses to know how time is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.extraction.timing import (
    BACKGROUND_STEPS,
    VIDEO_THREAD_STEPS,
    WHOLE_SHARD,
    read_times,
    sum_times,
    with_other,
)
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.files.atomic_write import publish
from tasks.execution.progress import clock

MEANINGS = {
    "wait_download": "waiting for files",
    "wait_decode": "waiting for frames",
    "prepare": "shrinking frames",
    "wait_compute": "waiting for networks",
    "write": "writing",
    "other": "everything else",
    "download": "downloading",
    "decode": "decoding (CPU time of the child)",
    "copy": "copying to a GPU",
    "compute": "computing (all lanes)",
}
FILE = "time.png"
SEVERAL = 0.95
"""Where the clock's share of the leading threads' time is less, several of them led a video
each.
"""


def account(layout: Layout, run_name: str) -> list[str]:
    """Keep and draw the times of a run, and tell them; nothing where the run did nothing."""
    paths = sorted(layout.shard_times(run_name, 0).parent.glob("shard_*.json"))
    shards = [read_times(path) for path in paths]
    if not shards:
        return []
    total = with_other(sum_times(spent for shard in shards for spent in shard.values()))
    videos = {video_id for shard in shards for video_id in shard} - {WHOLE_SHARD}
    kept = {"run": run_name, "shards": len(shards), "videos": len(videos), "seconds": total}
    publish(layout.run_times(run_name), readable_json(kept), replace=True)
    lines = list(format_times(total, len(videos), len(shards)))
    return [*lines, f"  times    {_drawn(layout, total)}"]


def format_times(total: Mapping[str, float], videos: int, shards: int) -> Iterator[str]:
    """Lines for a person."""
    wall, by_clock = total.get("wall", 0.0), total.get("clock", 0.0)
    film = total.get("video", 0.0)
    abreast = (
        f" of threads, {clock(by_clock)} by the clock," if 0 < by_clock < SEVERAL * wall else ""
    )
    yield f"where the time went: {clock(wall)}{abreast} for {videos} videos of {clock(film)} in {shards} shards"
    yield "  " + ", ".join(
        f"{_share(total, what, wall)} {MEANINGS[what]}" for what in VIDEO_THREAD_STEPS
    )
    beside = [
        f"{MEANINGS[what]} {clock(_of(total, what))}"
        for what in BACKGROUND_STEPS
        if _of(total, what)
    ]
    yield f"  at the same time: {', '.join(beside)}"
    for what in ("prepare", "copy", "compute"):
        by_variant = {
            name.partition(":")[2]: s for name, s in total.items() if name.startswith(f"{what}:")
        }
        if not by_variant:
            continue
        ordered = sorted(by_variant.items(), key=lambda item: -item[1])
        yield f"  {MEANINGS[what]}: " + ", ".join(
            f"{name} {seconds:.1f} s" for name, seconds in ordered
        )


def _of(total: Mapping[str, float], what: str) -> float:
    return sum(seconds for name, seconds in total.items() if name.partition(":")[0] == what)


def _share(total: Mapping[str, float], what: str, wall: float) -> str:
    return f"{_of(total, what) / wall:.0%}" if wall else "0%"


def _drawn(layout: Layout, total: Mapping[str, float]) -> str:
    from trainer.plots.time_breakdown import draw_times  # matplotlib takes a second to import

    leading = {MEANINGS[what]: _of(total, what) for what in VIDEO_THREAD_STEPS}
    beside = {
        name: seconds
        for name, seconds in total.items()
        if name.partition(":")[0] in BACKGROUND_STEPS
    }
    return str(
        draw_times(
            {"threads that\nlead a video": leading, "beside them": beside}, layout.report / FILE
        )
    )
