"""Plans the user sample: who likes what, and which scenes each video shows. Nothing is drawn here.

A user's highlights are the scenes of the kinds that this user likes. Users who share a video like
different kinds, so one user's highlight is not another's. A user or video is in only one split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from pipeline.synthetic.encoder import CONSTANT_RATE, VARIABLE_RATE, FrameClock
from pipeline.synthetic.scenes import KINDS, SceneStyle, random_scene_style

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SECOND_TASTE_ODDS = 0.5
DAMAGED_SHARE = 0.6
"""How much of a damaged file is left. Its index comes first and describes the whole file."""
SHORT_SECONDS = (0.8, 0.8)
"""10 frames at 12 per second: fewer than the 16 of C3D."""
SPARE_FOR_EDGES = 2
"""Videos of a pool that are not a target of any user."""


@dataclass(frozen=True)
class SampleSize:
    """The size of a sample.

    A group is a few users who share a pool of videos; each user has another one as target.
    """

    groups: tuple[tuple[str, int], ...]
    """(split, number of users) of each group; 2 to 6 users."""
    scenes_per_video: int
    scene_seconds: tuple[float, float]
    """Shortest and longest scene."""
    width: int
    height: int
    pool: int
    """Videos of a group."""
    edge_cases: bool = False
    """Whether some files have the faults of web videos: variable frame rate, rotated, truncated,
    too short, missing.
    """

    def __post_init__(self) -> None:
        for split, n_users in self.groups:
            self._check_group(split, n_users)

    def _check_group(self, split: str, n_users: int) -> None:
        """Raise ValueError if the sample cannot have such a group."""
        if split not in ("train", "test") or not 2 <= n_users <= len(KINDS):
            allowed = f"'train' or 'test' with 2 to {len(KINDS)} users"
            raise ValueError(f"a group is {allowed}, got {(split, n_users)}")
        smallest_pool = n_users + (SPARE_FOR_EDGES if self.edge_cases else 0)
        if self.pool < smallest_pool:
            raise ValueError(
                f"{n_users} users need a pool of at least {smallest_pool} videos, got {self.pool}"
            )
        # Every video shows the main kind of each user, and at least three scenes.
        if not max(3, n_users) <= self.scenes_per_video <= n_users + len(KINDS):
            raise ValueError(
                f"{self.scenes_per_video} scenes in a video do not suit {n_users} users"
            )


SMALL = SampleSize(
    (("train", 3), ("test", 2)), 4, (3.0, 3.2), width=192, height=144, pool=5, edge_cases=True
)
"""Two minutes of video: each extractor needs a few minutes for it on two cores."""
LARGE = SampleSize(
    (("train", 5),) * 11 + (("test", 5),) * 5, 6, (3.0, 4.6), width=160, height=120, pool=5
)
"""Half an hour of video: 55 training users and 25 test users, whose pairs of tastes do not occur
in training.
"""


@dataclass(frozen=True)
class Scene:
    """`[start, end)` seconds of a clip show one kind."""

    start: float
    end: float
    kind: str
    style: SceneStyle = field(repr=False, compare=False)


@dataclass(frozen=True)
class Clip:
    """One video to be generated."""

    video_id: str
    scenes: tuple[Scene, ...]
    clock: FrameClock = CONSTANT_RATE
    is_rotated: bool = False
    """Whether it is stored on its side, with metadata that makes players turn it back."""
    kept_share: float = 1.0
    """How much of the file is left; 0 for a dead link that the tables name."""

    @property
    def duration_seconds(self) -> float:
        """As generated; a damaged file shows less."""
        return self.scenes[-1].end


@dataclass(frozen=True)
class Viewing:
    """One user's GIFs of one clip."""

    user_id: str
    split: str
    clip: Clip
    is_target: bool
    gifs_hundredths: tuple[tuple[int, int], ...]
    """(start, length) in hundredths of a second, strictly inside a scene that the user likes."""


@dataclass(frozen=True)
class SamplePlan:
    """Everything to be generated and written."""

    clips: tuple[Clip, ...]
    viewings: tuple[Viewing, ...]


def plan_sample(size: SampleSize, seed: int) -> SamplePlan:
    """Plan a sample; the same size and seed give the same plan."""
    rng = np.random.default_rng(seed)
    plan = SamplePlan((), ())
    n_users_before = 0
    for split, n_users in size.groups:
        user_ids = [f"{n_users_before + number + 1:05d}" for number in range(n_users)]
        group = _plan_group(rng, size, split, user_ids)
        plan = SamplePlan(plan.clips + group.clips, plan.viewings + group.viewings)
        n_users_before += n_users
    return plan


def _plan_group(
    rng: np.random.Generator, size: SampleSize, split: str, user_ids: list[str]
) -> SamplePlan:
    tastes = _random_tastes(rng, len(user_ids), for_test=split == "test")
    mains = [taste[0] for taste in tastes]
    targets = [_random_clip(rng, size, mains) for _ in user_ids]
    # The rest of the pool is seen by all users and is the target of none.
    others = [_random_clip(rng, size, mains) for _ in range(size.pool - len(user_ids))]
    first_only: list[Clip] = []
    if size.edge_cases:
        # Targets are never damaged: every user must have a measurable one.
        others, first_only = _with_faults(rng, split, others, mains[0])
    viewings = []
    for number, (user_id, taste) in enumerate(zip(user_ids, tastes, strict=True)):
        seen = [*targets, *others]
        if number == 0:
            seen += first_only
        for clip in seen:
            is_target = clip is targets[number]
            viewings.append(Viewing(user_id, split, clip, is_target, _gifs(rng, clip, taste)))
    return SamplePlan((*targets, *others, *first_only), tuple(viewings))


