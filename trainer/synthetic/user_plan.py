"""Plans users with known preferences: who likes what, and what each of their videos shows.

Durations are those of PHD2. Kinds are distributed so that the claims named in `user_features` can
be tried. Nothing is written here.
"""

from __future__ import annotations

import math
from collections import Counter
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
"""The kinds that all users like; each has its own dimension, after those of taste."""
COMMON_SHARE = 0.3
"""Share of a user's marks that are of a common kind."""
DECOY_SHARE = 0.3
"""Share of decoys among the scenes that a user does not mark; a decoy is half a liked kind."""
FAR = 0.5
"""Largest cosine between the other unmarked scenes and a kind that the user likes."""
DIGITS = 3
"""Of a kind's values, as written to the tables."""
SHARES = {1: (1.0,), 2: (0.65, 0.35), 3: (0.5, 0.3, 0.2)}
"""Number of tastes → shares of the user's marks."""
SCENE_SECONDS = 10.0
"""Approximate length of a scene that is not marked."""
ROOM = 1.25
"""A marked scene is at least this many times as long as its GIF."""
ALPHABET = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))


@dataclass(frozen=True)
class SyntheticUserSettings:
    """The size of the catalog. The same settings and timing give the same bytes."""

    seed: int = 0
    train_users: int = 80
    test_users: int = 40
    fewest_tastes: int = 1
    most_tastes: int = 3
    max_videos: int = 20
    """Most videos of a user's history."""
    noise: float = 1.0
    """Standard deviation of the noise on each value of a row; that of the signal is 1."""
    width: int = 256
    """Of `c3d/pool5`, which has 8192 in reality. PHD-CA drops 0.71 of them, so a few would not be
    enough.
    """
    with_frames: bool = False
    """Whether to write yolov5 and keypoint_rcnn arrays too, two rows per second."""
    object_shape: tuple[int, int, int] = (8, 2, 2)
    """Of `yolov5/p5`: channels and a grid."""
    joint_channels: int = 8
    """Of `keypoint_rcnn/joint_features`."""
    lost_share: float = 0.03
    """Share of videos that are removed from the web, as in every real store."""

    def __post_init__(self) -> None:
        if not 1 <= self.fewest_tastes <= self.most_tastes <= len(SHARES):
            raise ValueError(
                f"1 <= fewest_tastes <= most_tastes <= {len(SHARES)} must hold, got "
                f"{self.fewest_tastes} and {self.most_tastes}"
            )
        counts = (self.train_users, self.test_users, self.max_videos)
        widths = (self.width, *self.object_shape, self.joint_channels)
        if min(*counts, *widths) < 1 or self.noise < 0:
            raise ValueError(
                f"users, max_videos and widths must be at least 1, noise at least 0; got {self}"
            )
        if not 0 <= self.lost_share < 1:
            raise ValueError(f"0 <= lost_share < 1 must hold, got {self.lost_share}")

    @property
    def mark(self) -> str:
        """The name of the weights."""
        return f"planted:{self.seed}"


@dataclass(frozen=True)
class Timing:
    """Values to draw from, all equally likely."""

    video_seconds: NDArray[np.float64]
    gif_seconds: NDArray[np.float64]
    gifs_of_video: NDArray[np.int64]
    history_videos: NDArray[np.int64]


def published_timing() -> Timing:
    """The timing of PHD2's `testing.csv` (850 users, 20,488 rows), as log-normal quantiles.

    Targets last 15 to 843 s (median 186.5, mean 235), GIFs 0.09 to 26.7 s (median 3.1, mean 4.85).
    Histories have 2 to 340 videos (median 6, mean 11.1). 579 targets have 1 GIF, 136 have 2, 59
    have 3, and 76 have more (here 4).
    """
    return Timing(
        _log_normal(186.5, 235, 15, 843),
        _log_normal(3.1, 4.85, 0.09, 26.7),
        np.repeat([1, 2, 3, 4], [579, 136, 59, 76]),
        _log_normal(6, 11.1, 2, 340).round().astype(np.int64),
    )


