"""User histories: their elements, drawn anew each epoch in training, complete when scoring.

An element is some intervals of one video: a shot, a labelled clip, or everything that the user
labelled in the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.highlight.base.contract import History
from trainer.data.labels.temporal_units import history_segments
from trainer.data.sources.intervals import Intervals
from trainer.data.sources.settings import DataSettings

GUARANTEED_VIDEOS = 20
"""From so many videos at least one element is drawn each (PHD-GIFs section 5.3: k = 20)."""
_ELEMENT_BYTES = 512


@dataclass(frozen=True)
class Element:
    """Some intervals of one video of the history."""

    video_id: str
    intervals: Intervals


@dataclass(frozen=True)
class VideoElements:
    """All elements of one video of a history."""

    elements: tuple[Element, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in memory: each element is an object with an array of its own."""
        return _ELEMENT_BYTES * len(self.elements)


def video_elements(
    kind: History, highlights: Intervals, video_id: str, settings: DataSettings
) -> VideoElements:
    """All elements of one video; `highlights` is the union of what the user labelled there."""
    if not len(highlights):
        return VideoElements(())
    if kind == "videos":
        return VideoElements((Element(video_id, highlights),))
    clips = history_segments(highlights, settings) if kind == "shots" else highlights
    return VideoElements(tuple(Element(video_id, clip[None]) for clip in clips))


def draw_history(
    videos: Sequence[VideoElements], *, most: int | None, rng: np.random.Generator
) -> list[Element]:
    """At most `most` random elements of these videos, one or more of each of up to 20 videos.

    With `most` None, or with no more elements than that, all of them. They are ordered by video
    and then by time, so that their order carries no information.
    """
    groups = [video.elements for video in videos if video.elements]
    if most is None or sum(map(len, groups)) <= most:
        return [element for elements in groups for element in elements]
    chosen = _draw_places([len(elements) for elements in groups], most, rng)
    return [groups[group][item] for group, item in chosen]


def _draw_places(
    sizes: Sequence[int], most: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """`most` places `(group, item)`, ascending, of groups of these sizes.

    The groups are visited in random order, and the items of each in random order too:

        sizes = [3, 1, 4], most = 4

        visit  group   items in random order   guaranteed   remaining
        1st    2       3  0  2  1              (2, 1)       (2, 3) (2, 0) (2, 2)
        2nd    0       1  2  0                 (0, 0)       (0, 1) (0, 2)
        3rd    1       0                       (1, 0)

        guaranteed: the last item of each of the first min(20, most) groups     3 places
        drawn:      most - 3 of `remaining`, at random                          1 place
    """
    guaranteed: set[tuple[int, int]] = set()
    remaining: list[tuple[int, int]] = []
    guaranteed_groups = min(GUARANTEED_VIDEOS, most)
    for visit, group in enumerate(rng.permutation(len(sizes))):
        places = [(int(group), int(item)) for item in rng.permutation(sizes[group])]
        if visit < guaranteed_groups:
            guaranteed.add(places.pop())
        remaining += places
    drawn = rng.permutation(len(remaining))[: most - len(guaranteed)]
    return sorted(guaranteed | {remaining[number] for number in drawn})
