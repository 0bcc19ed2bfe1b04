"""What is left of a run, against what then was left: planted runs whose every second is known."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tasks.execution.eta import RemainingTime

Cost = Callable[[float, bool], float]
"""(seconds of film, whether it has features) → seconds of the clock."""


def errors(
    lengths: Sequence[float], cost: Cost, *, stated: bool = True, done: Sequence[bool] = ()
) -> list[float]:
    """After each video: the forecast of what is left, over what was left. The last is left out:
    nothing was.
    """
    outcomes = done or [True] * len(lengths)
    taken = [cost(length if ok else 0.0, ok) for length, ok in zip(lengths, outcomes, strict=True)]
    pace, now, found = RemainingTime(), 0.0, []
    pace.expect(
        {str(number): length if stated else None for number, length in enumerate(lengths)}, now
    )
    for number, (seconds, ok) in enumerate(zip(taken, outcomes, strict=True)):
        now += seconds
        pace.video_ended(str(number), now, done=ok)
        left = pace.left_seconds()
        assert left is not None
        found.append(left / rest if (rest := sum(taken[number + 1 :])) else 1.0)
    return found


def film(seed: int, videos: int) -> list[float]:
    """Durations as skewed as PHD2's."""
    return [random.Random(seed + number).lognormvariate(5, 1) for number in range(videos)]


def test_nothing_is_known_before_the_first() -> None:
    pace = RemainingTime()
    pace.expect({"a": 10.0}, 5.0)
    assert pace.left_seconds() is None


def test_long_videos_first_do_not_frighten() -> None:
    """A count would say ten times too much."""
    assert errors([1000.0] * 5 + [10.0] * 500, lambda seconds, _: seconds / 10)[4] == pytest.approx(
        1, rel=0.01
    )


def test_a_paced_site_is_found_out() -> None:
    """14.4 s a video whatever its length, as 250 an hour are: the seconds of film say nothing
    then.
    """
    assert errors(film(1, 300), lambda *_: 14.4)[50:250] == pytest.approx([1.0] * 200, rel=0.01)


def test_both_kinds_of_cost_are_told_apart() -> None:
    assert errors(film(2, 300), lambda seconds, _: 5 + seconds / 20)[20:250] == pytest.approx(
        [1.0] * 230, rel=0.01
    )


def test_videos_that_are_gone_cost_no_decoding() -> None:
    gone = [random.Random(number).random() > 0.3 for number in range(600)]
    found = errors(film(3, 600), lambda seconds, ok: 1 + seconds * ok / 10, done=gone)
    assert found[200:500] == pytest.approx([1.0] * 300, rel=0.15)


def test_what_no_catalog_states_is_taken_as_the_others() -> None:
    found = errors([100.0, 300.0] * 100, lambda seconds, _: seconds / 10, stated=False)
    assert found[20:180] == pytest.approx([1.0] * 160, rel=0.1)


def test_a_machine_that_slows_down_is_believed() -> None:
    """It had been ten times as fast for two shards; a shard and a half later, the old speed counts
    for a quarter.
    """
    pace, now = RemainingTime(), 0.0
    pace.expect({str(number): 100.0 for number in range(2000)}, now)
    for number in range(1050):
        now += 1.0 if number < 600 else 10.0
        pace.video_ended(str(number), now, done=True)
    left = pace.left_seconds()
    assert left is not None
    average = now / 1050 * 950
    assert average == pytest.approx(0.49 * 9500, rel=0.01)
    assert 0.65 * 9500 < left < 9500


def test_videos_of_an_earlier_run_count_at_once_and_teach_nothing() -> None:
    pace = RemainingTime()
    pace.expect({str(number): 100.0 for number in range(100)}, 0.0)
    for number in range(50):
        pace.video_ended(str(number), 0.0001, done=True)
    assert pace.left_seconds() is None
    pace.video_ended("50", 10.0, done=True)
    assert pace.left_seconds() == pytest.approx(490, rel=0.01)


def test_shards_may_end_side_by_side_and_be_planned_one_after_the_other() -> None:
    pace = RemainingTime()
    pace.expect({"a": 10.0, "b": 20.0}, 0.0)
    pace.video_ended("a", 5.0, done=True)
    pace.expect({"c": 30.0}, 5.0)
    assert pace.left_seconds() == pytest.approx(25)
    pace.video_ended("stranger", 10.0, done=True)
    assert pace.left_seconds() is not None