def timing_of(catalog: Catalog) -> Timing:
    """The timing of a real catalog in PHD2's form; videos of unknown duration are left out."""
    gif_counts: Counter[tuple[str, str]] = Counter()
    gif_seconds: list[float] = []
    for mark in catalog.annotations:
        gif_counts[mark.annotator, mark.video_id] += 1
        gif_seconds.append(mark.end - mark.start)
    history_counts: Counter[str] = Counter()
    for link in catalog.links:
        if link.role == "history":
            history_counts[link.user_id] += 1
    durations: list[float] = []
    for video in catalog.videos:
        if video.claimed_duration_seconds is not None:
            durations.append(video.claimed_duration_seconds)
    return Timing(
        np.array(durations),
        np.array(gif_seconds),
        # In the order of IDs, so that the same catalog gives the same draws.
        np.array([count for _, count in sorted(gif_counts.items())]),
        np.array([count for _, count in sorted(history_counts.items())]),
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
    """Everything that is written later."""

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
            tastes[user_id] = _random_taste(rng, settings)
            n_videos = 1 + min(int(rng.choice(timing.history_videos)), settings.max_videos)
            target = int(rng.integers(n_videos))
            viewings[user_id] = tuple(
                _random_viewing(rng, tastes[user_id], timing, is_target=position == target)
                for position in range(n_videos)
            )
        return Plan(tastes, splits, viewings)

    def all_viewings(self) -> Iterator[tuple[str, Viewing]]:
        """Each user's videos; no two users share one."""
        for user_id, viewings in self.viewings.items():
            for viewing in viewings:
                yield user_id, viewing

    def scene_rows(self) -> Iterable[tuple[object, ...]]:
        """(video_id, start, end, kind) of every scene."""
        scenes = {viewing.video_id: viewing.scenes for _, viewing in self.all_viewings()}
        for video_id in sorted(scenes):
            for scene in scenes[video_id]:
                yield video_id, scene.start, scene.end, _spelled(scene.kind)

    def taste_rows(self) -> Iterable[tuple[object, ...]]:
        """(user_id, kind, its share of the user's marks that are not of a common kind)."""
        for user_id, taste in self.tastes.items():
            for kind, share in taste.items():
                yield user_id, _spelled(kind), share


def _random_taste(rng: np.random.Generator, settings: SyntheticUserSettings) -> dict[Kind, float]:
    """Orthogonal kinds, with the shares of the user's own marks."""
    count = int(rng.integers(settings.fewest_tastes, settings.most_tastes + 1))
    # Directions are drawn for each user: of a few fixed kinds, a network would learn which
    # there are, and not how to compare with a history.
    axes, _ = np.linalg.qr(rng.normal(size=(TASTE_DIMENSIONS, count)))
    kinds = [_kind(axis) for axis in axes.T]
    return dict(zip(kinds, SHARES[count], strict=True))


def _random_viewing(
    rng: np.random.Generator, taste: Mapping[Kind, float], timing: Timing, *, is_target: bool
) -> Viewing:
    duration = float(rng.choice(timing.video_seconds))
    parts = _random_parts(rng, taste, timing, duration)
    scenes, gifs, start = [], [], 0.0
    for number in rng.permutation(len(parts)):
        seconds, gif_length, kind = parts[number]
        scenes.append(Scene(round(start, 3), round(start + seconds, 3), kind))
        if gif_length:
            gif_length = min(gif_length, 0.95 * seconds)
            begin = start + rng.uniform(0, seconds - gif_length)
            # Rounding must not make a GIF shorter than the shortest of PHD2.
            end = max(begin + gif_length, begin + 0.09)
            gifs.append((round(begin, 2), round(end, 2)))
        start += seconds
    video_id = "".join(ALPHABET[rng.integers(0, 64, 11)])
    return Viewing(video_id, tuple(scenes), tuple(sorted(gifs)), is_target)


def _random_parts(
    rng: np.random.Generator, taste: Mapping[Kind, float], timing: Timing, duration: float
) -> list[tuple[float, float, Kind]]:
    """Seconds, length of the GIF (0 for none) and kind of each scene, the marked ones first."""
    gif_lengths = _random_gif_lengths(rng, timing, duration)
    marked = [max(length * ROOM, SCENE_SECONDS * rng.uniform(0.5, 1)) for length in gif_lengths]
    # Marked scenes get at most 0.7 of the video.
    scale = min(1.0, 0.7 * duration / sum(marked))
    rest = duration - scale * sum(marked)
    n_others = max(1, round(rest / SCENE_SECONDS))
    # Lengths vary, but no scene is very short.
    others = rest * rng.dirichlet(np.full(n_others, 4.0))
    parts = []
    for seconds, length in zip(marked, gif_lengths, strict=True):
        parts.append((seconds * scale, length, _random_liked_kind(rng, taste)))
    for seconds in others:
        parts.append((float(seconds), 0.0, _random_other_kind(rng, taste)))
    return parts


def _random_gif_lengths(rng: np.random.Generator, timing: Timing, duration: float) -> list[float]:
    """Lengths of the video's GIFs: as many as fit into half of it, at least one."""
    count = int(rng.choice(timing.gifs_of_video))
    drawn = [float(seconds) for seconds in rng.choice(timing.gif_seconds, count)]
    n_fitting = int((np.cumsum(drawn) <= duration / 2).sum())
    return drawn[:n_fitting] or [min(drawn[0], duration / 2)]


def _random_liked_kind(rng: np.random.Generator, taste: Mapping[Kind, float]) -> Kind:
    if rng.random() < COMMON_SHARE:
        return COMMON_KINDS[int(rng.integers(len(COMMON_KINDS)))]
    kinds = list(taste)
    return kinds[int(rng.choice(len(kinds), p=list(taste.values())))]


def _random_other_kind(rng: np.random.Generator, taste: Mapping[Kind, float]) -> Kind:
    """A kind that the user does not like: a decoy, or one far from everything liked."""
    if rng.random() < DECOY_SHARE:
        return _random_decoy(rng, list(taste))
    # The common kinds have other dimensions, so they are at a right angle to any direction here.
    liked = np.array(list(taste))[:, :TASTE_DIMENSIONS]
    while True:
        direction = rng.normal(size=TASTE_DIMENSIONS)
        # Liked kinds have length 1, so this compares cosines.
        if (liked @ direction).max() < FAR * np.linalg.norm(direction):
            return _kind(direction)


def _random_decoy(rng: np.random.Generator, kinds: Sequence[Kind]) -> Kind:
    """Midway between two liked kinds; for a single one, midway to a direction at a right angle."""
    order = rng.permutation(len(kinds))
    liked, *others = (np.array(kinds[number])[:TASTE_DIMENSIONS] for number in order)
    if others:
        return _kind(liked + others[0])
    aside = rng.normal(size=TASTE_DIMENSIONS)
    # Without its part along the liked kind, it is at a right angle to it.
    aside -= (aside @ liked) * liked
    return _kind(liked + aside / np.linalg.norm(aside))


def _kind(direction: NDArray[np.float64]) -> Kind:
    """The kind in this direction: of length 1, and 0 in the dimensions of the common kinds."""
    unit = np.round(direction / np.linalg.norm(direction), DIGITS) + 0.0  # no -0.0
    return (*(float(value) for value in unit), *[0.0] * (LATENT - TASTE_DIMENSIONS))


def _spelled(kind: Kind) -> str:
    return " ".join(f"{value:.{DIGITS}f}" for value in kind)


def _log_normal(median: float, mean: float, low: float, high: float) -> NDArray[np.float64]:
    """1,000 evenly spaced quantiles of the log-normal with this median and mean, clipped."""
    spread = math.sqrt(2 * math.log(mean / median))
    quantiles = [NormalDist().inv_cdf((number + 0.5) / 1000) for number in range(1000)]
    return np.clip(median * np.exp(spread * np.array(quantiles)), low, high)
