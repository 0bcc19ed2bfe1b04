"""Who is asked about which video: the examples of a split, with an account of everybody who is not
among them.

Users and videos in = used + dropped, by reason. Reads the catalog, and of the store only which
videos are there.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.sources.features import Features
from trainer.data.sources.settings import DataSettings

MAX_HELD_OUT = 1000
"""Validation users of PHD-GIFs, section 5.3."""
Split = Literal["train", "validation", "test", "all"]
"""`all` is every user of the catalog, or every video of one that has no users."""


@dataclass(frozen=True)
class Example:
    """One question to a model: which parts of a video does this user like, who liked those parts of
    those others?
    """

    video_id: str
    user_id: str = ""
    """Empty in a catalog without users: then the question is what anybody likes."""
    history_user: str = ""
    """Whose marks the history is; another user's in the control experiment."""
    history: tuple[str, ...] = ()
    """Videos of the history that have features, never the video itself. In an order that is drawn
    once by `holdout_seed`, since catalogs do not keep the order in which a user made their marks.
    """
    window: tuple[int, int] | None = None
    """`[first, end)` rows to look at; None: all."""
    anchor: int | None = None
    """The position that a set is drawn around; None: wherever."""


@dataclass(frozen=True)
class ExampleCounts:
    """What became of users, or of videos, on the way to examples."""

    noun: str
    total: int
    used: int
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason → ids, ascending."""

    def __post_init__(self) -> None:
        gone = sum(len(ids) for ids in self.dropped.values())
        if self.total != self.used + gone:
            raise ValueError(
                f"{self.total} {self.noun} in, but {self.used} used and {gone} dropped"
            )

    def __str__(self) -> str:
        reasons = "".join(f" + {len(ids)} {reason}" for reason, ids in sorted(self.dropped.items()))
        return f"{self.total} {self.noun} = {self.used} used{reasons}"


@dataclass(frozen=True)
class ExampleSet:
    """The examples of a split."""

    examples: tuple[Example, ...]
    users: ExampleCounts
    targets: ExampleCounts
    """Of (user, video) pairs asked about; ids are `user/video`, or the video alone."""
    history: ExampleCounts
    """Of (user, video) pairs in histories."""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """12 hex digits of the sha256 over the examples: two runs with the same digest saw the
        same.
        """
        return _sha256(repr(self.examples))[:12]


def split_users(
    catalog: Catalog, split: Split, settings: DataSettings
) -> tuple[tuple[str, ...], str]:
    """The users of a split, ascending, and the name of the hold-out that decided it; empty if the
    dataset did.

    Where no user is published as `validation`, those of `train` with the smallest hash are,
    `holdout_users` of them or `MOST_HELD_OUT` and no more than one in ten, so that few change when
    users join or leave. Raises SettingsError for an unknown split, or if nobody is left to train
    on.
    """
    if split not in get_args(Split):
        raise SettingsError((f"a split is one of {', '.join(get_args(Split))}; got {split!r}",))
    if split == "all":
        return tuple(user.user_id for user in catalog.users), ""
    found = [user.user_id for user in catalog.users if user.split == split]
    if split == "test" or any(user.split == "validation" for user in catalog.users):
        return tuple(found), ""
    train = [user.user_id for user in catalog.users if user.split == "train"]
    count = settings.holdout_users
    if count is None:
        count = min(MAX_HELD_OUT, max(1, len(train) // 10))
    if train and count >= len(train):
        raise SettingsError(
            (f"holdout_users is {count}, but {catalog.name} has {len(train)} users to train on",)
        )
    held_out = sorted(_sort_by_hash(train, settings.holdout_seed)[:count])
    name = f"holdout-{len(held_out)}-seed{settings.holdout_seed}-{_sha256(repr(held_out))[:8]}"
    if split == "validation":
        return tuple(held_out), name
    return tuple(sorted(set(train) - set(held_out))), name


Expand = Callable[[Example], Sequence[Example] | str]
"""Example → itself, or one for each window to look at, or the reason why there is nothing to learn
from it.
"""


def list_examples(
    catalog: Catalog,
    features: Features,
    split: Split,
    settings: DataSettings,
    expand: Expand | None = None,
) -> ExampleSet:
    """Examples of a split: those linked as target, or with `expand` (training) each video of a user
    in turn.

    A catalog without users gives each of its videos once, for the split `all`. Raises SettingsError
    for a split that is unknown, or has no example left.
    """
    users, holdout = split_users(catalog, split, settings)
    if split != "all" and not users:
        raise SettingsError((f"{catalog.name} has no users in the split {split!r}",))
    candidates = (
        _user_examples(catalog, users, settings, is_training=expand is not None)
        if users
        else _video_examples(catalog)
    )
    examples, targets = _expand_examples(
        candidates, features, settings, expand or (lambda example: (example,))
    )
    if not examples:
        raise SettingsError(
            (f"{catalog.name} has no example left in the split {split!r}: {targets}",)
        )
    notes: tuple[str, ...] = (
        (f"validation users are {holdout}, as the dataset names none",) if holdout else ()
    )
    if settings.history_videos is not None:
        notes += (
            "histories cut to fewer videos keep some drawn by seed, not the last ones: order is unknown",
        )
    used = {example.user_id for example in examples}
    gone = {"without a target": [user_id for user_id in users if user_id not in used]}
    pairs = {
        (example.history_user, video_id) for example in candidates for video_id in example.history
    }
    return ExampleSet(
        examples,
        _count_examples("users", len(users), gone),
        targets,
        _count_history(pairs, features),
        notes,
    )


def _video_examples(catalog: Catalog) -> list[Example]:
    return [Example(video.video_id) for video in catalog.videos]


def _user_examples(
    catalog: Catalog, users: Sequence[str], settings: DataSettings, *, is_training: bool
) -> list[Example]:
    links, whose = _user_links(catalog), _history_owners(users, settings)
    every = is_training and settings.targets == "every"
    return [
        Example(
            video_id,
            user_id,
            whose.get(user_id, ""),
            _history_videos(links, whose.get(user_id), video_id, is_training),
        )
        for user_id in users
        for video_id, role in sorted(links[user_id].items())
        if every or role == "target"
    ]


def _expand_examples(
    candidates: Sequence[Example], features: Features, settings: DataSettings, expand: Expand
) -> tuple[tuple[Example, ...], ExampleCounts]:
    examples: list[Example] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    for example in candidates:
        there = [
            video_id for video_id in example.history if features.missing_reason(video_id) is None
        ]
        ordered = _sort_by_hash(there, settings.holdout_seed, example.history_user)[
            : settings.history_videos
        ]
        expanded = features.missing_reason(example.video_id) or expand(
            replace(example, history=tuple(ordered))
        )
        if isinstance(expanded, str):
            name = f"{example.user_id}/{example.video_id}" if example.user_id else example.video_id
            dropped[expanded].append(name)
        else:
            examples += expanded
    return tuple(sorted(examples, key=_sort_key)), _count_examples(
        "targets", len(candidates), dropped
    )


def _sort_key(example: Example) -> tuple[str, str, tuple[int, int]]:
    return example.video_id, example.user_id, example.window or (0, 0)


def _count_examples(noun: str, total: int, dropped: Mapping[str, Sequence[str]]) -> ExampleCounts:
    gone = {reason: tuple(sorted(ids)) for reason, ids in dropped.items() if ids}
    return ExampleCounts(noun, total, total - sum(map(len, gone.values())), gone)


def _user_links(catalog: Catalog) -> Mapping[str, Mapping[str, str]]:
    links: dict[str, dict[str, str]] = defaultdict(dict)
    for link in catalog.links:
        # A video that is both is a target: it must not tell its own answer.
        if links[link.user_id].get(link.video_id) != "target":
            links[link.user_id][link.video_id] = link.role
    return links


def _history_videos(
    links: Mapping[str, Mapping[str, str]], owner: str | None, target: str, is_training: bool
) -> tuple[str, ...]:
    roles = {} if owner is None else links[owner]
    return tuple(
        sorted(
            video
            for video, role in roles.items()
            if video != target and (is_training or role == "history")
        )
    )


def _history_owners(users: Sequence[str], settings: DataSettings) -> Mapping[str, str]:
    """User → whose history they are given."""
    if settings.history == "none" or settings.whose == "nobody":
        return {}
    if settings.whose == "own":
        return {user_id: user_id for user_id in users}
    if len(users) < 2:
        raise SettingsError(("histories of others need at least two users in a split",))
    ring = _sort_by_hash(users, settings.holdout_seed)
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


def _count_history(pairs: Collection[tuple[str, str]], features: Features) -> ExampleCounts:
    dropped: dict[str, list[str]] = defaultdict(list)
    for user_id, video_id in pairs:
        reason = features.missing_reason(video_id)
        if reason is not None:
            dropped[reason].append(f"{user_id}/{video_id}")
    return _count_examples("history videos", len(pairs), dropped)


def _sort_by_hash(ids: Iterable[str], seed: int, salt: str = "") -> list[str]:
    return sorted(ids, key=lambda item: _sha256(f"{seed}\n{salt}\n{item}"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
