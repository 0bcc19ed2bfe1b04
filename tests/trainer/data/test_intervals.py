"""Interval arithmetic against counting milliseconds one by one, and what a video is cut into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.base.errors import SettingsError
from trainer.data.labels.temporal_units import read_shots, scoring_segments, training_segments
from trainer.data.sources.intervals import (
    Intervals,
    chunks,
    clamp_to_video,
    covered_seconds,
    gaps,
    split_longer,
    union,
)
from trainer.data.sources.settings import DataSettings

END = 60
SETTINGS = DataSettings(("c3d/pool5",), unit="segment", history="shots")


def seconds(*pairs: tuple[float, float]) -> Intervals:
    return np.array(pairs, float).reshape(-1, 2)


@st.composite
def whole_intervals(draw: st.DrawFn) -> Intervals:
    """Whole seconds, so that a grid of seconds has the exact answer."""
    starts = draw(st.lists(st.integers(0, END - 1), max_size=8))
    return seconds(*((start, draw(st.integers(start + 1, END))) for start in starts))


def on_grid(intervals: Intervals) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    grid = np.zeros(END, bool)
    for start, end in intervals:
        grid[int(start) : int(end)] = True
    return grid


@given(whole_intervals(), whole_intervals())
def test_union_gaps_and_coverage_are_what_counting_seconds_gives(
    marks: Intervals, spans: Intervals
) -> None:
    merged = union(marks)
    covered = on_grid(marks)
    assert (on_grid(merged) == covered).all()
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    assert (on_grid(gaps(merged, END)) == ~covered).all()
    counted = [covered[int(start) : int(end)].sum() for start, end in spans]
    np.testing.assert_allclose(covered_seconds(spans, merged), counted)


def test_chunks_end_where_the_interval_ends() -> None:
    assert chunks(0, 12, 5).tolist() == [[0, 5], [5, 10], [10, 12]]
    assert chunks(0, 10, 5).tolist() == [[0, 5], [5, 10]]
    assert chunks(0.1, 0.1 + 3 * 5.0, 5).shape == (3, 2)  # 15.1 - 0.1 is a little more than 15
    assert split_longer(seconds((0, 15), (20, 36)), 15, 5).tolist() == [
        [0, 15],
        [20, 25],
        [25, 30],
        [30, 35],
        [35, 36],
    ]
    assert clamp_to_video(seconds((-3, 2), (8, 30), (40, 50)), 10).tolist() == [[0, 2], [8, 10]]


def test_scoring_segments_are_five_seconds_and_the_last_is_shorter() -> None:
    assert scoring_segments(11.2, SETTINGS).tolist() == [[0, 5], [5, 10], [10, 11.2]]


def test_training_shots_are_gifs_and_chunks_of_the_rest() -> None:
    found = training_segments(40.0, union(seconds((3, 5), (4, 6), (20, 37))), None, SETTINGS)
    assert found.tolist() == [
        [0, 3], [3, 6], [6, 11], [11, 16], [16, 20], [20, 25], [25, 30], [30, 35], [35, 37], [37, 40],
    ]  # fmt: skip


def test_training_shots_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "shots.csv"
    table.write_text("video_id,start_seconds,end_seconds\n-x,4,30\n-x,0,4\ny,0,9\n")
    shots = read_shots(table)
    assert training_segments(29.0, seconds((1, 2)), shots["-x"], SETTINGS).tolist() == [
        [0, 4], [4, 9], [9, 14], [14, 19], [19, 24], [24, 29],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["video,start,end\n", "video_id,start_seconds,end_seconds\nx,4,4\n", "", "a,b,c\nx,1\n"]
)
def test_what_is_no_table_of_shots_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "shots.csv").write_text(text)
    with pytest.raises(SettingsError, match=r"shots\.csv"):
        read_shots(tmp_path / "shots.csv")
