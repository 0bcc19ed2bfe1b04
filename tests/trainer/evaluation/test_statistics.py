"""Estimates: intervals that cover, means that are what they say, and no average over different
users.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from trainer.evaluation.statistics import (
    Evaluation,
    confidence_intervals,
    mean_over_runs,
    paired_difference,
    paired_gain,
)


def evaluation(
    values: NDArray[np.float64], ids: tuple[str, ...] = (), groups: Mapping[str, str] = {}
) -> Evaluation:
    names = ids or tuple(f"u{number:04d}" for number in range(len(values)))
    return Evaluation("toy/1", names, {"ap": values}, {"zed": "empty_truth"}, groups)


def test_an_estimate_says_all_that_it_takes_to_compare_it() -> None:
    dice = np.random.default_rng(0)
    runs = [evaluation(dice.random(200)) for _ in range(5)]
    found = confidence_intervals(runs)["ap"]
    means = [run.values["ap"].mean() for run in runs]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.seed_sd == pytest.approx(np.std(means, ddof=1))
    assert (found.n, found.n_dropped, found.seeds, found.protocol) == (200, 1, 5, "toy/1")
    listed = "".join(f"{identity}\n" for identity in runs[0].ids)
    assert found.ids_sha256 == hashlib.sha256(listed.encode()).hexdigest()
    assert str(found).endswith(f"over 5 seeds n=200 {found.ids_sha256[:8]}")
    assert confidence_intervals(runs[:1])["ap"].seed_sd is None


def test_the_interval_is_the_normal_one_where_that_is_right() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.1, 900)
    found = confidence_intervals([evaluation(values)], resamples=4000)["ap"]
    error = 1.96 * values.std() / 30
    assert found.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.1 * error)
    assert confidence_intervals([evaluation(values)]) == confidence_intervals([evaluation(values)])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    dice = np.random.default_rng(2)
    found = [
        confidence_intervals([evaluation(dice.exponential(1.0, 80))], resamples=300)["ap"]
        for _ in range(200)
    ]
    covered = np.mean([one.low <= 1.0 <= one.high for one in found])
    assert (
        0.88 <= covered <= 0.99
    )  # three standard deviations of 200 tries around 95 %, and a small sample's bias


def test_a_mean_over_groups_weighs_groups_alike() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    groups = {"a": "dog", "b": "dog", "c": "dog", "d": "surfing"}
    grouped = confidence_intervals([evaluation(values, tuple("abcd"), groups)])["ap"]
    assert (grouped.mean, grouped.low, grouped.high, grouped.n_groups) == (0.5, 0.5, 0.5, 2)
    plain = confidence_intervals([evaluation(values, tuple("abcd"))])["ap"]
    assert (plain.mean, plain.n_groups) == (0.75, 1)
    assert plain.low < 0.75 < plain.high


def test_some_ids_alone_keep_what_is_theirs() -> None:
    whole = evaluation(np.array([1.0, 2.0, 3.0]), ("a", "b", "c"), {"a": "x", "b": "x", "c": "y"})
    part = whole.only({"a", "b", "stranger"})
    assert (part.ids, [*part.values["ap"]], dict(part.groups)) == (
        ("a", "b"),
        [1.0, 2.0],
        {"a": "x", "b": "x"},
    )
    assert not part.dropped
    assert whole.only({"c", "zed"}).dropped == {"zed": "empty_truth"}
    assert confidence_intervals([part])["ap"].n_groups == 1


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    dice = np.random.default_rng(3)
    hard = dice.random(300)
    one, other = evaluation(hard + 0.02 + 0.01 * dice.normal(size=300)), evaluation(hard)
    alone = [confidence_intervals([run])["ap"] for run in (one, other)]
    assert alone[0].low < alone[1].high
    assert confidence_intervals([paired_difference(one, other)])["ap"].low > 0.015


def test_a_gain_is_of_each_seed_over_the_others_mean() -> None:
    dice = np.random.default_rng(4)
    hard = dice.random(300)
    others = [evaluation(hard + 0.1 * dice.normal(size=300)) for _ in range(20)]
    base = np.mean([other.values["ap"] for other in others], axis=0)
    np.testing.assert_allclose(mean_over_runs(others).values["ap"], base)
    found = paired_gain([evaluation(base + 0.02), evaluation(base + 0.04)], others)["ap"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.03, 0.03, 0.03))
    assert found.seeds == 2
    assert found.seed_sd == pytest.approx(0.02 / np.sqrt(2))


def test_different_users_are_never_averaged() -> None:
    one, other = evaluation(np.zeros(2), ("a", "b")), evaluation(np.zeros(2), ("a", "c"))
    with pytest.raises(ValueError, match="is not averaged with"):
        confidence_intervals([one, other])
    with pytest.raises(ValueError, match="is not averaged with"):
        paired_difference(one, other)
    with pytest.raises(ValueError, match="no run was given"):
        confidence_intervals([])
    with pytest.raises(SettingsError, match="no user or video can be measured"):
        confidence_intervals([evaluation(np.zeros(0))])


@pytest.mark.parametrize("values", [np.zeros(3), np.array([0.0, np.nan])])
def test_an_evaluation_is_whole(values: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="finite values"):
        Evaluation("toy/1", ("a", "b"), {"ap": values})
    with pytest.raises(ValueError, match="ids must ascend"):
        Evaluation("toy/1", ("b", "a"), {})
    with pytest.raises(ValueError, match="has a value or is dropped, not both"):
        Evaluation("toy/1", ("a",), {}, {"a": "no_scores"})
