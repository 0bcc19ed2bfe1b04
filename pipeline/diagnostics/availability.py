"""How much of a dataset still exists: per split, how many videos ended done, and why the others did
not.

Pure counting. Videos of the web vanish, so a result means little without the day and the very ids
it rests on; their sha256 lets two people find out whether they speak of the same videos. The day is
given, never asked for here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from storage.base.fingerprint import ids_sha256
from storage.base.records import JSON
from storage.base.video_status import REASONS, TAXONOMY_VERSION, State, VideoStatus
from storage.catalog.catalog import Catalog
from storage.catalog.csv_tables import text_column

WHOLE = "all"
"""The row of the whole catalog, beside the splits."""


@dataclass(frozen=True)
class Availability:
    """One split's videos, or one domain's. A video that several use is counted in each."""

    split: str
    ids: int
    done: int
    missing: Mapping[str, int]
    """`state:reason` → how many."""
    ids_sha256: str
    """Of all its ids; see `ids_sha256`."""
    surviving_sha256: str
    """Of the ids that are done."""

    def __str__(self) -> str:
        missing = ", ".join(f"{count} {reason}" for reason, count in self.missing.items())
        share = self.done / self.ids if self.ids else 0.0
        return f"{self.split:<24} {self.done} of {self.ids} done ({share:.1%}){'; ' if missing else ''}{missing}"


def availability_by_split(
    catalog: Catalog, statuses: Mapping[str, VideoStatus]
) -> tuple[Availability, ...]:
    """One row for the whole catalog, then one per split of users, then one per group, as
    `vlist_sel/test`; by name.

    Raises ValueError unless every id has a verdict.
    """
    everything = set(text_column(catalog.videos, "video_id"))
    if without := sorted(everything - statuses.keys()):
        raise ValueError(f"{len(without)} ids have no verdict, the first is {without[0]!r}")
    split_of = dict(
        zip(text_column(catalog.users, "user_id"), text_column(catalog.users, "split"), strict=True)
    )
    splits: dict[str, set[str]] = {}
    for user_id, video_id in zip(
        text_column(catalog.links, "user_id"), text_column(catalog.links, "video_id"), strict=True
    ):
        splits.setdefault(split_of[user_id], set()).add(video_id)
    groups = [
        (f"{grouping}/{name}", {*ids})
        for grouping, of in catalog.groupings.items()
        for name, ids in of.items()
    ]
    done = frozenset(
        video_id for video_id, status in statuses.items() if status.state is State.DONE
    )
    return tuple(
        _row(name, ids, done, statuses)
        for name, ids in [(WHOLE, everything), *sorted(splits.items()), *groups]
    )


def _row(
    split: str, ids: set[str], done: frozenset[str], statuses: Mapping[str, VideoStatus]
) -> Availability:
    reasons = Counter(f"{statuses[i].state}:{statuses[i].reason}" for i in ids - done)
    missing = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return Availability(
        split, len(ids), len(ids & done), missing, ids_sha256(ids), ids_sha256(ids & done)
    )


def availability_report(rows: Iterable[Availability], day: date) -> dict[str, JSON]:
    """What is kept as `report/survival.json`."""
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
        "meanings": {
            name: REASONS[name].meaning
            for name in sorted({reason.partition(":")[2] for row in rows for reason in row.missing})
        },
    }
