"""Annotated segments in, instants of the stream out: where a segment lies in this file, and which
pictures show it.

Arithmetic on numbers. Refuses to know disks, decoders and networks. Annotations speak of an
original file that nobody may have any more; what is decided here about its frame numbers is
recorded with every video:

- `seconds`: annotations in seconds count from the container's start, as players do, and so do
  pictures.
- `numbered`: frame i is the i-th picture of this file, which has as many as the annotated one,
  within `AGREES_WITHIN_FRAMES`.
- `scaled`: this file has another number of pictures (another frame rate) but as long a life: frame
  i is at `i / expected` of its duration.
- `misaligned`: neither, and no row is made.

Counts are of pictures the file holds, by the times of its packets, so that a picture that does not
decode shifts no number; what did not decode is in the decoder's own account.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.extractors.base.sampling import FramesOfSegments
from storage.base.records import JSON
from storage.catalog.annotated_segments import Span

AGREES_WITHIN_FRAMES = 5
"""Programs differ by a frame or two at the ends of a video; five are a sixth of a second, and no
segment is misplaced by more.
"""
LENGTH_TOLERANCE = 0.02
LEAST_LENGTH_TOLERANCE_SECONDS = 2.0
"""A file lasts as long as the annotated one within these. Claimed lengths are often whole
seconds.
"""
RATE_TOLERANCE = 0.05
"""Where no length is claimed, so many more or fewer frames pass for another frame rate (25 for 24
is 4 %).
"""
SLACK_SECONDS = 1e-9
"""A frame this little after an instant counts as shown at it, in all samplings. Time bases tick in
microseconds or slower; float64 errs by about 1e-11 s ten hours into a video; so a nanosecond hides
every rounding and no real difference.
"""


@dataclass(frozen=True)
class PictureTimes:
    """When the pictures of a file are shown, known before any is decoded."""

    times_seconds: tuple[float, ...]
    """Rising, in seconds since the container's start; at least one."""
    end_seconds: float
    """When the last one ends."""
    declared: int | None = None
    """How many the header promises; None where it does not say."""


@dataclass(frozen=True)
class SegmentsOfVideo:
    """The sampling of one video whose rows are its annotated segments."""

    kind: ClassVar[str] = "SegmentsOfVideo"

    length_frames: int
    spread: str
    """As in `FramesOfSegments`."""
    time_unit: str
    """Of `segments`: `seconds`, or `frames` of the original file."""
    segments: tuple[Span, ...]
    """Distinct `[start, end)`, sorted."""
    frames_least: int | None = None
    """What is known of the original file's number of frames, as in `storage.base.records.Video`."""
    frames_most: int | None = None
    claimed_seconds: float | None = None
    """How long the original file is said to be."""

    def __post_init__(self) -> None:
        # Off the wire, pairs come as lists.
        object.__setattr__(self, "segments", tuple((start, end) for start, end in self.segments))

    @property
    def sampling(self) -> FramesOfSegments:
        """How frames are spread over a segment."""
        return FramesOfSegments(self.length_frames, self.spread)


@dataclass(frozen=True)
class AlignedSegment:
    """One segment in the stream."""

    segment: int
    """Its number in the video's sorted table."""
    start_seconds: float
    """Cut to the pictures where it overruns them."""
    end_seconds: float
    instants_seconds: tuple[float, ...]
    """When the pictures of its row are shown, never falling."""


@dataclass(frozen=True)
class SegmentAlignment:
    """What became of one video's segments; kept in its record."""

    clock: str
    """`seconds`, `numbered`, `scaled` or `misaligned`: see the module."""
    annotated: int
    """Segments in the table."""
    outside: int
    """Those of them that lie outside the file."""
    pictures: int
    """Pictures the file holds; if its header promises more, those it promises."""
    detail: str = ""
    """The numbers behind `scaled` and `misaligned`, and what could not be checked."""

    def record(self) -> dict[str, JSON]:
        """For the video's entry."""
        return dict(vars(self))


def align_segments(
    asked: SegmentsOfVideo, pictures: PictureTimes
) -> tuple[SegmentAlignment, tuple[AlignedSegment, ...]]:
    """Every segment that has a picture, in the table's order, and the account of all."""
    clock, detail = _clock(asked, pictures)
    placed = () if clock == "misaligned" else tuple(_places(asked, pictures, clock))
    outside = 0 if clock == "misaligned" else len(asked.segments) - len(placed)
    return SegmentAlignment(clock, len(asked.segments), outside, _count(pictures), detail), placed


def _count(pictures: PictureTimes) -> int:
    return max(len(pictures.times_seconds), pictures.declared or 0)


def _clock(asked: SegmentsOfVideo, pictures: PictureTimes) -> tuple[str, str]:
    """How annotation time is read, and why if that is not plain."""
    if asked.time_unit == "seconds":
        return "seconds", ""
    count, most = _count(pictures), asked.frames_most
    least = asked.frames_least
    if least is None:
        least = math.ceil(max((end for _, end in asked.segments), default=0))
    if (
        least - AGREES_WITHIN_FRAMES
        <= count
        <= (math.inf if most is None else most + AGREES_WITHIN_FRAMES)
    ):
        return (
            "numbered",
            ""
            if most is not None
            else f"{count} pictures, at least {least} expected; most unknown",
        )
    if least != most:
        return (
            "misaligned",
            f"{count} pictures, {least} to {most or 'any number'} expected, too vague to scale by",
        )
    return _scaled(asked, pictures, f"{count} pictures, {least} expected")


def _scaled(asked: SegmentsOfVideo, pictures: PictureTimes, told: str) -> tuple[str, str]:
    """Whether frame numbers may be scaled to the file's duration: only if nothing says that it is
    another cut.
    """
    count, found, expected = _count(pictures), len(pictures.times_seconds), asked.frames_most or 0
    if found < count - AGREES_WITHIN_FRAMES:
        return "misaligned", f"{told}, and only {found} are there"
    lasts, claimed = pictures.end_seconds - pictures.times_seconds[0], asked.claimed_seconds
    if claimed is None:
        allowed = abs(count - expected) <= RATE_TOLERANCE * expected
        return (
            "scaled" if allowed else "misaligned"
        ), f"{told}, length unknown, allowed {RATE_TOLERANCE:.0%}"
    allowed = abs(lasts - claimed) <= max(
        LEAST_LENGTH_TOLERANCE_SECONDS, LENGTH_TOLERANCE * claimed
    )
    return (
        "scaled" if allowed else "misaligned"
    ), f"{told}, {lasts:.3f} s of {claimed:g} s claimed"


def _places(asked: SegmentsOfVideo, pictures: PictureTimes, clock: str) -> list[AlignedSegment]:
    times, sampling = pictures.times_seconds, asked.sampling
    spans = np.array(asked.segments, dtype=np.float64).reshape(-1, 2)
    if clock == "numbered":
        edges = (*times, pictures.end_seconds)
        spans = np.interp(spans, np.arange(len(edges)), edges)
    elif clock == "scaled":
        spans = times[0] + spans / (asked.frames_most or 1) * (pictures.end_seconds - times[0])
    places = []
    for number, (start, end) in enumerate(np.clip(spans, times[0], pictures.end_seconds).tolist()):
        if end - start <= SLACK_SECONDS:
            continue
        first = bisect_right(times, start + SLACK_SECONDS) - 1
        behind = bisect_left(times, end - SLACK_SECONDS)
        instants = tuple(times[first + one] for one in sampling.frame_indices(behind - first))
        places.append(AlignedSegment(number, start, end, instants))
    return places
