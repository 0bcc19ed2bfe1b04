"""Tables of frame times and the windows they must give; the arithmetic stands beside each row."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.extractors.base.sampling import (
    ConsecutiveFrames,
    EveryFrame,
    FramesAtRate,
    FramesAtRateWithHistory,
    Sampling,
)
from pipeline.sampling.multi_planner import FrameDue, MultiPlanner, WindowDue
from pipeline.sampling.planner import BadTimestamps, Window
from pipeline.sampling.planners import make_planner, plan_windows

TENTHS = [i / 10 for i in range(7)]  # 0.0 ... 0.6 at 10 fps, ends at 0.7


def spans(windows: list[Window]) -> list[tuple[tuple[int, ...], float, float]]:
    return [(window.frame_indices, window.start_seconds, window.end_seconds) for window in windows]


@pytest.mark.parametrize(
    ("length", "stride", "expected"),
    [
        # starts 0, 3; a start at 6 would need frames 6..8, of which only 6 exists
        (3, 3, [((0, 1, 2), 0.0, 0.3), ((3, 4, 5), 0.3, 0.6)]),
        # overlapping: starts 0, 2, 4; the last one ends with the video
        (3, 2, [((0, 1, 2), 0.0, 0.3), ((2, 3, 4), 0.2, 0.5), ((4, 5, 6), 0.4, 0.7)]),
        # with gaps: starts 0, 5; frames 2..4 are in no window
        (2, 5, [((0, 1), 0.0, 0.2), ((5, 6), 0.5, 0.7)]),
        # one frame, every third: starts 0, 3, 6
        (1, 3, [((0,), 0.0, 0.1), ((3,), 0.3, 0.4), ((6,), 0.6, 0.7)]),
        # exactly the video
        (7, 1, [((0, 1, 2, 3, 4, 5, 6), 0.0, 0.7)]),
        # longer than the video: no row
        (8, 1, []),
    ],
)
def test_consecutive_windows_cover_first_pts_to_end_of_last_frame(
    length: int, stride: int, expected: list[tuple[tuple[int, ...], float, float]]
) -> None:
    assert spans(plan_windows(TENTHS, 0.7, ConsecutiveFrames(length, stride))) == expected


@pytest.mark.parametrize(
    ("pts", "end", "rate", "expected"),
    [
        # instants 0, 0.3, 0.6: exactly on frames 0, 3, 6
        (TENTHS, 0.7, 1 / 0.3, [0, 3, 6]),
        # instants 0, 0.25, 0.5: the frame shown at 0.25 is the one from 0.2
        (TENTHS, 0.7, 4, [0, 2, 5]),
        # twice the video's own rate: every frame, once
        (TENTHS, 0.7, 20, [0, 1, 2, 3, 4, 5, 6]),
        # below one a video
        (TENTHS, 0.7, 0.001, [0]),
        # variable rate; instants 5, 6, 7, 8: frame 1 is shown from 5.4 to 7.5, for the instants 6
        # and 7, and is one row
        ([5.0, 5.4, 7.5], 8.1, 1, [0, 1, 2]),
        # the same, but it ends at 8: the instant 8 is outside [7.5, 8.0), and nothing else wants
        # frame 2
        ([5.0, 5.4, 7.5], 8.0, 1, [0, 1]),
        # no whole second is shown between 1.2 and 1.9
        ([0.0, 1.2, 1.5, 1.9], 2.5, 1, [0, 3]),
        # starts below zero; instants -0.5, 0.5
        ([-0.5, 0.0, 0.5], 1.0, 1, [0, 2]),
        ([3.0], 3.04, 1, [0]),
        ([], 0.0, 1, []),
    ],
)
def test_rate_takes_the_frame_shown_at_each_instant(
    pts: list[float], end: float, rate: float, expected: list[int]
) -> None:
    windows = plan_windows(pts, end, FramesAtRate(rate))
    ends = [*pts[1:], end]
    assert spans(windows) == [((i,), pts[i], ends[i]) for i in expected]


@pytest.mark.parametrize(("rate_num", "rate_den"), [(1, 3), (1, 10), (3, 1), (2, 7), (30, 7)])
@pytest.mark.parametrize("first", [0, 3, 1_080_007])  # 1,080,007 / 30 is ten hours and a bit
def test_instants_that_fall_on_frames_hit_them_for_a_hundred_instants(
    rate_num: int, rate_den: int, first: int
) -> None:
    step = 30 * rate_den // rate_num if 30 * rate_den % rate_num == 0 else 0
    assert step, "the table has only rates whose instants fall on frames at 30 fps"
    pts = [(first + i) / 30 for i in range(100 * step)]
    windows = plan_windows(pts, (first + len(pts)) / 30, FramesAtRate(rate_num / rate_den))
    assert [window.frame_indices[0] for window in windows] == list(range(0, 100 * step, step))


@pytest.mark.parametrize(("late_seconds", "shown"), [(0.5e-9, 1), (2e-9, 0), (-2e-9, 1)])
def test_a_nanosecond_is_the_slack(late_seconds: float, shown: int) -> None:
    # Rate 1, frames at 0 and at 1 + late: which of them is shown at the instant 1? Frame 0 is a row
    # anyway.
    windows = plan_windows([0.0, 1.0 + late_seconds], 1.5, FramesAtRate(1))
    assert [window.frame_indices[0] for window in windows] == ([0, 1] if shown else [0])


def test_a_long_gap_costs_no_loop_over_its_instants() -> None:
    # A thousand million instants lie in the gap; the last frame is shown at one of them.
    assert len(plan_windows([0.0, 1e6], 1e6 + 1, FramesAtRate(1000.0))) == 2


def test_every_frame() -> None:
    assert spans(plan_windows([0.0, 0.5, 2.0], 2.5, EveryFrame())) == [
        ((0,), 0.0, 0.5),
        ((1,), 0.5, 2.0),
        ((2,), 2.0, 2.5),
    ]


@pytest.mark.parametrize(
    ("rate", "length", "expected"),
    [
        # every frame; 0 and 1 have no two frames before them
        (10, 3, [(2, 1, 0), (3, 2, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6)]),
        # instants 0, 0.25, 0.5
        (4, 3, [(2, 1, 0), (0, 1, 2), (3, 4, 5)]),
        # 7 frames are 2·5 - 3: of the first four, frame 3 would need frames 3 to 7, of which 7 is
        # missing
        (
            10,
            5,
            [
                (4, 3, 2, 1, 0),
                (5, 4, 3, 2, 1),
                (6, 5, 4, 3, 2),
                (0, 1, 2, 3, 4),
                (1, 2, 3, 4, 5),
                (2, 3, 4, 5, 6),
            ],
        ),
        # exactly the video: its first and its last frame
        (10, 7, [(6, 5, 4, 3, 2, 1, 0), (0, 1, 2, 3, 4, 5, 6)]),
        (10, 8, []),
        (4, 1, [(0,), (2,), (5,)]),
    ],
)
def test_history_ends_with_the_frame_a_row_is_about(
    rate: float, length: int, expected: list[tuple[int, ...]]
) -> None:
    windows = plan_windows(TENTHS, 0.7, FramesAtRateWithHistory(rate, length))
    ends = [*TENTHS[1:], 0.7]
    assert spans(windows) == [(frames, TENTHS[frames[-1]], ends[frames[-1]]) for frames in expected]


@pytest.mark.parametrize(
    ("frames", "rows"),
    [
        (31, []),
        (32, [0, 31]),
        (40, [*range(9), *range(31, 40)]),  # frame 8 is the last that 31 others follow
        (61, [*range(30), *range(31, 61)]),
        (62, list(range(62))),
    ],
)
def test_which_rows_a_short_video_has(frames: int, rows: list[int]) -> None:
    windows = plan_windows(map(float, range(frames)), float(frames), FramesAtRateWithHistory(1, 32))
    assert [window.frame_indices[-1] for window in windows] == rows
    joint = MultiPlanner([FramesAtRateWithHistory(1, 32), EveryFrame()])
    for number in range(frames):
        joint.push(float(number))
    joint.finish(float(frames))
    assert joint.rows_lacking == (frames - len(rows), 0)


def test_a_row_that_waits_for_its_future_comes_before_those_behind_it() -> None:
    # L = 3, frames 1 and 2: frame 1 waits for frame 3; frame 2 has its past, and could be a row as
    # soon as it ends.
    one = make_planner(FramesAtRateWithHistory(1, 3))
    assert [[window.frame_indices for window in one.push(float(pts))] for pts in range(5)] == [
        [], [], [(2, 1, 0)], [(3, 2, 1), (0, 1, 2)], [(1, 2, 3)],
    ]  # fmt: skip
    joint = MultiPlanner([FramesAtRateWithHistory(1, 3)])
    due = [joint.push(float(pts)) for pts in range(4)][-1]
    shown = [one.window.frame_indices if isinstance(one, WindowDue) else one.index for one in due]
    assert shown == [3, (3, 2, 1), (0, 1, 2)]


@pytest.mark.parametrize(
    "sampling",
    [ConsecutiveFrames(2, 2), FramesAtRate(1), FramesAtRateWithHistory(1, 2), EveryFrame()],
)
@pytest.mark.parametrize(
    ("pts", "end", "message"),
    [
        ([0.0, 0.0], 1.0, r"frame 1 has the time 0.0 s; it must be later than 0.0 s"),
        ([0.0, 2.0, 1.0], 3.0, r"frame 2 has the time 1.0 s; it must be later than 2.0 s"),
        ([0.0, float("nan")], 1.0, r"frame 1 has the time nan s; it must be a finite number"),
        ([0.0, 1.0], 1.0, r"frame 2 has the time 1.0 s; it must be later than 1.0 s"),
    ],
)
def test_times_that_do_not_rise_are_refused(
    sampling: Sampling, pts: list[float], end: float, message: str
) -> None:
    with pytest.raises(BadTimestamps, match=message):
        plan_windows(pts, end, sampling)


def test_an_unknown_sampling_is_named() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(EveryFrame):
        pass

    with pytest.raises(
        TypeError,
        match="no planner for Odd; there are planners for ConsecutiveFrames, FramesAtRate",
    ):
        make_planner(Odd())


def test_joint_planner_sends_each_frame_once_in_order_and_windows_after_their_frames() -> None:
    joint = MultiPlanner([ConsecutiveFrames(2, 3), FramesAtRate(0.25)])
    # Frames at 0..6 s, one a second. Consecutive: (0, 1), (3, 4). Instants 0, 4: frames 0 and 4.
    due = [one for pts in range(7) for one in joint.push(float(pts))] + joint.finish(7.0)
    assert due == [
        FrameDue(0, (0, 1)),
        WindowDue(1, Window((0,), 0.0, 1.0)),
        FrameDue(1, (0,)),
        WindowDue(0, Window((0, 1), 0.0, 2.0)),
        FrameDue(3, (0,)),
        FrameDue(4, (0, 1)),
        WindowDue(0, Window((3, 4), 3.0, 5.0)),
        WindowDue(1, Window((4,), 4.0, 5.0)),
    ]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        # overlapping: (0, 1, 2) is certain once frame 3 comes, so 3 is the first frame nobody has
        # decided about
        (ConsecutiveFrames(3, 1), [0, 0, 0, 3, 4, 5]),
        # with gaps: after (0, 1) the next window starts at 4, so 2 and 3 are in none
        (ConsecutiveFrames(2, 4), [0, 0, 4, 4, 4, 4]),
        (EveryFrame(), [0, 1, 2, 3, 4, 5]),
        (FramesAtRate(0.5), [0, 1, 2, 3, 4, 5]),
        # (1, 0) with frame 1; then frame i waits until it ends, and it needs frame i - 1
        (FramesAtRateWithHistory(1, 2), [0, 2, 2, 3, 4, 5]),
        # frames 0, 4, ...: (1, 0); then an unknown frame i may be a row, with frame i - 1
        (FramesAtRateWithHistory(0.25, 2), [0, 2, 2, 2, 3, 5]),
    ],
)
def test_frames_are_let_go_as_soon_as_they_are_decided(
    sampling: Sampling, expected: list[int]
) -> None:
    one, found = make_planner(sampling), []
    for pts in range(6):
        one.push(float(pts))
        found.append(one.first_undecided_frame)
    assert found == expected


samplings = st.one_of(
    st.builds(ConsecutiveFrames, st.integers(1, 6), st.integers(1, 8)),
    st.builds(FramesAtRate, st.sampled_from([0.1, 1 / 3, 1.0, 2.5, 30.0])),
    st.builds(
        FramesAtRateWithHistory, st.sampled_from([0.1, 1 / 3, 1.0, 2.5, 30.0]), st.integers(1, 6)
    ),
    st.just(EveryFrame()),
)


@given(
    chosen=st.lists(samplings, min_size=1, max_size=4),
    gaps=st.lists(st.integers(1, 50), min_size=0, max_size=40),
)
def test_joint_planner_equals_the_plans_one_by_one(chosen: list[Sampling], gaps: list[int]) -> None:
    pts = [sum(gaps[:i]) / 10 for i in range(len(gaps) + 1)]
    joint = MultiPlanner(chosen)
    due, held_at_once = [], 0
    for index, time in enumerate(pts):
        due += joint.push(time)
        held_at_once = max(held_at_once, index + 1 - joint.first_undecided_frame)
    due += joint.finish(pts[-1] + 1)
    alone = [plan_windows(pts, pts[-1] + 1, sampling) for sampling in chosen]
    assert [
        [one.window for one in due if isinstance(one, WindowDue) and one.sampling == i]
        for i in range(len(chosen))
    ] == alone
    sent: list[int] = []
    for one in due:
        if isinstance(one, FrameDue):
            sent.append(one.index)
            owners = [
                i
                for i, rows in enumerate(alone)
                if any(one.index in row.frame_indices for row in rows)
            ]
            assert list(one.wanted_by) == owners
        else:
            assert set(one.window.frame_indices) <= set(sent)
    assert sent == sorted({index for rows in alone for row in rows for index in row.frame_indices})
    lengths = [getattr(one, "length_frames", getattr(one, "history_frames", 1)) for one in chosen]
    assert held_at_once <= 1 + max(lengths)
