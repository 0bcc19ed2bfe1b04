"""The account of a run's time: added up over shards, kept, drawn, and told so that shares are those
of the clock.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.extraction.timing import WHOLE_SHARD, Times, save_times
from storage.base.paths import Layout
from tasks.reporting import timing


def booked(layout: Layout, run_name: str, shard: int, wall: float) -> None:
    times = Times()
    times.add(WHOLE_SHARD, "wall", wall)
    times.add(f"v{shard}", "wait_decode", 0.25 * wall)
    times.add(f"v{shard}", "prepare:c3d", 0.25 * wall)
    times.add(f"v{shard}", "compute:c3d", 3 * wall)
    times.add(f"v{shard}", "video", 3600.0)
    save_times(layout.shard_times(run_name, shard), times)


def test_shards_of_one_run_add_up(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "sample")
    booked(layout, "mine", 0, 100.0)
    booked(layout, "mine", 1, 300.0)
    booked(layout, "other", 2, 1000.0)
    lines = timing.report_times(layout, "mine")
    assert lines[0] == "where the time went: 0:06:40 for 2 videos of 2:00:00 in 2 shards"
    assert "25% waiting for frames, 25% shrinking frames" in lines[1]
    assert "50% everything else" in lines[1]
    assert "computing (all lanes) 0:20:00" in lines[2]
    kept = json.loads(layout.run_times("mine").read_bytes())
    assert (kept["videos"], kept["shards"], kept["seconds"]["wall"]) == (2, 2, 400.0)
    assert (layout.report / timing.FILE).read_bytes().startswith(b"\x89PNG")


def test_where_several_videos_were_in_hand_at_once_the_clock_is_told_too() -> None:
    alone, abreast = (
        {"wall": 400.0, "clock": seconds, "video": 3600.0} for seconds in (401.0, 110.0)
    )
    assert (
        next(timing.format_times(alone, 2, 1))
        == "where the time went: 0:06:40 for 2 videos of 1:00:00 in 1 shards"
    )
    told = next(timing.format_times(abreast, 2, 1))
    assert (
        told
        == "where the time went: 0:06:40 of threads, 0:01:50 by the clock, for 2 videos of 1:00:00 in 1 shards"
    )


def test_a_run_that_did_nothing_tells_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "sample")
    assert timing.report_times(layout, "mine") == []
    assert not layout.report.exists()
