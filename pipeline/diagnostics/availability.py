"""Counts how much of a dataset is still available, per split, and why videos are missing.

Web videos vanish, so a result means little without its date and the exact ids behind it. The sha256
of the ids shows two people whether their results are about the same videos. The date is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from storage.base.fingerprint import ids_sha256
from storage.base.records import JSON
from storage.base.video_status import REASONS, TAXONOMY_VERSION, State, VideoStatus
from storage.catalog.catalog import Catalog
from storage.catalog.csv_tables import text_column

WHOLE = "all"
"""Name of the row about the whole catalog."""


@dataclass(frozen=True)
class Availability:
    """The videos of one split or domain. A video that is in several is counted in each."""

    split: str
    ids: int
    done: int
    missing: Mapping[str, int]
    """`state:reason` → how many."""
    ids_sha256: str
    """Of all ids; see `storage.base.fingerprint.ids_sha256`."""
    surviving_sha256: str
    """Of the ids that are done."""

    def __str__(self) -> str:
        share = self.done / self.ids if self.ids else 0.0
        line = f"{self.split:<24} {self.done} of {self.ids} done ({share:.1%})"
        if not self.missing:
            return line
        missing = [f"{count} {reason}" for reason, count in self.missing.items()]
        return f"{line}; {', '.join(missing)}"


def availability_by_split(
    catalog: Catalog, statuses: Mapping[str, VideoStatus]
) -> tuple[Availability, ...]:
    """One row for the whole catalog, one per split of users, and one per group (`vlist_sel/test`).

    Raises ValueError unless every id has a status.
    """
    all_ids = set(text_column(catalog.videos, "video_id"))
    # Without them the dataset would look more complete than it is.
    without_status = sorted(all_ids - statuses.keys())
    if without_status:
        raise ValueError(
            f"{len(without_status)} ids have no status, the first is {without_status[0]!r}"
        )
    parts = [(WHOLE, all_ids), *sorted(_user_splits(catalog).items())]
    for grouping, groups in catalog.groupings.items():
        parts += [(f"{grouping}/{name}", set(ids)) for name, ids in groups.items()]
    done = frozenset(
        video_id for video_id, status in statuses.items() if status.state is State.DONE
    )
    return tuple(_availability(name, ids, done, statuses) for name, ids in parts)


def _user_splits(catalog: Catalog) -> dict[str, set[str]]:
    """Split → the videos that its users are linked to."""
    user_ids, user_splits = (text_column(catalog.users, name) for name in ("user_id", "split"))
    split_of_user = dict(zip(user_ids, user_splits, strict=True))
    linked_users, linked_videos = (
        text_column(catalog.links, name) for name in ("user_id", "video_id")
    )
    splits: dict[str, set[str]] = {}
    for user_id, video_id in zip(linked_users, linked_videos, strict=True):
        splits.setdefault(split_of_user[user_id], set()).add(video_id)
    return splits


def _availability(
    split: str, ids: set[str], done: frozenset[str], statuses: Mapping[str, VideoStatus]
) -> Availability:
    missing_ids, surviving_ids = ids - done, ids & done
    reasons = Counter(f"{statuses[i].state}:{statuses[i].reason}" for i in missing_ids)
    # Reasons of equal frequency are sorted by name, so that equal builds give equal reports.
    by_frequency = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return Availability(
        split=split,
        ids=len(ids),
        done=len(surviving_ids),
        missing=dict(by_frequency),
        ids_sha256=ids_sha256(ids),
        surviving_sha256=ids_sha256(surviving_ids),
    )


def availability_report(rows: Sequence[Availability], day: date) -> dict[str, JSON]:
    """The content of `report/survival.json`."""
    reasons = {reason.partition(":")[2] for row in rows for reason in row.missing}
    return {
        "day": day.isoformat(),
        "taxonomy_version": TAXONOMY_VERSION,
        "splits": {
            row.split: {
                "ids": row.ids,
                "done": row.done,
                "missing": dict(row.missing),
                "ids_sha256": row.ids_sha256,
                "surviving_sha256": row.surviving_sha256,
            }
            for row in rows
        },
        "meanings": {name: REASONS[name].meaning for name in sorted(reasons)},
    }
