"""Segments of true time, against a frame-by-frame count and a fine integral."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.evaluation.time_grid import TimeGrid

quick = settings(deadline=None, max_examples=60)
durations = st.floats(0.2, 200)


@quick
@given(durations, st.lists(st.tuples(st.floats(-5, 250), st.floats(0.01, 40)), max_size=4))
def test_covered_counts_the_instants_inside(
    duration: float, marks: list[tuple[float, float]]
) -> None:
    grid = TimeGrid(duration, 5.0, 5.0)
    instants = [(number + 0.5) / 5 for number in range(2000) if (number + 0.5) / 5 < duration]
    spans = np.array([(start, start + length) for start, length in marks]).reshape(-1, 2)
    inside = [any(start <= instant < end for start, end in spans) for instant in instants]
    expected = [sum(inside[first : first + 25]) for first in range(0, len(instants), 25)]
    # Where a span's end and an instant are equal but for rounding, either count will do.
    edges = np.array([*spans.ravel(), duration])[:, None] - np.array(instants)[None]
    if np.abs(edges).min() > 1e-9:
        assert grid.covered_frames(spans).tolist() == expected
        assert grid.frames.sum() == len(instants)
        assert len(grid.spans) == len(grid.frames) == len(expected)


def test_the_last_segment_is_shorter() -> None:
    grid = TimeGrid(12.3, 5.0, 5.0)
    assert grid.spans.tolist() == [[0, 5], [5, 10], [10, 12.3]]
    assert grid.frames.tolist() == [25, 25, 11]
    assert TimeGrid(15.0, 5.0, 5.0).frames.tolist() == [25, 25, 25]
    # A sliver after the third segment holds no instant, so it is no segment that could use up one
    # of the best five.
    assert TimeGrid(15.05, 5.0, 5.0).frames.tolist() == [25, 25, 25]


@quick
@given(st.integers(0, 10**6), st.floats(6, 40))
def test_a_segment_is_the_time_weighted_mean_of_its_rows(seed: int, duration: float) -> None:
    dice = np.random.default_rng(seed)
    starts = np.sort(dice.random(30)) * duration
    spans = np.stack([starts, starts + dice.random(30) * 9 + 0.05], axis=1)
    scores = dice.random(30)
    grid = TimeGrid(duration, 5.0, 5.0)
    found = grid.mean_scores(spans, scores)
    for (start, end), score in zip(grid.spans, found, strict=True):
        shared = np.maximum(np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start), 0)
        if shared.sum() > 0:
            assert score == pytest.approx((shared * scores).sum() / shared.sum(), abs=1e-9)


def test_rows_that_are_the_segments_keep_their_scores_bit_by_bit() -> None:
    grid = TimeGrid(33.3, 5.0, 5.0)
    scores = np.random.default_rng(0).random(len(grid.spans))
    assert grid.mean_scores(grid.spans, scores).tolist() == scores.tolist()


def test_equal_rows_stay_ties() -> None:
    starts = np.arange(0, 60, 16 / 30)
    spans = np.stack([starts, starts + 16 / 30], axis=1)
    assert set(TimeGrid(60.0, 5.0, 5.0).mean_scores(spans, np.full(len(spans), 0.1))) == {0.1}


def test_a_segment_without_rows_takes_the_nearest_rows_score() -> None:
    spans = np.array([[0.0, 1.0], [11.0, 12.0]])
    assert TimeGrid(32.0, 5.0, 5.0).mean_scores(spans, np.array([3.0, 8.0])).tolist() == [
        3,
        8,
        8,
        8,
        8,
        8,
        8,
    ]
    assert (
        TimeGrid(32.0, 5.0, 5.0).mean_scores(np.array([[7.0, 8.0]]), np.array([4.0])).tolist()
        == [4] * 7
    )
    # Row middles at 0.5 and 7.5 are as far from a segment's at 4 as each other.
    assert TimeGrid(8.0, 8.0, 5.0).mean_scores(
        np.array([[0.0, 1.0], [7.0, 8.0]]), np.array([1.0, 3.0])
    ).tolist() == [2]


@pytest.mark.parametrize(
    ("duration", "segment"), [(0.0, 5.0), (float("inf"), 5.0), (10.0, 0.3), (10.0, 0.1)]
)
def test_what_is_no_grid_is_refused(duration: float, segment: float) -> None:
    with pytest.raises(ValueError, match=r"must be positive and finite|whole number of frames"):
        TimeGrid(duration, segment, 5.0)
