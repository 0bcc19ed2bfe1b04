"""Who marked what, and what that makes of a position: its label, and whether it is a highlight.

The rule is ours: a position has a mark's value if marks of that value together cover more than half
of its span, and of several values the highest; overlapping marks count once. PHD-GIFs says only
that a positive shot "was part of a GIF", and no paper says how rows of 16 frames are compared with
marks. Refuses to know features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.sources.intervals import NO_INTERVALS, Intervals, covered_seconds, union

COVERED_SHARE = 0.5
"""More than this share of a span makes a label."""


class UserLabels:
    """The annotations of a catalog by video and person. Raises SettingsError if its unit is not the
    second.
    """

    def __init__(self, catalog: Catalog) -> None:
        if catalog.time_unit != "seconds":
            raise SettingsError(
                (
                    f"annotations of {catalog.name} are in {catalog.time_unit}; turn them into seconds first",
                )
            )
        rows: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
        for mark in catalog.annotations:
            rows.setdefault(mark.video_id, {}).setdefault(mark.annotator, []).append(
                (mark.start, mark.end, mark.value)
            )
        self._rows = {
            video_id: {person: np.array(found) for person, found in people.items()}
            for video_id, people in rows.items()
        }

    def with_preferences(self, person: str, liked: Mapping[str, Intervals]) -> UserLabels:
        """The same, and of one more person the parts of videos that this person likes."""
        more = copy.copy(self)
        more._rows = {video_id: dict(people) for video_id, people in self._rows.items()}
        for video_id, intervals in liked.items():
            more._rows.setdefault(video_id, {})[person] = np.column_stack(
                [intervals, np.ones(len(intervals))]
            )
        return more

    def annotations(self, person: str | None, video_id: str) -> tuple[NDArray[np.float64], ...]:
        """`(marks, 3)`: start, end and value, of one person, or of each person who marked the video
        if None.
        """
        people = self._rows.get(video_id, {})
        if person is None:
            return tuple(people.values())
        return (people[person],) if person in people else ()

    def highlights(self, person: str | None, video_id: str) -> Intervals:
        """The union of all marks whose value is above 0."""
        found = [marks[marks[:, 2] > 0, :2] for marks in self.annotations(person, video_id)]
        return union(np.concatenate(found)) if found else NO_INTERVALS


def position_labels(spans: Intervals, people: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """`(n,)`: the value each person's marks give a span, 0 if none does, averaged over the
    persons.
    """
    if not people:
        return np.zeros(len(spans), np.float32)
    return np.asarray(np.mean([_user_labels(spans, marks) for marks in people], axis=0), np.float32)


def _user_labels(spans: Intervals, marks: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros(len(spans))
    for value in np.unique(marks[:, 2]):
        covered = covered_seconds(spans, union(marks[marks[:, 2] == value, :2]))
        found[covered > COVERED_SHARE * (spans[:, 1] - spans[:, 0])] = value
    return found


def draw_pairs(
    positive: NDArray[np.bool_], negative: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """`(count, 2)`: a highlight's position and that of a non-highlight; all -1 if there is none of
    either.

    As many different highlights, and as many different non-highlights, as there are.
    """
    highs, lows = np.flatnonzero(positive), np.flatnonzero(negative)
    if not (len(highs) and len(lows)):
        return np.full((count, 2), -1)
    return np.stack([_draw_evenly(highs, count, rng), _draw_evenly(lows, count, rng)], 1)


def _draw_evenly(places: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-count // len(places))
    return np.concatenate([rng.permutation(places) for _ in range(rounds)] or [places])[
        :count
    ].astype(np.int64)
