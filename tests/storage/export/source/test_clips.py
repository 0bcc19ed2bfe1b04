"""Clip means against a second implementation in plain Python, and the peers' number of clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.base.records import Array
from storage.export.source.clips import clip_count, clip_means, clip_rows


@pytest.mark.parametrize(
    ("seconds", "clips"),
    [(149.9, 75), (150.0, 75), (150.00000000000003, 75), (150.1, 76), (0.4, 1), (126.0, 63)],
)
def test_a_video_has_as_many_clips_as_the_peers_count(seconds: float, clips: int) -> None:
    """QVHighlights' videos of about 150 s: lighthouse counts `math.ceil(duration / clip_len)`."""
    assert clip_count(seconds, 2.0) == clips


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_is_above_zero_and_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="above 0 and finite"):
        clip_count(bad, 2.0)
    with pytest.raises(ValueError, match="above 0 and finite"):
        clip_count(2.0, bad)


def slow_means(spans: NDArray[np.float64], values: Array, count: int, seconds: float) -> Array:
    """Every clip against every row, in Python floats."""
    means = []
    for clip in range(count):
        start, end = clip * seconds, (clip + 1) * seconds
        overlaps = [min(b, end) - max(a, start) for a, b in spans]
        used = [row for row in range(len(spans)) if overlaps[row] > 1e-6]
        if not used:
            gaps = [max(a - end, start - b, 0) for a, b in spans]
            used = [min(range(len(spans)), key=lambda row: (gaps[row], spans[row][0]))]
            overlaps = [1.0] * len(spans)
        total = sum(overlaps[row] for row in used)
        means.append(
            [
                math.fsum(overlaps[row] * float(values[row, column]) for row in used) / total
                for column in range(values.shape[1])
            ]
        )
    return np.array(means)


@pytest.mark.parametrize("seed", range(12))
def test_means_equal_those_of_a_second_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 20, 15)  # in no order, with gaps and overlaps
    spans = np.stack([starts, starts + rng.uniform(0.01, 4, 15)], axis=1)
    values = rng.normal(size=(15, 3))
    seconds = float(rng.choice([0.5, 2.0, 3.3]))
    clips = clip_rows(spans, 23.0, seconds)
    expected = slow_means(spans, values, len(clips.rows), seconds)
    np.testing.assert_allclose(clip_means(values, clips), expected, rtol=1e-12, atol=1e-15)


def test_a_row_alone_in_its_clip_is_copied_bit_for_bit() -> None:
    """Also where the ends of clips and rows differ by the rounding of a time."""
    count = 40
    starts = np.cumsum(np.full(count, 0.1)) - 0.1  # drifts away from i * 0.1
    spans = np.stack([starts, starts + 0.1], axis=1)
    bits = np.arange(count * 2, dtype=np.uint32).reshape(count, 2) * 50_000_017
    values = bits.view(np.float32)  # NaN with payloads among them
    clips = clip_rows(spans, 4.0, 0.1)
    assert clips.filled == 0
    assert clip_means(values, clips).tobytes() == values.tobytes()


def test_a_clip_without_a_row_is_a_copy_of_the_nearest_the_earlier_of_two() -> None:
    spans = np.array([[0.0, 1.0], [7.0, 8.0]])
    clips = clip_rows(spans, 12.0, 1.0)
    means = clip_means(np.array([[1.0], [2.0]], np.float16), clips)
    assert means[:, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    assert clips.filled == 10
    equally_near = clip_rows(np.array([[6.0, 7.0], [0.0, 1.0]]), 7.0, 1.0)
    assert clip_means(np.array([[2.0], [1.0]]), equally_near)[3, 0] == 1.0


def test_a_mean_keeps_the_type_and_flattens_the_row() -> None:
    spans = np.array([[0.0, 1.0], [1.0, 2.0]])
    values = np.arange(12, dtype=np.float16).reshape(2, 3, 2)
    means = clip_means(values, clip_rows(spans, 2.0, 2.0))
    assert (means.dtype.name, means.shape) == ("float16", (1, 6))
    assert means[0].tolist() == [3, 4, 5, 6, 7, 8]
