"""The labels of a user's table: users with intervals they like, or annotators with scores.

With a column of users each row is a part that this user likes, and one video of each user is the
target to predict: the one with the role `target`, else the user's last in the table, as in PHD2.
Without it, each row is an interval that an annotator marked or scored.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.datasets.own_videos.entries import Entries, Entry
from pipeline.datasets.own_videos.times import parse_seconds
from pipeline.datasets.parsing.parsed_dataset import DROPPED
from storage.base.records import Annotation, Group, Link, User
from storage.catalog.catalog import PERSON_ID

PLAIN, USERS, INTERVALS, SCORES = "own videos", "own users", "own intervals", "own scores"
"""Readers that catalogs name: without labels, of users, of marked intervals, of scored ones."""
SPLIT = "split"
"""The grouping that holds the split of each video."""
LABEL = "label"
TEST_SHARE = 0.2
"""Share of users, or of videos, that are tested on where the table names no split."""
DEFAULT_ANNOTATOR = "labels"
_SPLITS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
_NOT_IN_A_GROUP = re.compile(r"[^A-Za-z0-9_-]+")
_LABEL_WORDS = {"": 1.0, "true": 1.0, "yes": 1.0, "highlight": 1.0, "positive": 1.0} | {
    "false": 0.0, "no": 0.0, "negative": 0.0, "none": 0.0
}  # fmt: skip


@dataclass
class Labels:
    """What a table says of its videos."""

    reader: str = PLAIN
    users: Sequence[User] = ()
    links: Sequence[Link] = ()
    annotations: Sequence[Annotation] = ()
    groups: Sequence[Group] = ()
    oddities: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Interval:
    """One usable row."""

    where: str
    video_id: str
    start: float
    end: float
    person: str
    score: float
    split: str
    role: str
    label: str


def read_labels(found: Entries, ids: Sequence[str]) -> Labels:
    """The labels of the entries, whose ids are given in the same order."""
    labels = Labels()
    if "start" not in found.meanings:
        labels.groups = _split_groups(zip(found.entries, ids, strict=True), labels.oddities)
        return labels
    of_users = "user" in found.meanings
    has_scores = "score" in found.meanings or _are_numbers(found.entries)
    rows = []
    for entry, video_id in zip(found.entries, ids, strict=True):
        row = _interval(entry, video_id, labels.oddities, of_users=of_users)
        if row is not None:
            rows.append(row)
    labels.annotations = _annotations(rows, labels.oddities)
    if of_users:
        labels.reader = USERS
        labels.users = _users(rows, labels.oddities)
        labels.links = _links(rows)
        label_groups: Iterable[Group] = ()
    else:
        labels.reader = SCORES if has_scores else INTERVALS
        label_groups = _label_groups(rows)
    splits = () if of_users else _split_groups(zip(found.entries, ids, strict=True), {}, fill=True)
    labels.groups = [*splits, *label_groups]
    return labels


def _are_numbers(entries: Sequence[Entry]) -> bool:
    """Whether the labels are numbers, which are scores; `1` alone only marks an interval."""
    texts = {entry.cells[LABEL] for entry in entries if LABEL in entry.cells}
    return bool(texts - {"1", "1.0"}) and all(_number(text) is not None for text in texts)


def _interval(
    entry: Entry, video_id: str, oddities: dict[str, list[str]], *, of_users: bool
) -> _Interval | None:
    """The interval of a row; None, and a case of an oddity, if it cannot be used."""
    cells = entry.cells
    span = _span(entry, oddities)
    score = _score(cells)
    person = _person(entry, oddities, of_users=of_users)
    if score is None:
        _drop(oddities, "unreadable_score", f"{entry.where}: {cells.get('score', '')[:50]!r}")
    if span is None or score is None or not person:
        return None
    split = _split(cells, entry.where, oddities)
    role, label = cells.get("role", "").lower(), _text_label(cells)
    return _Interval(entry.where, video_id, *span, person, score, split, role, label)


def _span(entry: Entry, oddities: dict[str, list[str]]) -> tuple[float, float] | None:
    try:
        start, end = (parse_seconds(entry.cells.get(name, "")) for name in ("start", "end"))
    except ValueError as error:
        _drop(oddities, "unreadable_time", f"{entry.where}: {error}")
        return None
    if start >= end:
        _drop(oddities, "end_before_start", f"{entry.where}: {start:g} to {end:g}")
        return None
    return start, end


def _person(entry: Entry, oddities: dict[str, list[str]], *, of_users: bool) -> str:
    """The user or annotator of a row; empty if there is none that can be used."""
    if of_users:
        person = entry.cells.get("user", "")
        if not person:
            _drop(oddities, "without_user", entry.where)
            return ""
    else:
        named = (entry.cells.get("annotator", ""), _text_label(entry.cells))
        person = ": ".join(filter(None, named)) or DEFAULT_ANNOTATOR
    if not PERSON_ID.fullmatch(person):
        _drop(oddities, "unusable_person", f"{entry.where}: {person[:50]!r}")
        return ""
    return person


def _drop(oddities: dict[str, list[str]], reason: str, case: str) -> None:
    oddities.setdefault(f"{DROPPED}{reason}", []).append(case)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _score(cells: Mapping[str, str]) -> float | None:
    """The score of a row: of its column, of a label that is one, or 1. None if unreadable."""
    if "score" in cells:
        return _number(cells["score"])
    label = cells.get(LABEL, "").lower()
    number = _number(label)
    return _LABEL_WORDS.get(label, 1.0) if number is None else number


def _text_label(cells: Mapping[str, str]) -> str:
    """The label if it is a name, not a number or a yes."""
    label = cells.get(LABEL, "")
    is_name = label.lower() not in _LABEL_WORDS and _number(label) is None
    return label if is_name else ""


def _split(cells: Mapping[str, str], where: str, oddities: dict[str, list[str]]) -> str:
    text = cells.get(SPLIT, "").lower()
    if text and text not in _SPLITS:
        known = ", ".join(sorted(set(_SPLITS.values())))
        case = f"{where}: {text[:50]!r}; known are {known}"
        oddities.setdefault("unknown_split", []).append(case)
    return _SPLITS.get(text, "")


def _annotations(
    rows: Sequence[_Interval], oddities: dict[str, list[str]]
) -> tuple[Annotation, ...]:
    counts = Counter(
        Annotation(row.video_id, row.person, row.start, row.end, row.score) for row in rows
    )
    oddities["duplicate_annotation"] = [
        f"{row.video_id} {row.annotator} {row.start:g} {row.end:g}"
        for row, count in counts.items()
        if count > 1
    ]
    return tuple(counts)


def _users(rows: Sequence[_Interval], oddities: dict[str, list[str]]) -> list[User]:
    """Each user with the split of the table, or with one by a hash of the id."""
    stated: dict[str, str] = {}
    for row in rows:
        earlier = stated.setdefault(row.person, row.split)
        if row.split and earlier and earlier != row.split:
            case = f"{row.where}: {row.person} is in {earlier} and in {row.split}"
            oddities.setdefault("user_in_two_splits", []).append(case)
        stated[row.person] = earlier or row.split
    without = [person for person, split in stated.items() if not split]
    by_hash = hashed_splits(without)
    return [User(person, split or by_hash[person]) for person, split in stated.items()]


def hashed_splits(names: Sequence[str]) -> dict[str, str]:
    """Name → `test` for one in five, by a hash, else `train`; both if there are two names or more.

    A hash, so that the split of a name stays when others join.
    """
    order = sorted(names, key=_hashed)
    tested = [name for name in order if _hashed(name) < TEST_SHARE] or order[:1]
    if len(tested) == len(order) > 1:
        tested = tested[:-1]
    chosen = set(tested)
    return {name: "test" if name in chosen else "train" for name in names}


def _hashed(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _links(rows: Sequence[_Interval]) -> list[Link]:
    videos: dict[str, dict[str, str]] = {}
    for row in rows:
        roles = videos.setdefault(row.person, {})
        # Taken out and put back: the last mention decides the order.
        known = roles.pop(row.video_id, "")
        roles[row.video_id] = row.role or known
    links = []
    for person, roles in videos.items():
        stated = [video for video, role in roles.items() if role == "target"]
        targets = set(stated or [list(roles)[-1]])
        links += [
            Link(person, video, "target" if video in targets else "history") for video in roles
        ]
    return links


def _label_groups(rows: Iterable[_Interval]) -> set[Group]:
    """The videos in which each named label occurs."""
    groups = set()
    for row in rows:
        name = _NOT_IN_A_GROUP.sub("-", row.label).strip("-_")[:64]
        if name:
            groups.add(Group(LABEL, name, row.video_id))
    return groups


def _split_groups(
    pairs: Iterable[tuple[Entry, str]], oddities: dict[str, list[str]], *, fill: bool = False
) -> list[Group]:
    """The split of each video that states one; with `fill`, the others get one by a hash."""
    stated: dict[str, str] = {}
    for entry, video_id in pairs:
        split = _split(entry.cells, entry.where, oddities)
        stated[video_id] = stated.get(video_id) or split
    by_hash = hashed_splits([one for one, split in stated.items() if not split]) if fill else {}
    return [
        Group(SPLIT, split or by_hash[video_id], video_id)
        for video_id, split in stated.items()
        if split or video_id in by_hash
    ]
