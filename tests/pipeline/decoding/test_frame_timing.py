"""Gaps are the same in every container, and a coarse clock loses no frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.decoding.frame_timing import (
    MAX_FRAMES_PER_TIMESTAMP,
    picture_times,
    spread_equal_times,
)
from pipeline.decoding.video_reader import DecodeSummary, VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS
from tests.support.videos import ffmpeg

GAPS = {
    "two minutes": ("25", "setpts=PTS+gte(N\\,38)*120/TB", [(1.52, 121.52)]),
    "twice": ("10", "setpts=PTS+gte(N\\,10)*5/TB+gte(N\\,20)*60/TB", [(1.0, 6.0), (7.0, 67.0)]),
    "behind the first picture": ("10", "setpts=PTS+gte(N\\,1)*30/TB", [(0.1, 30.1)]),
    "pictures that stand for a second each": ("1", "null", []),
    "steps of 40 and 200 ms": ("25", "select=lt(mod(n\\,6)\\,2)", []),
}
"""Frames a second, filter, and the stretches `[start, end)` in seconds that show nothing new."""
CODECS = {
    "mp4": "libx264",
    "mkv": "libx264",
    "ts": "libx264",
    "flv": "libx264",
    "webm": "libvpx",
    "mov": "mpeg4",
    "ogv": "libtheora",
}


def decoded(path: Path) -> tuple[list[float], DecodeSummary]:
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    return [frame.pts_seconds for frame in decoding], decoding.summary()


@pytest.mark.parametrize("name", GAPS)
@pytest.mark.parametrize("container", CODECS)
def test_the_same_film_is_covered_alike_in_every_container(
    container: str, name: str, tmp_path: Path
) -> None:
    rate, change, gaps = GAPS[name]
    path = tmp_path / f"film.{container}"
    source = ("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={rate}:duration=3", "-vf", change)
    ffmpeg(*source, "-fps_mode", "passthrough", "-c:v", CODECS[container], path)
    times, summary = decoded(path)
    one_frame = 1 / int(rate)
    shown_until = times[-1] + one_frame
    assert summary.end_seconds == pytest.approx(shown_until, abs=0.2 if "200" in name else 0.002)
    uncovered = sum(end - start for start, end in gaps)
    assert summary.covered_seconds == pytest.approx(
        summary.end_seconds - uncovered, abs=one_frame + 0.002
    )
    assert len(summary.gaps_seconds) == len(gaps)
    for found, expected in zip(summary.gaps_seconds, gaps, strict=True):
        assert found == pytest.approx(expected, abs=one_frame + 0.002)


@pytest.mark.parametrize(
    ("container", "rate"),
    [("mkv", 1200), ("webm", 2400), ("flv", 1200), ("mkv", 600), ("mp4", 1200)],
)
def test_frames_that_share_a_time_stamp_are_all_there_at_sensible_times(
    container: str, rate: int, tmp_path: Path
) -> None:
    """Matroska, WebM and FLV tick in milliseconds: at 1,200 frames/s a sixth share a time."""
    path = tmp_path / f"fast.{container}"
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=64x48:rate={rate}:duration=0.2",
        "-c:v",
        CODECS[container],
        path,
    )
    times, summary = decoded(path)
    assert (len(times), summary.frames_dropped, summary.gaps_seconds) == (rate // 5, 0, ())
    assert times == sorted(set(times))
    assert max(abs(time - number / rate) for number, time in enumerate(times)) <= 0.0005 + 1e-9
    assert summary.covered_seconds == pytest.approx(0.2, abs=0.002)
    reader = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    pictures = picture_times(path, reader.probe, lambda: None, 10_000)
    assert pictures is not None
    assert pictures.times_seconds == tuple(times)


def test_equal_times_are_spread_over_one_tick_and_no_more() -> None:
    assert list(spread_equal_times([0.0, 1.0, 1.0, 2.0, 9.0, 9.0, 9.0], 1.0)) == [
        0.0, 1.0, 1.5, 2.0, 9.0, pytest.approx(9 + 1 / 3), pytest.approx(9 + 2 / 3),
    ]  # fmt: skip
    assert list(spread_equal_times([0.0, 1.0, 1.0], None)) == [0.0, 1.0, 1.0]
    crowd = list(spread_equal_times([5.0] * (MAX_FRAMES_PER_TIMESTAMP + 1), 1.0))
    assert crowd[:MAX_FRAMES_PER_TIMESTAMP] == [
        float(5 + Fraction(number, MAX_FRAMES_PER_TIMESTAMP))
        for number in range(MAX_FRAMES_PER_TIMESTAMP)
    ]
    assert (
        crowd[MAX_FRAMES_PER_TIMESTAMP] == 5.0
    )  # more than any rounding explains: not believed, and told
