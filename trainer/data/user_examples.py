"""Examples of a split: pairs of a user and a video to score, with counts of what was dropped.

Users and videos in = used + dropped, by reason. Reads the catalog, and from the store only which
videos have features.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.user_splits import describe_splits
from trainer.data.sources.features import Features
from trainer.data.sources.settings import DataSettings

MAX_HELD_OUT = 1000
"""Number of validation users of PHD-GIFs, section 5.3."""
Split = Literal["train", "validation", "test", "all"]
"""`all` is every user of the catalog, or every video of a catalog without users."""


# `ExampleSet.digest` hashes the `repr` of examples, and checkpoints hold that digest: the name of
# this class and the names of its fields must not change.
@dataclass(frozen=True)
class Example:
    """One video to score for one user, whose history is given."""

    video_id: str
    user_id: str = ""
    """Empty in a catalog without users: the highlights are then those of all annotators."""
    history_user: str = ""
    """The user whose labels are the history; another user in the control experiment."""
    history: tuple[str, ...] = ()
    """Videos of the history that have features, never the video itself. Their order is drawn once
    by `holdout_seed`, since catalogs do not keep the order in which a user annotated them.
    """
    window: tuple[int, int] | None = None
    """`[first, end)` rows to read; None: all."""
    anchor: int | None = None
    """The position that a set is drawn around; None: anywhere."""


@dataclass(frozen=True)
class ExampleCounts:
    """How many users, or videos, became examples, and why the others did not."""

    noun: str
    total: int
    used: int
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason → ids, ascending."""

    def __post_init__(self) -> None:
        dropped = sum(len(ids) for ids in self.dropped.values())
        if self.total != self.used + dropped:
            raise ValueError(
                f"{self.total} {self.noun} in, but {self.used} used and {dropped} dropped"
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
    """Of (user, video) pairs to score; ids are `user/video`, or `video` without users."""
    history: ExampleCounts
    """Of (user, video) pairs in histories."""
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """12 hex digits of the sha256 over the examples: the same digest, the same examples."""
        return _sha256(repr(self.examples))[:12]


def split_users(
    catalog: Catalog, split: Split, settings: DataSettings
) -> tuple[tuple[str, ...], str]:
    """The users of a split, ascending, and the name of the hold-out; "" if the dataset names them.

    If the dataset publishes no `validation` users, the users of `train` with the smallest hash are
    held out: `holdout_users` of them, by default one in ten and at most `MAX_HELD_OUT`. A hash, so
    that few of them change when users join or leave. Raises SettingsError for an unknown split, or
    if no user is left to train on.
    """
    if split not in get_args(Split):
        raise SettingsError((f"a split is one of {', '.join(get_args(Split))}; got {split!r}",))
    if split == "all":
        return tuple(user.user_id for user in catalog.users), ""
    publishes_validation = bool(_published_users(catalog, "validation"))
    if split == "test" or publishes_validation:
        return tuple(_published_users(catalog, split)), ""
    train = _published_users(catalog, "train")
    # Both "train" and "validation" come from here, so that they never overlap.
    held_out = _held_out_users(catalog, train, settings)
    name = f"holdout-{len(held_out)}-seed{settings.holdout_seed}-{_sha256(repr(held_out))[:8]}"
    if split == "validation":
        return tuple(held_out), name
    return tuple(sorted(set(train) - set(held_out))), name


def _published_users(catalog: Catalog, split: str) -> list[str]:
    return [user.user_id for user in catalog.users if user.split == split]


def _held_out_users(catalog: Catalog, train: list[str], settings: DataSettings) -> list[str]:
    """The training users that are kept for validation, ascending."""
    count = settings.holdout_users
    if count is None:
        count = min(MAX_HELD_OUT, max(1, len(train) // 10))
    if train and count >= len(train):
        raise SettingsError(
            (
                f"holdout_users is {count}, but {catalog.name} has {len(train)} users to train on; "
                "set a smaller number",
            )
        )
    return sorted(_sort_by_hash(train, settings.holdout_seed)[:count])


Expand = Callable[[Example], Sequence[Example] | str]
"""Example → itself, or one example for each window, or the reason to drop it."""


def list_examples(
    catalog: Catalog,
    features: Features,
    split: Split,
    settings: DataSettings,
    expand: Expand | None = None,
) -> ExampleSet:
    """The examples of a split.

    Without `expand` (scoring) they are the videos that are linked to a user as target; with it
    (training) each video of a user in turn, the others being the history. A catalog without users
    gives each of its videos once, for the split `all`. Raises SettingsError for an unknown split,
    or one without an example.
    """
    users, holdout = split_users(catalog, split, settings)
    if split != "all" and not users:
        present = describe_splits(catalog, split)
        raise SettingsError(
            (f"{catalog.name} has no users in the split {split!r}; it has {present}",)
        )
    if users:
        candidates = _user_examples(catalog, users, settings, is_training=expand is not None)
    else:
        candidates = [Example(video.video_id) for video in catalog.videos]
    examples, targets = _expand_examples(candidates, features, settings, expand or _keep)
    if not examples:
        raise SettingsError(
            (
                f"{catalog.name} has no example left in the split {split!r}: {targets}. "
                "A target is a link of the role 'target' of a user of that split, to a "
                "video with features",
            )
        )
    return ExampleSet(
        examples,
        _count_users(users, examples),
        targets,
        _count_history(candidates, features),
        _notes(holdout, settings),
    )


def _keep(example: Example) -> Sequence[Example]:
    return (example,)


def _notes(holdout: str, settings: DataSettings) -> tuple[str, ...]:
    """Notes about the examples, which every table made from them prints."""
    notes = []
    if holdout:
        notes.append(f"validation users are {holdout}, as the dataset names none")
    if settings.history_videos is not None:
        notes.append(
            "histories cut to fewer videos keep some drawn by seed, not the last ones: "
            "order is unknown"
        )
    return tuple(notes)


def _user_examples(
    catalog: Catalog, users: Sequence[str], settings: DataSettings, *, is_training: bool
) -> list[Example]:
    """The videos to score for each user, with the videos of the history."""
    links = _user_links(catalog)
    history_owners = _history_owners(users, settings)
    takes_every_video = is_training and settings.targets == "every"
    examples = []
    for user_id in users:
        owner = history_owners.get(user_id, "")
        history_roles = links[owner] if owner else {}
        for video_id, role in sorted(links[user_id].items()):
            if takes_every_video or role == "target":
                history = _history_videos(history_roles, video_id, is_training=is_training)
                examples.append(Example(video_id, user_id, owner, history))
    return examples


def _expand_examples(
    candidates: Sequence[Example], features: Features, settings: DataSettings, expand: Expand
) -> tuple[tuple[Example, ...], ExampleCounts]:
    """The candidates that have features, expanded, and counts of the others by reason."""
    examples: list[Example] = []
    dropped: dict[str, list[str]] = defaultdict(list)
    for candidate in candidates:
        example = _with_available_history(candidate, features, settings)
        expanded = features.missing_reason(example.video_id) or expand(example)
        if not isinstance(expanded, str):
            examples += expanded
            continue
        user, video = example.user_id, example.video_id
        dropped[expanded].append(f"{user}/{video}" if user else video)
    # By video first: a batch then reads neighbours in the store.
    counts = _count_examples("targets", len(candidates), dropped)
    return tuple(sorted(examples, key=_sort_key)), counts


def _with_available_history(
    example: Example, features: Features, settings: DataSettings
) -> Example:
    """The example with the history videos that have features, at most `history_videos` of them."""
    available = [
        video_id for video_id in example.history if features.missing_reason(video_id) is None
    ]
    # Cut after the videos without features are gone: k videos then mean k usable ones.
    ordered = _sort_by_hash(available, settings.holdout_seed, example.history_user)
    return replace(example, history=tuple(ordered[: settings.history_videos]))


def _sort_key(example: Example) -> tuple[str, str, tuple[int, int]]:
    return example.video_id, example.user_id, example.window or (0, 0)


def _count_examples(noun: str, total: int, dropped: Mapping[str, Sequence[str]]) -> ExampleCounts:
    by_reason = {reason: tuple(sorted(ids)) for reason, ids in dropped.items() if ids}
    used = total - sum(map(len, by_reason.values()))
    return ExampleCounts(noun, total, used, by_reason)


def _count_users(users: Sequence[str], examples: Sequence[Example]) -> ExampleCounts:
    used = {example.user_id for example in examples}
    unused = [user_id for user_id in users if user_id not in used]
    return _count_examples("users", len(users), {"without a target": unused})


def _count_history(candidates: Sequence[Example], features: Features) -> ExampleCounts:
    """Counts of (user, video) pairs in histories; those without features are dropped."""
    pairs: set[tuple[str, str]] = set()
    for example in candidates:
        pairs.update((example.history_user, video_id) for video_id in example.history)
    dropped: dict[str, list[str]] = defaultdict(list)
    for user_id, video_id in pairs:
        reason = features.missing_reason(video_id)
        if reason is not None:
            dropped[reason].append(f"{user_id}/{video_id}")
    return _count_examples("history videos", len(pairs), dropped)


def _user_links(catalog: Catalog) -> Mapping[str, Mapping[str, str]]:
    """User → video → role, `target` or `history`."""
    links: dict[str, dict[str, str]] = defaultdict(dict)
    for link in catalog.links:
        # A video with both roles is a target: in the history it would reveal its own labels.
        if links[link.user_id].get(link.video_id) != "target":
            links[link.user_id][link.video_id] = link.role
    return links


def _history_videos(roles: Mapping[str, str], target: str, *, is_training: bool) -> tuple[str, ...]:
    """The videos of a history without the target, ascending; in training targets count too."""
    videos = []
    for video_id, role in sorted(roles.items()):
        is_history = is_training or role == "history"
        if is_history and video_id != target:
            videos.append(video_id)
    return tuple(videos)


def _history_owners(users: Sequence[str], settings: DataSettings) -> Mapping[str, str]:
    """User → the user whose history is given for them; empty without histories."""
    if settings.history == "none" or settings.whose == "nobody":
        return {}
    if settings.whose == "own":
        return {user_id: user_id for user_id in users}
    if len(users) < 2:
        raise SettingsError(("data.whose = 'other' needs at least two users in the split",))
    # Each user gets the history of the next one in a ring, so every history is used once.
    ring = _sort_by_hash(users, settings.holdout_seed)
    return dict(zip(ring, [*ring[1:], ring[0]], strict=True))


def _sort_by_hash(ids: Iterable[str], seed: int, salt: str = "") -> list[str]:
    return sorted(ids, key=lambda item: _sha256(f"{seed}\n{salt}\n{item}"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
