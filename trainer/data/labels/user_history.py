"""What a model is told of a user: the elements of a history, drawn anew each epoch in training,
whole when scoring.

An element is some intervals of one video: a shot, a marked clip, or all that was marked in the
video. Refuses to know how the rows of those intervals are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.highlight.base.contract import History
from trainer.data.labels.temporal_units import history_segments
from trainer.data.labels.user_labels import UserLabels
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.settings import DataSettings

GUARANTEED_VIDEOS = 20
"""Of so many videos at least one element is drawn (PHD-GIFs section 5.3: of each of the last k =
20).
"""


@dataclass(frozen=True)
class Element:
    """Some intervals of a video of the history."""

    video_id: str
    intervals: Intervals


def video_elements(
    kind: History, marked: Intervals, video_id: str, settings: DataSettings
) -> list[Element]:
    """All elements of one video; `marked` is the union of what the user marked there."""
    if not len(marked):
        return []
    if kind == "videos":
        return [Element(video_id, marked)]
    parts = history_segments(marked, settings) if kind == "shots" else marked
    return [Element(video_id, part[None]) for part in parts]


def draw_history(
    user_id: str,
    videos: Sequence[str],
    marks: UserLabels,
    settings: DataSettings,
    *,
    most: int | None,
    rng: np.random.Generator,
) -> list[Element]:
    """At most `most` elements of these videos, at random but at least one of each of up to 20 of
    them; all if None.

    A random order never tells anything: elements come video by video, and in each by time.
    """
    groups = [
        video_elements(settings.history, marks.highlights(user_id, v), v, settings) for v in videos
    ]
    groups = [group for group in groups if group]
    if most is None or sum(map(len, groups)) <= most:
        return [element for group in groups for element in group]
    sure, spare = set(), []
    for place, number in enumerate(rng.permutation(len(groups))):
        order = [(int(number), int(item)) for item in rng.permutation(len(groups[number]))]
        if place < min(GUARANTEED_VIDEOS, most):
            sure.add(order.pop())
        spare += order
    more = rng.permutation(len(spare))[: most - len(sure)]
    chosen = sorted(sure | {spare[number] for number in more})
    return [groups[group][item] for group, item in chosen]
