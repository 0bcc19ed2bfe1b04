"""Annotation time to stream time: tables of pictures, segments and the expected positions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.extractors.base.sampling import FramesOfSegments
from pipeline.sampling.segment_alignment import (
    AlignedSegment,
    PictureTimes,
    SegmentsOfVideo,
    align_segments,
)
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "pipeline" / "goldens" / "released_spread.json"
EQUAL, RELEASED = FramesOfSegments(16, "equal"), FramesOfSegments(16, "released")
TEN = PictureTimes(tuple(i / 10 for i in range(300)), 30.0)
"""30 seconds at 10 a second."""


def asked(unit: str, *segments: tuple[float, float], **known: Any) -> SegmentsOfVideo:
    return SegmentsOfVideo(4, "equal", unit, tuple(sorted(segments)), **known)


def places(*arguments: Any) -> tuple[AlignedSegment, ...]:
    return align_segments(*arguments)[1]


def test_of_a_hundred_frames_the_paper_takes_sixteen_at_equal_intervals() -> None:
    # 100 / 16 = 6.25
    assert EQUAL.frame_indices(100) == (
        0,
        6,
        12,
        18,
        25,
        31,
        37,
        43,
        50,
        56,
        62,
        68,
        75,
        81,
        87,
        93,
    )
    assert EQUAL.frame_indices(16) == tuple(range(16))
    assert EQUAL.frame_indices(5) == (0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)
    assert EQUAL.frame_indices(1) == (0,) * 16


def test_released_spread_is_the_released_codes() -> None:
    """Golden: frames that the authors' `load_frames` read; -1 where it left memory unchanged."""
    for length, numbers in json.loads(GOLDEN.read_text())["frames_read"].items():
        frames = int(length)
        expected = tuple(frames - 1 if number == -1 else number for number in numbers)
        assert RELEASED.frame_indices(frames) == expected
    assert RELEASED.frame_indices(100) == tuple(range(0, 91, 6))


def test_seconds_are_the_streams_own() -> None:
    found = places(asked("seconds", (1.0, 2.0), (1.95, 2.05), (5.0, 5.01)), TEN)
    assert found == (
        # frames 10 to 19; floor(k * 10 / 4) = 0, 2, 5, 7
        AlignedSegment(0, 1.0, 2.0, (1.0, 1.2, 1.5, 1.7)),
        # frame 19 is on the screen when it begins, frame 20 when it ends
        AlignedSegment(1, 1.95, 2.05, (1.9, 1.9, 2.0, 2.0)),
        # shorter than a frame: the frame on the screen
        AlignedSegment(2, 5.0, 5.01, (5.0, 5.0, 5.0, 5.0)),
    )


def test_what_overruns_is_cut_and_what_is_outside_has_no_place() -> None:
    late = PictureTimes(
        tuple(2 + time for time in TEN.times_seconds), 32.0
    )  # the first picture is shown at 2 s
    account, found = align_segments(
        asked("seconds", (-5, 2), (0, 2.2), (31.9, 99), (32, 40), (40, 50)), late
    )
    assert found == (
        AlignedSegment(1, 2.0, 2.2, (2.0, 2.0, 2.1, 2.1)),
        AlignedSegment(2, 31.9, 32.0, (2 + 29.9,) * 4),
    )
    assert (account.clock, account.annotated, account.outside, account.pictures) == (
        "seconds",
        5,
        3,
        300,
    )


def test_frame_numbers_are_pictures_where_the_counts_agree() -> None:
    jumpy = PictureTimes((0.0, 0.1, 0.5, 0.6, 2.0, 2.1, 2.2, 2.3), 2.5)
    account, found = align_segments(
        asked("frames", (1, 5), (6.5, 8), frames_least=8, frames_most=8), jumpy
    )
    assert found == (
        AlignedSegment(0, 0.1, 2.1, (0.1, 0.5, 0.6, 2.0)),
        # half of frame 6, which lasts from 2.2 to 2.3, and frame 7
        AlignedSegment(1, (2.3 - 2.2) * 0.5 + 2.2, 2.5, (2.2, 2.2, 2.3, 2.3)),
    )
    assert (account.clock, account.detail) == ("numbered", "")


