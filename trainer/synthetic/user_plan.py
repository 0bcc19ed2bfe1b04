"""Who likes what, and what each of their videos shows, before any feature is drawn.

Timed as PHD2 is. Kinds are spread so that the claims named in `planted.py` can be tried. Touches no
disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from storage.catalog.catalog import Catalog
from trainer.synthetic.feature_generator import LATENT, TASTE_DIMENSIONS, Kind, Scene

COMMON_KINDS: tuple[Kind, ...] = tuple(
    tuple(float(place == dimension) for place in range(LATENT))
    for dimension in range(TASTE_DIMENSIONS, LATENT)
)
"""The kinds that everybody likes; each lies in a dimension of its own, behind those of taste."""
COMMON_SHARE = 0.3
"""Of a user's marks."""
DECOY_SHARE = 0.3
"""Of the scenes a user does not mark: how many look half like what the user likes."""
FAR = 0.5
"""All others have a smaller cosine than this to everything the user likes."""
DIGITS = 3
SHARES = {1: (1.0,), 2: (0.65, 0.35), 3: (0.5, 0.3, 0.2)}
"""Number of tastes → how the user's marks spread over them."""
SCENE_SECONDS = 10.0
"""A scene that is not marked lasts about so long."""
ROOM = 1.25
"""A marked scene is at least this many times as long as its GIF."""
ALPHABET = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


@dataclass(frozen=True)
class SyntheticUserSettings:
    """How much to plant. The same settings and timing give the same bytes."""

    seed: int = 0
    train_users: int = 80
    test_users: int = 40
    fewest_tastes: int = 1
    most_tastes: int = 3
    max_videos: int = 20
    """A user's history is cut to so many videos."""
    noise: float = 1.0
    """Standard deviation of what is added to each value of a row, whose signal has 1."""
    width: int = 256
    """Of `c3d/pool5`, which really has 8192. PHD-CA drops 0.71 of them: of very few too little
    would be left.
    """
    with_frames: bool = False
    """Whether to write yolov5 and keypoint_rcnn arrays too, two rows a second."""
    object_shape: tuple[int, int, int] = (8, 2, 2)
    """Of `yolov5/p5`: channels and a grid."""
    joint_channels: int = 8
    """Of `keypoint_rcnn/joint_features`."""
    lost_share: float = 0.03
    """Of the videos: gone from the web, as in any real store."""

    def __post_init__(self) -> None:
        if not 1 <= self.fewest_tastes <= self.most_tastes <= len(SHARES):
            raise ValueError(
                f"tastes are 1 to {len(SHARES)}, got {self.fewest_tastes} to {self.most_tastes}"
            )
        sizes = (self.width, *self.object_shape, self.joint_channels)
        if min(self.train_users, self.test_users, self.max_videos, *sizes) < 1 or self.noise < 0:
            raise ValueError(
                f"users, max_videos and widths are at least 1, noise at least 0; got {self}"
            )
        if not 0 <= self.lost_share < 1:
            raise ValueError(f"lost_share is 0 up to 1, got {self.lost_share}")

    @property
    def mark(self) -> str:
        """What stands where real features name their weights."""
        return f"planted:{self.seed}"


@dataclass(frozen=True)
class Timing:
    """Values to draw from, each as likely as the others."""

    video_seconds: NDArray[np.float64]
    gif_seconds: NDArray[np.float64]
    gifs_of_video: NDArray[np.int64]
    history_videos: NDArray[np.int64]


def published_timing() -> Timing:
    """What PHD2's `testing.csv` (850 users, 20,488 rows) was measured to hold, as log-normal
    quantiles.

    Targets last 15 to 843 s, median 186.5, mean 235; GIFs 0.09 to 26.7 s, median 3.1, mean 4.85;
    histories have 2 to 340 videos, median 6, mean 11.1; 579 targets have 1 GIF, 136 have 2, 59 have
    3, 76 more (here 4).
    """
    return Timing(
        _log_normal(186.5, 235, 15, 843),
        _log_normal(3.1, 4.85, 0.09, 26.7),
        np.repeat([1, 2, 3, 4], [579, 136, 59, 76]),
        _log_normal(6, 11.1, 2, 340).round().astype(np.int64),
    )