def _random_tastes(
    rng: np.random.Generator, n_users: int, *, for_test: bool
) -> list[tuple[str, ...]]:
    """One or two kinds for each user of a group, the main one first.

    Main kinds differ, and a user's second kind is not the main kind of the next user. So every
    user finds a highlight in every video, and no user likes all of it. No two users like the same.
    """
    kinds = list(KINDS)
    mains = [int(number) for number in rng.permutation(len(kinds))[:n_users]]
    tastes: list[list[int]] = []
    for position, main in enumerate(mains):
        next_main = mains[(position + 1) % n_users]
        allowed = _allowed_seconds(main, next_main, tastes, for_test=for_test)
        wants_second = rng.random() < SECOND_TASTE_ODDS
        taste = [main]
        if wants_second and allowed:
            taste.append(int(rng.choice(allowed)))
        tastes.append(taste)
    return [tuple(kinds[number] for number in taste) for taste in tastes]


def _allowed_seconds(
    main: int, next_main: int, earlier: list[list[int]], *, for_test: bool
) -> list[int]:
    """The kinds that may be the second taste of a user with this main kind."""
    allowed = []
    for other in range(len(KINDS)):
        is_main = other in (main, next_main)
        # The same two kinds in the other order would be the same taste.
        is_taken = [other, main] in earlier
        if not is_main and not is_taken and _pair_is_for_test(main, other) == for_test:
            allowed.append(other)
    return allowed


def _pair_is_for_test(one: int, other: int) -> bool:
    """Whether only test users have this pair of tastes.

    True for 5 of the 15 pairs; each kind is in at least one of the 5.
    """
    return (one + other) % 3 == 0


def _random_clip(rng: np.random.Generator, size: SampleSize, mains: Sequence[str]) -> Clip:
    """A clip that shows the main kind of every user, and others up to the planned number."""
    n_more = size.scenes_per_video - len(mains)
    kinds = [*mains, *rng.permutation(list(KINDS))[:n_more]]
    # The ID is drawn before the order of the scenes; the bytes of a sample depend on it.
    video_id = _video_id(rng)
    return Clip(video_id, _scenes(rng, _without_repeats(rng, kinds), size.scene_seconds))


def _without_repeats(rng: np.random.Generator, kinds: Sequence[str]) -> list[str]:
    """A random order in which no kind follows itself.

    One exists, since no kind occurs more than twice among at least three.
    """
    while True:
        order = list(map(str, rng.permutation(kinds)))
        is_repeat = [kind == following for kind, following in pairwise(order)]
        if not any(is_repeat):
            return order


def _video_id(rng: np.random.Generator) -> str:
    return "".join(ALPHABET[number] for number in rng.integers(0, len(ALPHABET), 11))


def _scenes(
    rng: np.random.Generator, kinds: Sequence[str], seconds: tuple[float, float]
) -> tuple[Scene, ...]:
    shortest, longest = (round(length * 100) for length in seconds)
    scenes = []
    begin = 0
    for kind in kinds:
        end = begin + int(rng.integers(shortest, longest + 1))
        scenes.append(Scene(begin / 100, end / 100, kind, random_scene_style(kind, rng)))
        begin = end
    return tuple(scenes)


def _gifs(
    rng: np.random.Generator, clip: Clip, taste: Sequence[str]
) -> tuple[tuple[int, int], ...]:
    """A GIF for each scene that the user likes: the scene, trimmed a little at both ends."""
    gifs = []
    for scene in clip.scenes:
        if scene.kind not in taste:
            continue
        begin, end = round(scene.start * 100), round(scene.end * 100)
        most_trimmed = (end - begin) // 6
        head, tail = (int(trimmed) for trimmed in rng.integers(1, most_trimmed + 1, 2))
        gifs.append((begin + head, end - tail - begin - head))
    return tuple(gifs)


def _with_faults(
    rng: np.random.Generator, split: str, others: Sequence[Clip], kind: str
) -> tuple[list[Clip], list[Clip]]:
    """The clips that are not targets, two of them with faults; and a clip for the first user only.

    The last one is too short for C3D in training, and a dead link in the test split.
    """
    first, second, *rest = others
    scenes = _scenes(rng, [kind], SHORT_SECONDS)
    if split == "train":
        slowing = replace(first, clock=VARIABLE_RATE)
        truncated = replace(second, kept_share=DAMAGED_SHARE)
        return [slowing, truncated, *rest], [Clip(_video_id(rng), scenes)]
    rotated = replace(first, is_rotated=True)
    # Such an ID looks like an option to a command line.
    with_dash = replace(second, video_id=f"-{second.video_id[1:]}")
    return [rotated, with_dash, *rest], [Clip(_video_id(rng), scenes, kept_share=0)]
