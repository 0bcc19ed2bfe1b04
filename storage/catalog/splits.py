"""Which videos belong to which split: of users, of a published grouping, or of folds by hash.

A video of two splits is in both: nothing is moved, as publications do not say where it would go.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from storage.base.errors import LookupFailed
from storage.base.records import Link, User

USERS = "users"
"""Names the splits of users, in place of a grouping."""
ALL = "all"
"""The only split of a catalog without users and without published splits."""
DOMAIN_GROUPING = "domain"
"""The grouping that holds the domain of each video. It is a subject, not a split."""
_FOLDS = re.compile(r"folds-([0-9]{1,6})-([0-9]{1,6})")
SplitIds = Mapping[str, tuple[str, ...]]
"""Split → its video ids, ascending."""


@dataclass(frozen=True)
class CatalogRows:
    """The rows of a catalog that splits are made of."""

    name: str
    video_ids: frozenset[str]
    users: Sequence[User]
    links: Sequence[Link]
    groupings: Mapping[str, Mapping[str, frozenset[str]]]


def ids_by_split(rows: CatalogRows, grouping: str = "") -> SplitIds:
    """Split → video ids; see `Catalog.ids_by_split`. Raises LookupFailed."""
    name = grouping or _default(rows)
    if name == ALL:
        return {ALL: tuple(sorted(rows.video_ids))}
    if name == USERS and rows.users:
        return _ids_of_users(rows)
    if name in rows.groupings:
        return {split: tuple(sorted(ids)) for split, ids in rows.groupings[name].items()}
    fold = parse_folds(name)
    if fold is None:
        raise LookupFailed(
            f"{rows.name} has no splits named {name!r}; it has {_known(rows)}, and folds-N-i"
        )
    tested = fold_ids(rows.groupings, rows.video_ids, *fold)
    return {"test": tuple(sorted(tested)), "train": tuple(sorted(rows.video_ids - tested))}


def _default(rows: CatalogRows) -> str:
    if rows.users:
        return USERS
    published = [name for name in rows.groupings if name != DOMAIN_GROUPING]
    if len(published) > 1:
        raise LookupFailed(
            f"{rows.name} has several published splits; name one of {', '.join(published)}"
        )
    return published[0] if published else ALL


def _known(rows: CatalogRows) -> str:
    names = [USERS] if rows.users else []
    return ", ".join([*names, *rows.groupings, ALL])


def _ids_of_users(rows: CatalogRows) -> SplitIds:
    split_of = {user.user_id: user.split for user in rows.users}
    splits: dict[str, set[str]] = {split: set() for split in sorted({*split_of.values()})}
    for link in rows.links:
        splits[split_of[link.user_id]].add(link.video_id)
    return {split: tuple(sorted(ids)) for split, ids in splits.items()}


def parse_folds(grouping: str) -> tuple[int, int] | None:
    """`folds-5-0` → 5 folds, of which number 0 is tested; None for any other name.

    Raises LookupFailed unless there are two folds or more, and one of that number.
    """
    match = _FOLDS.fullmatch(grouping)
    if match is None:
        return None
    folds, fold = int(match[1]), int(match[2])
    if folds < 2 or fold >= folds:
        raise LookupFailed(
            f"folds-N-i needs N of at least 2 and i from 0 to N - 1; got folds-{folds}-{fold}"
        )
    return folds, fold


def fold_ids(
    groupings: Mapping[str, Mapping[str, frozenset[str]]],
    video_ids: frozenset[str],
    folds: int,
    fold: int,
    seed: int = 0,
) -> frozenset[str]:
    """The videos of one fold: every `folds`-th video of each domain, in the order of a hash."""
    ids: set[str] = set()
    for of_domain in ids_by_domain(groupings, video_ids).values():
        ids.update(sort_by_hash(of_domain, seed)[fold::folds])
    return frozenset(ids)


def ids_by_domain(
    groupings: Mapping[str, Mapping[str, frozenset[str]]], video_ids: frozenset[str]
) -> Mapping[str, frozenset[str]]:
    """Domain → its videos; a catalog without domains counts as one domain."""
    return groupings.get(DOMAIN_GROUPING) or {"": video_ids}


def sort_by_hash(ids: Collection[str], seed: int) -> list[str]:
    """Ids in an order that is the same everywhere, and another for another seed."""
    return sorted(
        ids, key=lambda video_id: hashlib.sha256(f"{seed}\n{video_id}".encode()).hexdigest()
    )