def timing_of(catalog: Catalog) -> Timing:
    """What a real catalog in PHD2's shape holds; videos without a known duration are left out."""
    counts: dict[tuple[str, str], int] = {}
    for mark in catalog.annotations:
        counts[mark.annotator, mark.video_id] = counts.get((mark.annotator, mark.video_id), 0) + 1
    histories: dict[str, int] = {}
    for link in catalog.links:
        histories[link.user_id] = histories.get(link.user_id, 0) + (link.role == "history")
    known = [
        video.claimed_duration_seconds
        for video in catalog.videos
        if video.claimed_duration_seconds is not None
    ]
    return Timing(
        np.array(known),
        np.array([mark.end - mark.start for mark in catalog.annotations]),
        np.array([count for (_, _), count in sorted(counts.items())]),
        np.array([count for _, count in sorted(histories.items()) if count]),
    )


@dataclass(frozen=True)
class Viewing:
    """One user's video."""

    video_id: str
    scenes: tuple[Scene, ...]
    gifs: tuple[tuple[float, float], ...]
    is_target: bool


@dataclass(frozen=True)
class Plan:
    """Everything to be written."""

    tastes: Mapping[str, Mapping[Kind, float]]
    splits: Mapping[str, str]
    viewings: Mapping[str, tuple[Viewing, ...]]

    @staticmethod
    def draw(settings: SyntheticUserSettings, timing: Timing) -> Plan:
        """The same settings and timing give the same plan."""
        rng = np.random.default_rng([settings.seed, 1])
        tastes, splits, viewings = {}, {}, {}
        for number in range(settings.train_users + settings.test_users):
            user_id = f"{number + 1:05d}"
            splits[user_id] = "train" if number < settings.train_users else "test"
            tastes[user_id] = _taste(rng, settings)
            count = 1 + min(int(rng.choice(timing.history_videos)), settings.max_videos)
            target = int(rng.integers(count))
            viewings[user_id] = tuple(
                _viewing(rng, tastes[user_id], timing, is_target=place == target)
                for place in range(count)
            )
        return Plan(tastes, splits, viewings)

    def all_viewings(self) -> Iterator[tuple[str, Viewing]]:
        """Each user's videos; no two users share one."""
        return (
            (user_id, viewing)
            for user_id, viewings in self.viewings.items()
            for viewing in viewings
        )

    def scene_rows(self) -> Iterable[tuple[object, ...]]:
        """(video_id, start, end, kind) of every scene."""
        found = {viewing.video_id: viewing for _, viewing in self.all_viewings()}
        for video_id, viewing in sorted(found.items()):
            yield from (
                (video_id, scene.start, scene.end, _spelled(scene.kind)) for scene in viewing.scenes
            )

    def taste_rows(self) -> Iterable[tuple[object, ...]]:
        """(user_id, kind, share of the marks that are of no kind everybody likes)."""
        for user_id, taste in self.tastes.items():
            yield from ((user_id, _spelled(kind), share) for kind, share in taste.items())


def _taste(rng: np.random.Generator, settings: SyntheticUserSettings) -> dict[Kind, float]:
    """Kinds at right angles to each other, with the shares of a user's own marks."""
    count = int(rng.integers(settings.fewest_tastes, settings.most_tastes + 1))
    axes, _ = np.linalg.qr(rng.normal(size=(TASTE_DIMENSIONS, count)))
    return dict(zip(map(_kind, axes.T), SHARES[count], strict=True))


