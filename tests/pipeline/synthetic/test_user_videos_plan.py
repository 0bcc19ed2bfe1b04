"""The sample's tastes are really in it: a model that knows the user can beat one that does not, and
for that reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import pytest

from pipeline.synthetic.scenes import KINDS
from pipeline.synthetic.user_videos_plan import LARGE, SMALL, Clip, SamplePlan, Viewing, plan_sample

PLANS = {"small": (SMALL, 1), "large": (LARGE, 1), "another seed": (LARGE, 99)}


@pytest.fixture(scope="module", params=PLANS)
def plan(request: pytest.FixtureRequest) -> SamplePlan:
    return plan_sample(*PLANS[request.param])


def kinds_of(viewing: Viewing) -> list[str]:
    """The kind of scene around each GIF, which lies strictly inside it."""
    kinds = []
    for start, length in viewing.gifs_hundredths:
        around = [
            s.kind
            for s in viewing.clip.scenes
            if s.start * 100 < start < start + length < s.end * 100
        ]
        assert len(around) == 1
        kinds += around
    return kinds


def tastes(plan: SamplePlan) -> dict[str, set[str]]:
    liked: dict[str, set[str]] = defaultdict(set)
    for viewing in plan.viewings:
        liked[viewing.user_id].update(kinds_of(viewing))
    return liked


def by_video(plan: SamplePlan) -> dict[str, list[Viewing]]:
    viewings = defaultdict(list)
    for viewing in plan.viewings:
        viewings[viewing.clip.video_id].append(viewing)
    return viewings


def test_a_users_highlights_are_the_scenes_of_one_or_two_kinds_and_all_of_them(
    plan: SamplePlan,
) -> None:
    liked = tastes(plan)
    assert {len(kinds) for kinds in liked.values()} <= {1, 2}
    for viewing in plan.viewings:
        assert kinds_of(viewing) == [
            s.kind for s in viewing.clip.scenes if s.kind in liked[viewing.user_id]
        ]


def test_everybody_finds_something_in_a_whole_video_and_nobody_everything(plan: SamplePlan) -> None:
    for viewing in plan.viewings:
        if len(viewing.clip.scenes) > 1:
            assert 0 < len(viewing.gifs_hundredths) < len(viewing.clip.scenes)


def test_users_of_a_shared_video_disagree_about_it(plan: SamplePlan) -> None:
    shared = [viewings for viewings in by_video(plan).values() if len(viewings) > 1]
    assert len(shared) >= 10
    for viewings in shared:
        for one, other in combinations(viewings, 2):
            assert set(kinds_of(one)) != set(kinds_of(other))


def test_no_kind_is_everybodys_favourite(plan: SamplePlan) -> None:
    liked = tastes(plan)
    for kind in KINDS:
        assert sum(kind in kinds for kinds in liked.values()) <= 0.5 * len(liked)


def test_users_and_videos_never_cross_the_splits(plan: SamplePlan) -> None:
    for key in ("user_id", "video_id"):
        sides = [
            {
                viewing.user_id if key == "user_id" else viewing.clip.video_id
                for viewing in plan.viewings
                if viewing.split == split
            }
            for split in ("train", "test")
        ]
        assert all(sides)
        assert not sides[0] & sides[1]


def test_every_user_has_one_target_in_good_health_and_a_history(plan: SamplePlan) -> None:
    roles: dict[str, list[Clip]] = defaultdict(list)
    for viewing in plan.viewings:
        if viewing.is_target:
            roles[viewing.user_id].append(viewing.clip)
    assert {user: len(clips) for user, clips in roles.items()} == dict.fromkeys(tastes(plan), 1)
    assert all(
        clip.kept_share == 1 and len(clip.scenes) > 1 for clips in roles.values() for clip in clips
    )


def test_a_cut_is_always_a_change(plan: SamplePlan) -> None:
    for clip in plan.clips:
        assert all(
            one.kind != other.kind and one.end == other.start
            for one, other in pairwise(clip.scenes)
        )


def test_pairs_of_tastes_in_test_were_never_trained_on() -> None:
    plan = plan_sample(LARGE, 1)
    liked, splits = tastes(plan), {viewing.user_id: viewing.split for viewing in plan.viewings}
    pairs = {
        split: {
            frozenset(kinds)
            for user, kinds in liked.items()
            if splits[user] == split and len(kinds) == 2
        }
        for split in ("train", "test")
    }
    assert all(pairs.values())
    assert not pairs["test"] & pairs["train"]
    alone = {kind for user, kinds in liked.items() if splits[user] == "train" for kind in kinds}
    assert alone == set(KINDS), "every single kind is trained on"


def test_large_is_half_an_hour() -> None:
    plan = plan_sample(LARGE, 1)
    assert sum(clip.duration_seconds for clip in plan.clips) == pytest.approx(30 * 60, rel=0.02)
    assert (len(plan.clips), len(tastes(plan))) == (80, 80)


@pytest.mark.parametrize("seed", range(5))
def test_no_seed_makes_small_too_long(seed: int) -> None:
    # 2 groups of 5 videos of 4 scenes of at most 3.2 s, and a short one of 0.8 s: 128.8 s at worst
    assert (
        sum(clip.duration_seconds for clip in plan_sample(SMALL, seed).clips if clip.kept_share > 0)
        <= 130
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": (("validation", 2),)}, "a group is 'train' or 'test' with 2 to 6 users, got"),
        ({"groups": (("train", 1),)}, "with 2 to 6 users"),
        ({"pool": 4}, "3 users need a pool of at least 5 videos, got 4"),
        ({"scenes_per_video": 2}, "2 scenes in a video do not suit 3 users"),
    ],
)
def test_sizes_that_cannot_be_planned_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changes)
