"""Who likes what, in which videos: the sample as numbers, before anything is drawn.

A user's highlights are the scenes of the kinds that this user likes, and users who share a video
like different kinds: what is a highlight for one is none for another. Users and videos never cross
the splits. Touches no disk.
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
"""How much of a damaged file is left. Its index comes first and promises all of it."""
SHORT_SECONDS = (0.8, 0.8)
"""10 frames at 12 a second: fewer than the 16 of C3D."""
SPARE_FOR_EDGES = 2
"""Videos of a pool that are nobody's target."""


@dataclass(frozen=True)
class SampleSize:
    """How much to draw. A group is a few users who share a pool of videos; each has another one of
    them as target.
    """

    groups: tuple[tuple[str, int], ...]
    """(split, how many users) of each group; 2 to 6 users."""
    scenes_per_video: int
    scene_seconds: tuple[float, float]
    """Shortest and longest scene."""
    width: int
    height: int
    pool: int
    """Videos of a group."""
    edge_cases: bool = False
    """Whether some files are troubled as the web's are: uneven frame times, turned, cut, too short,
    gone.
    """

    def __post_init__(self) -> None:
        spare = SPARE_FOR_EDGES if self.edge_cases else 0
        for split, n_users in self.groups:
            if split not in ("train", "test") or not 2 <= n_users <= len(KINDS):
                raise ValueError(
                    f"a group is 'train' or 'test' with 2 to {len(KINDS)} users, got {(split, n_users)}"
                )
            if self.pool < n_users + spare:
                raise ValueError(
                    f"{n_users} users need a pool of at least {n_users + spare} videos, got {self.pool}"
                )
            if not max(3, n_users) <= self.scenes_per_video <= n_users + len(KINDS):
                raise ValueError(
                    f"{self.scenes_per_video} scenes in a video do not suit {n_users} users"
                )


SMALL = SampleSize(
    (("train", 3), ("test", 2)), 4, (3.0, 3.2), width=192, height=144, pool=5, edge_cases=True
)
"""Two minutes in all: every extractor is through with it within minutes on two cores."""
LARGE = SampleSize(
    (("train", 5),) * 11 + (("test", 5),) * 5, 6, (3.0, 4.6), width=160, height=120, pool=5
)
"""Half an hour: 55 users to learn from and 25 to be judged by, whose pairs of tastes are never seen
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
    """One video to be drawn."""

    video_id: str
    scenes: tuple[Scene, ...]
    clock: FrameClock = CONSTANT_RATE
    is_rotated: bool = False
    """Whether it is stored lying on its side, with an order to the player to turn it back."""
    kept_share: float = 1.0
    """How much of the file is left; 0 is a dead link, named in the tables."""

    @property
    def duration_seconds(self) -> float:
        """As drawn; a damaged file shows less."""
        return self.scenes[-1].end


@dataclass(frozen=True)
class Viewing:
    """One user's GIFs of one clip."""

    user_id: str
    split: str
    clip: Clip
    is_target: bool
    gifs_hundredths: tuple[tuple[int, int], ...]
    """(start, length) in hundredths of a second, strictly inside a scene of a kind the user
    likes.
    """


@dataclass(frozen=True)
class SamplePlan:
    """Everything to be drawn and written."""

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
    tastes = _tastes(rng, len(user_ids), for_test=split == "test")
    mains = [taste[0] for taste in tastes]
    targets = [_clip(rng, size, mains) for _ in user_ids]
    others = [_clip(rng, size, mains) for _ in range(size.pool - len(user_ids))]
    first_only: list[Clip] = []
    if size.edge_cases:
        others, first_only = _troubled(rng, split, others, mains[0])
    viewings = []
    for user_id, taste, target in zip(user_ids, tastes, targets, strict=True):
        for clip in [*targets, *others, *(first_only if user_id == user_ids[0] else ())]:
            viewings.append(Viewing(user_id, split, clip, clip is target, _gifs(rng, clip, taste)))
    return SamplePlan((*targets, *others, *first_only), tuple(viewings))


def _tastes(rng: np.random.Generator, n_users: int, *, for_test: bool) -> list[tuple[str, ...]]:
    """One or two kinds for each user of a group, the main one first.

    Main kinds differ, and nobody's second is the main kind of the next: so everybody finds
    something in every video, and nobody likes all of it. No two users like the same.
    """
    kinds = list(KINDS)
    mains = [int(number) for number in rng.permutation(len(kinds))[:n_users]]
    tastes: list[list[int]] = []
    for main, next_main in zip(mains, mains[1:] + mains[:1], strict=True):
        allowed = [
            other
            for other in range(len(kinds))
            if other not in (main, next_main)
            and [other, main] not in tastes
            and _pair_is_for_test(main, other) == for_test
        ]
        wants_second = rng.random() < SECOND_TASTE_ODDS
        tastes.append([main, int(rng.choice(allowed))] if wants_second and allowed else [main])
    return [tuple(kinds[number] for number in taste) for taste in tastes]


def _pair_is_for_test(one: int, other: int) -> bool:
    """Whether two tastes meet in test users only: true for 5 of the 15 pairs, and each kind is in
    one of the 5.
    """
    return (one + other) % 3 == 0


def _clip(rng: np.random.Generator, size: SampleSize, mains: Sequence[str]) -> Clip:
    more = rng.permutation(list(KINDS))[: size.scenes_per_video - len(mains)]
    return Clip(
        _video_id(rng), _scenes(rng, _without_repeats(rng, [*mains, *more]), size.scene_seconds)
    )


def _without_repeats(rng: np.random.Generator, kinds: Sequence[str]) -> list[str]:
    """A random order in which no kind follows itself. One exists, since no kind comes more than
    twice among three.
    """
    while True:
        order = [str(kind) for kind in rng.permutation(kinds)]
        if all(kind != following for kind, following in pairwise(order)):
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
    gifs = []
    for scene in clip.scenes:
        if scene.kind in taste:
            begin, end = round(scene.start * 100), round(scene.end * 100)
            head, tail = (int(trimmed) for trimmed in rng.integers(1, (end - begin) // 6 + 1, 2))
            gifs.append((begin + head, end - tail - begin - head))
    return tuple(gifs)


def _troubled(
    rng: np.random.Generator, split: str, others: Sequence[Clip], kind: str
) -> tuple[list[Clip], list[Clip]]:
    """The clips that are nobody's target, two of them in trouble, and one more for the first user's
    history.
    """
    one, two, *rest = others
    scenes = _scenes(rng, [kind], SHORT_SECONDS)
    if split == "train":
        troubled = [replace(one, clock=VARIABLE_RATE), replace(two, kept_share=DAMAGED_SHARE)]
        return [*troubled, *rest], [Clip(_video_id(rng), scenes)]
    troubled = [replace(one, is_rotated=True), replace(two, video_id=f"-{two.video_id[1:]}")]
    return [*troubled, *rest], [Clip(_video_id(rng), scenes, kept_share=0)]