@pytest.mark.parametrize(
    ("known", "clock", "told"),
    [
        ({"frames_least": 300, "frames_most": 300}, "numbered", ""),
        ({"frames_least": 305, "frames_most": 305}, "numbered", ""),
        ({"frames_least": 295, "frames_most": 295}, "numbered", ""),
        ({"frames_least": 200, "frames_most": 400}, "numbered", ""),
        # the last segment ends with frame 290; nobody knows how many came behind it
        ({}, "numbered", "300 pictures, at least 290 expected; most unknown"),
        (
            {"frames_least": 250, "frames_most": 290},
            "misaligned",
            "250 to 290 expected, too vague to scale by",
        ),
        # 6 frames more of 306 are 2 %, 5 % may pass for another frame rate
        (
            {"frames_least": 306, "frames_most": 306},
            "scaled",
            "300 pictures, 306 expected, length unknown",
        ),
        (
            {"frames_least": 320, "frames_most": 320},
            "misaligned",
            "320 expected, length unknown, allowed 5%",
        ),
        # the same 30 seconds at 30 a second, by a claim in whole seconds
        (
            {"frames_least": 900, "frames_most": 900, "claimed_seconds": 31.0},
            "scaled",
            "30.000 s of 31 s claimed",
        ),
        (
            {"frames_least": 900, "frames_most": 900, "claimed_seconds": 33.0},
            "misaligned",
            "30.000 s of 33 s claimed",
        ),
        (
            {"frames_least": 306, "frames_most": 306, "claimed_seconds": 33.0},
            "misaligned",
            "of 33 s claimed",
        ),
    ],
)
def test_how_frame_numbers_are_read_follows_from_counts_and_lengths(
    known: dict[str, Any], clock: str, told: str
) -> None:
    account, found = align_segments(asked("frames", (100, 290), **known), TEN)
    assert account.clock == clock
    assert told in account.detail
    assert bool(told) == bool(account.detail)
    assert len(found) == (clock != "misaligned")


def test_scaled_numbers_are_shares_of_the_duration() -> None:
    known = {"frames_least": 900, "frames_most": 900, "claimed_seconds": 30.0}
    late = PictureTimes(tuple(2 + time for time in TEN.times_seconds), 32.0)
    (found,) = places(asked("frames", (90, 180), **known), late)
    # frames 90 to 180 of 900 in 30 seconds: 3 to 6 s after the first picture; frames 30 to 59 of
    # this file
    assert (found.start_seconds, found.end_seconds) == (5.0, 8.0)
    assert found.instants_seconds == (5.0, 2 + 3.7, 2 + 4.5, 2 + 5.2)


def test_a_cut_file_that_promised_the_right_count_keeps_its_numbers_and_is_never_scaled() -> None:
    cut = dataclasses.replace(TEN, declared=450)
    account, found = align_segments(
        asked("frames", (100, 200), (250, 350), (310, 400), frames_least=450, frames_most=450), cut
    )
    assert (account.clock, account.outside, account.pictures) == ("numbered", 1, 450)
    assert [(one.start_seconds, one.end_seconds) for one in found] == [(10.0, 20.0), (25.0, 30.0)]
    account, found = align_segments(
        asked("frames", (100, 200), frames_least=440, frames_most=440, claimed_seconds=45), cut
    )
    assert (account.clock, found) == ("misaligned", ())
    assert account.detail == "450 pictures, 440 expected, and only 300 are there"


steps = st.lists(st.floats(0.001, 2.0), min_size=1, max_size=40)
spans = st.lists(st.tuples(st.floats(-5, 60), st.floats(0.01, 30)), max_size=8)


@given(steps, spans, st.sampled_from(["equal", "released"]))
def test_every_segment_has_a_place_or_is_counted(
    gaps: list[float], marks: list[tuple[float, float]], spread: str
) -> None:
    edges = [0.0]
    for gap in gaps:
        edges.append(edges[-1] + gap)
    pictures = PictureTimes(tuple(edges[:-1]), edges[-1])
    segments = tuple(sorted({(start, start + length) for start, length in marks}))
    account, found = align_segments(SegmentsOfVideo(16, spread, "seconds", segments), pictures)
    assert account.outside + len(found) == account.annotated == len(segments)
    for one in found:
        start, end = segments[one.segment]
        assert (one.start_seconds, one.end_seconds) == (max(start, 0.0), min(end, edges[-1]))
        assert len(one.instants_seconds) == 16
        for (
            instant
        ) in one.instants_seconds:  # its picture is on the screen at some moment of the segment
            shown_until = edges[edges.index(instant) + 1]
            assert instant < end
            assert shown_until > start
