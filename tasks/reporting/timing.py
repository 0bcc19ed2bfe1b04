"""Where the time of a run went: summed over its shards, saved, printed and drawn.

The sums lie in `runs/<run>/time.json`. Shards of one run may be built in parallel: their hours add
up, and can exceed the elapsed time. `pipeline.extraction.timing` measures the times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

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
from storage.base.records import JSON
from storage.files.atomic_write import publish
from tasks.execution.progress import format_clock
from trainer.plots.picture_record import TIMES_CODE, RecordedPicture

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
PARALLEL_SHARE = 0.95
"""Below this ratio of elapsed time to thread time, several threads processed videos in parallel."""
PER_VARIANT_STEPS = ("prepare", "copy", "compute")
Seconds = Mapping[str, float]
"""Step, or `step:variant` → seconds."""


def report_times(layout: Layout, run_name: str) -> list[str]:
    """Save and draw the times of a run, and return lines; none if the run did nothing."""
    paths = sorted(layout.shard_times(run_name, 0).parent.glob("shard_*.json"))
    shards = [read_times(path) for path in paths]
    if not shards:
        return []
    total = with_other(sum_times(seconds for shard in shards for seconds in shard.values()))
    videos = {video_id for shard in shards for video_id in shard} - {WHOLE_SHARD}
    record = {"run": run_name, "shards": len(shards), "videos": len(videos), "seconds": total}
    publish(layout.run_times(run_name), readable_json(record), replace=True)
    lines = list(format_times(total, len(videos), len(shards)))
    return [*lines, f"  times    {_draw(layout, total)}"]


def format_times(total: Seconds, videos: int, shards: int) -> Iterator[str]:
    """Lines for a person."""
    thread_seconds = total.get("wall", 0.0)
    elapsed = total.get("clock", 0.0)
    is_parallel = 0 < elapsed < PARALLEL_SHARE * thread_seconds
    spent = format_clock(thread_seconds)
    if is_parallel:
        spent += f" of threads, {format_clock(elapsed)} by the clock,"
    duration = format_clock(total.get("video", 0.0))
    yield f"where the time went: {spent} for {videos} videos of {duration} in {shards} shards"
    shares = [
        f"{_share(total, step, thread_seconds)} {MEANINGS[step]}" for step in VIDEO_THREAD_STEPS
    ]
    yield f"  {', '.join(shares)}"
    background = [
        f"{MEANINGS[step]} {format_clock(_sum_of(total, step))}"
        for step in BACKGROUND_STEPS
        if _sum_of(total, step)
    ]
    yield f"  at the same time: {', '.join(background)}"
    for step in PER_VARIANT_STEPS:
        yield from _variant_lines(total, step)


def _variant_lines(total: Seconds, step: str) -> Iterator[str]:
    """One line with the seconds of each variant, the longest first; none if no variant took any."""
    prefix = f"{step}:"
    of_variants = {
        name.removeprefix(prefix): seconds
        for name, seconds in total.items()
        if name.startswith(prefix)
    }
    if not of_variants:
        return
    longest_first = sorted(of_variants.items(), key=lambda item: -item[1])
    listed = [f"{name} {seconds:.1f} s" for name, seconds in longest_first]
    yield f"  {MEANINGS[step]}: {', '.join(listed)}"


def _step_of(name: str) -> str:
    return name.partition(":")[0]


def _sum_of(total: Seconds, step: str) -> float:
    return sum(seconds for name, seconds in total.items() if _step_of(name) == step)


def _share(total: Seconds, step: str, whole: float) -> str:
    return f"{_sum_of(total, step) / whole:.0%}" if whole else "0%"


def _draw(layout: Layout, total: Seconds) -> Path:
    video_threads = {MEANINGS[step]: _sum_of(total, step) for step in VIDEO_THREAD_STEPS}
    background = {
        name: seconds for name, seconds in total.items() if _step_of(name) in BACKGROUND_STEPS
    }
    bars = {"video\nthreads": video_threads, "background\nthreads": background}
    path = layout.report / FILE
    # Lists: the order of the pieces is that of their colours.
    shown: dict[str, JSON] = {
        name: [[piece, seconds] for piece, seconds in pieces.items()]
        for name, pieces in bars.items()
    }
    RecordedPicture(path, shown, TIMES_CODE).draw_if_changed(lambda: _draw_bars(bars, path))
    return path


def _draw_bars(bars: Mapping[str, Seconds], path: Path) -> None:
    from trainer.plots.time_breakdown import draw_times  # matplotlib takes a second to import

    draw_times(bars, path)
