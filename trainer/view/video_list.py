"""The list of videos: search, filter by state, and pages, for catalogs of many thousand ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from storage.base.records import JSON
from storage.base.video_status import VideoStatus
from trainer.view.opened_store import UNREADABLE, Snapshot

PER_PAGE = 50
NOT_BUILT = "not built"
"""State of an id that has no status in a variant yet."""
LONGEST_QUERY = 200


@dataclass(frozen=True)
class ListRequest:
    """What the list is asked for."""

    text: str = ""
    """Each word must occur in the id or the title; upper and lower case are equal."""
    state: str = ""
    """`done`, `rejected`, `rejected:too_short`, `not built`, ...; empty for all."""
    variant: str = ""
    """Full name of the variant that `state` is about; empty for any of them."""
    page: int = 1


@dataclass(frozen=True)
class ListRow:
    """One video of the list."""

    video_id: str
    title: str
    searched: str
    states: tuple[str, ...]
    """One for each variant, in their order."""


class VideoList:
    """All videos of a snapshot, prepared for searching."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.variants = tuple(snapshot.variants)
        statuses = [one.statuses for one in snapshot.variants.values()]
        self.rows = [_row(snapshot, video.video_id, statuses) for video in snapshot.catalog.videos]
        counts = Counter(state for row in self.rows for state in set(row.states))
        self.state_counts = dict(sorted(counts.items()))

    def answer(self, request: ListRequest) -> dict[str, JSON]:
        """One page of the matching videos, as JSON."""
        matching = self._matching(request)
        pages = max(1, -(-len(matching) // PER_PAGE))
        page = min(max(1, request.page), pages)
        shown = islice(matching, (page - 1) * PER_PAGE, page * PER_PAGE)
        variants = self.snapshot.variants.items()
        return {
            "catalog": self.snapshot.catalog.name,
            "total": len(self.rows),
            "matching": len(matching),
            "page": page,
            "pages": pages,
            "variants": [{"name": name, "notes": list(one.notes)} for name, one in variants],
            "states": [{"state": name, "videos": n} for name, n in self.state_counts.items()],
            "videos": [self._row_json(row) for row in shown],
            "problems": list(self.snapshot.problems),
        }

    def _matching(self, request: ListRequest) -> list[ListRow]:
        words = request.text[:LONGEST_QUERY].casefold().split()
        rows = self.rows
        if words:
            rows = [row for row in rows if all(word in row.searched for word in words)]
        if request.state:
            columns = self._columns(request.variant)
            rows = [row for row in rows if _has_state(row, columns, request.state)]
        return rows

    def _columns(self, variant: str) -> Sequence[int]:
        if variant in self.variants:
            return (self.variants.index(variant),)
        return range(len(self.variants))

    def _row_json(self, row: ListRow) -> JSON:
        seconds, source = duration_of(self.snapshot, row.video_id)
        return {
            "id": row.video_id,
            "title": row.title,
            "duration_seconds": seconds,
            "duration_is": source,
            "states": list(row.states),
        }


def _row(
    snapshot: Snapshot, video_id: str, statuses: Sequence[Mapping[str, VideoStatus]]
) -> ListRow:
    title = snapshot.title(video_id)
    states = tuple(short_state(of_variant.get(video_id)) for of_variant in statuses)
    return ListRow(video_id, title, f"{video_id} {title}".casefold(), states)


def short_state(status: VideoStatus | None) -> str:
    """`done`, or `rejected:too_short`: state and reason without details."""
    if status is None:
        return NOT_BUILT
    return f"{status.state}:{status.reason}" if status.reason else str(status.state)


def _has_state(row: ListRow, columns: Sequence[int], wanted: str) -> bool:
    for column in columns:
        state = row.states[column]
        if state == wanted or state.startswith(f"{wanted}:"):
            return True
    return False


def duration_of(snapshot: Snapshot, video_id: str) -> tuple[float | None, str]:
    """Duration in seconds, and whether it is `claimed`, the end of its `rows`, or unknown (``)."""
    claimed = snapshot.claimed_durations.get(video_id)
    if claimed is not None:
        return claimed, "claimed"
    for variant in snapshot.readers_of(video_id).values():
        try:
            spans = variant.reader[video_id].spans
        except UNREADABLE:
            continue  # the video's own page says what is wrong
        if len(spans):
            return float(spans[:, 1].max()), "rows"
    return None, ""
