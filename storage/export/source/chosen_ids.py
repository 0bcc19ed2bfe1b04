"""Which videos of a catalog an export takes: all, those of a file, or those of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from storage.base.errors import LookupFailed, SettingsError
from storage.catalog.catalog import Catalog
from storage.catalog.csv_tables import text_column

MAX_NAMED = 5
"""How many unknown ids an error names."""


def chosen_ids(
    catalog: Catalog, ids: Sequence[str] | None, split: str
) -> tuple[tuple[str, ...], str]:
    """The ids, ascending, and how they were chosen; all of the catalog if neither is given.

    Raises:
        SettingsError: both are given.
        LookupFailed: an id or the split is not in the catalog.
    """
    if ids is not None and split:
        raise SettingsError(("give --ids or --split, not both",))
    known = set(text_column(catalog.videos, "video_id"))
    if ids is not None:
        _check_known(catalog.name, set(ids), known)
        return tuple(sorted(set(ids))), "ids of a file"
    if split:
        return tuple(sorted(split_ids(catalog, split))), f"split {split}"
    return tuple(sorted(known)), "all"


def _check_known(catalog: str, ids: set[str], known: set[str]) -> None:
    unknown = sorted(ids - known)
    if unknown:
        named = ", ".join(repr(video_id) for video_id in unknown[:MAX_NAMED])
        rest = ", ..." if len(unknown) > MAX_NAMED else ""
        raise LookupFailed(
            f"{len(unknown)} of {len(ids)} ids are not in the catalog {catalog}: {named}{rest}"
        )


def split_ids(catalog: Catalog, name: str) -> frozenset[str]:
    """The videos of a split: `grouping/group`, a split of the users, or a group by its name.

    The videos of a split of users are those that its users are linked to.

    Raises:
        LookupFailed: there is none, or more than one; lists what there is.
    """
    grouping, _, group = name.rpartition("/")
    if grouping:
        return catalog.group(grouping, group)
    if name in {user.split for user in catalog.users}:
        return _videos_of_users(catalog, name)
    found = [one for one, groups in catalog.groupings.items() if name in groups]
    if len(found) != 1:
        raise LookupFailed(
            f"{catalog.name} has {len(found) or 'no'} splits named {name!r}; "
            f"it has {', '.join(_known_splits(catalog)) or 'none'}"
        )
    return catalog.group(found[0], name)


def _videos_of_users(catalog: Catalog, split: str) -> frozenset[str]:
    users = {user.user_id for user in catalog.users if user.split == split}
    return frozenset(link.video_id for link in catalog.links if link.user_id in users)


def _known_splits(catalog: Catalog) -> Iterator[str]:
    yield from sorted({user.split for user in catalog.users})
    for grouping, groups in catalog.groupings.items():
        for name in groups:
            yield f"{grouping}/{name}"


def read_ids(path: Path) -> tuple[str, ...]:
    """The ids in a text file, one on each line; blank lines are skipped.

    Raises:
        SettingsError: the file cannot be read as text, or holds no id.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError((f"--ids {path} cannot be read as text: {error}",)) from error
    ids = tuple(line.strip() for line in lines if line.strip())
    if not ids:
        raise SettingsError((f"--ids {path} holds no id; write one on each line",))
    return ids