def _viewing(
    rng: np.random.Generator, taste: Mapping[Kind, float], timing: Timing, *, is_target: bool
) -> Viewing:
    duration = float(rng.choice(timing.video_seconds))
    lengths = _gif_lengths(rng, timing, duration)
    liked = [
        (max(length * ROOM, SCENE_SECONDS * rng.uniform(0.5, 1)), length) for length in lengths
    ]
    scale = min(1.0, 0.7 * duration / sum(scene for scene, _ in liked))
    rest = duration - scale * sum(scene for scene, _ in liked)
    others = rest * rng.dirichlet(np.full(max(1, round(rest / SCENE_SECONDS)), 4.0))
    parts = [(scene * scale, length, _liked_kind(rng, taste)) for scene, length in liked]
    parts += [(float(seconds), 0.0, _other_kind(rng, taste)) for seconds in others]
    scenes, gifs, start = [], [], 0.0
    for number in rng.permutation(len(parts)):
        seconds, length, kind = parts[number]
        scenes.append(Scene(round(start, 3), round(start + seconds, 3), kind))
        if length:
            length = min(length, 0.95 * seconds)
            begin = start + rng.uniform(0, seconds - length)
            gifs.append((round(begin, 2), round(max(begin + length, begin + 0.09), 2)))
        start += seconds
    return Viewing(
        "".join(ALPHABET[rng.integers(0, 64, 11)]), tuple(scenes), tuple(sorted(gifs)), is_target
    )


def _gif_lengths(rng: np.random.Generator, timing: Timing, duration: float) -> list[float]:
    """Lengths of the video's GIFs: as many of those drawn as fit into half of it, at least one."""
    drawn = [
        float(seconds)
        for seconds in rng.choice(timing.gif_seconds, int(rng.choice(timing.gifs_of_video)))
    ]
    fitting = np.flatnonzero(np.cumsum(drawn) <= duration / 2)
    return drawn[: len(fitting)] or [min(drawn[0], duration / 2)]


def _liked_kind(rng: np.random.Generator, taste: Mapping[Kind, float]) -> Kind:
    if rng.random() < COMMON_SHARE:
        return COMMON_KINDS[int(rng.integers(len(COMMON_KINDS)))]
    kinds = list(taste)
    return kinds[int(rng.choice(len(kinds), p=list(taste.values())))]


def _other_kind(rng: np.random.Generator, taste: Mapping[Kind, float]) -> Kind:
    """A kind the user does not like: often one that is half of what the user likes, otherwise one
    far from it.
    """
    if rng.random() < DECOY_SHARE:
        return _decoy(rng, list(taste))
    liked = np.array(list(taste))[:, :TASTE_DIMENSIONS]
    while True:
        direction = rng.normal(size=TASTE_DIMENSIONS)
        if (liked @ direction).max() < FAR * np.linalg.norm(direction):
            return _kind(direction)


def _decoy(rng: np.random.Generator, kinds: Sequence[Kind]) -> Kind:
    """Midway between two liked kinds; of one that is alone, midway to something at a right
    angle.
    """
    one, *others = (
        np.array(kinds[place])[:TASTE_DIMENSIONS] for place in rng.permutation(len(kinds))
    )
    if others:
        return _kind(one + others[0])
    aside = rng.normal(size=TASTE_DIMENSIONS)
    aside -= (aside @ one) * one
    return _kind(one + aside / np.linalg.norm(aside))


def _kind(direction: NDArray[np.float64]) -> Kind:
    """Of length 1, with nothing of what everybody likes."""
    unit = np.round(direction / np.linalg.norm(direction), DIGITS) + 0.0  # no -0.0
    return (*(float(value) for value in unit), *[0.0] * (LATENT - TASTE_DIMENSIONS))


def _spelled(kind: Kind) -> str:
    return " ".join(f"{value:.{DIGITS}f}" for value in kind)


def _log_normal(median: float, mean: float, low: float, high: float) -> NDArray[np.float64]:
    """1,000 evenly spaced quantiles of the log-normal with this median and mean, clipped to the
    range.
    """
    spread = math.sqrt(2 * math.log(mean / median))
    quantiles = [NormalDist().inv_cdf((number + 0.5) / 1000) for number in range(1000)]
    return np.clip(median * np.exp(spread * np.array(quantiles)), low, high)
