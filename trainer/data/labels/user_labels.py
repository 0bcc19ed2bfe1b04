"""Labels from users: what each user annotated, and the label of each position of a video.

The rule is ours: a position has the value of an annotation if annotations of that value together
cover more than half of its span. Of several such values the highest counts, and overlapping
annotations count once. PHD-GIFs says only that a positive shot "was part of a GIF", and no paper
says how rows of 16 frames are compared with annotations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import SettingsError
from storage.catalog.catalog import Catalog
from trainer.data.sources.intervals import NO_INTERVALS, Intervals, covered_seconds, union

COVERED_SHARE = 0.5
"""A span has a label if annotations cover more than this share of it."""


class UserLabels:
    """The annotations of a catalog by video and user.

    Raises SettingsError if they are not in seconds.
    """

    def __init__(self, catalog: Catalog) -> None:
        if catalog.time_unit != "seconds":
            raise SettingsError(
                (
                    f"annotations of {catalog.name} are in {catalog.time_unit}, not in seconds; "
                    "convert them to seconds first",
                )
            )
        rows: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
        for annotation in catalog.annotations:
            video_rows = rows.setdefault(annotation.video_id, {})
            user_rows = video_rows.setdefault(annotation.annotator, [])
            user_rows.append((annotation.start, annotation.end, annotation.value))
        self._by_video = {
            video_id: {user_id: np.array(user_rows) for user_id, user_rows in video_rows.items()}
            for video_id, video_rows in rows.items()
        }
        self._unions: dict[tuple[str | None, str], Intervals] = {}
        """Highlights by user and video, no larger than the annotations that they are made of."""

    def __getstate__(self) -> dict[str, Any]:
        # Another process makes those that it needs.
        return {**self.__dict__, "_unions": {}}

    def with_preferences(self, user_id: str, liked: Mapping[str, Intervals]) -> UserLabels:
        """A copy with one more user, who likes these intervals: video id → intervals."""
        # Two levels are copied, since both get new entries; the arrays are shared.
        extended = copy.copy(self)
        extended._unions = {}
        extended._by_video = {video_id: dict(users) for video_id, users in self._by_video.items()}
        for video_id, intervals in liked.items():
            annotations = np.column_stack([intervals, np.ones(len(intervals))])
            extended._by_video.setdefault(video_id, {})[user_id] = annotations
        return extended

    def annotations(self, user_id: str | None, video_id: str) -> tuple[NDArray[np.float64], ...]:
        """`(n, 3)` for each user: start, end and value of the annotations of the video.

        With `user_id` None those of all users who annotated the video.
        """
        users = self._by_video.get(video_id, {})
        if user_id is None:
            return tuple(users.values())
        return (users[user_id],) if user_id in users else ()

    def highlights(self, user_id: str | None, video_id: str) -> Intervals:
        """The union of all annotated intervals with a value above 0; read-only."""
        found = self._unions.get((user_id, video_id))
        if found is not None:
            return found
        positive = [rows[rows[:, 2] > 0, :2] for rows in self.annotations(user_id, video_id)]
        if not positive:
            return NO_INTERVALS
        made = union(np.concatenate(positive))
        made.flags.writeable = False  # all who ask share it
        self._unions[user_id, video_id] = made
        return made


def position_labels(
    spans: Intervals, annotations: Sequence[NDArray[np.float64]]
) -> NDArray[np.float32]:
    """`(n,)`: the label of each span, averaged over the users; 0 without an annotation.

    `annotations` holds `(m, 3)` start, end and value for each user.
    """
    if not annotations:
        return np.zeros(len(spans), np.float32)
    by_user = [_user_labels(spans, rows) for rows in annotations]
    return np.asarray(np.mean(by_user, axis=0), np.float32)


def _user_labels(spans: Intervals, annotations: NDArray[np.float64]) -> NDArray[np.float64]:
    labels = np.zeros(len(spans))
    needed = COVERED_SHARE * (spans[:, 1] - spans[:, 0])
    # `np.unique` ascends, so the highest value that covers a span is written last.
    for value in np.unique(annotations[:, 2]):
        intervals = annotations[annotations[:, 2] == value, :2]
        covered = covered_seconds(spans, union(intervals))
        labels[covered > needed] = value
    return labels


def draw_pairs(
    positive: NDArray[np.bool_], negative: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """`(count, 2)` positions of a highlight and of a non-highlight; all -1 if either is missing.

    A position repeats only after all others of its kind were drawn.
    """
    # Without both kinds nothing is drawn, and the generator stays as it is.
    highlights, others = np.flatnonzero(positive), np.flatnonzero(negative)
    if not len(highlights) or not len(others):
        return np.full((count, 2), -1)
    return np.stack([_draw_evenly(highlights, count, rng), _draw_evenly(others, count, rng)], 1)


def _draw_evenly(places: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = math.ceil(count / len(places))
    # The empty array keeps `count` = 0 valid: `concatenate` needs at least one array.
    drawn = np.concatenate([places[:0], *(rng.permutation(places) for _ in range(rounds))])
    return drawn[:count].astype(np.int64)
