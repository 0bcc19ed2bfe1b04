"""Finds where annotated segments lie in a video file, and which pictures show them.

Annotations describe an original file that may no longer exist, and the file here may differ from
it. How annotation time is mapped to this file is recorded with every video, as its `clock`:

- `seconds`: annotations in seconds count from the container's start, as players do. So do pictures.
- `numbered`: frame i is the i-th picture of this file, which has as many as the annotated one,
  within `AGREES_WITHIN_FRAMES`.
- `scaled`: this file has another number of pictures (another frame rate), but the same duration:
  frame i is at `i / expected` of its duration.
- `misaligned`: none of these holds, and no row is made.

Pictures are counted by the times of the file's packets, so that a picture that does not decode
shifts no number. Arithmetic on numbers; reads no file.
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
"""Programs count a frame or two differently at the ends of a video.

Five frames are a sixth of a second, and no segment is misplaced by more.
"""
LENGTH_TOLERANCE = 0.02
LEAST_LENGTH_TOLERANCE_SECONDS = 2.0
"""The file and the annotated one have the same duration if they differ by less than one of these.

Claimed durations are often whole seconds.
"""
RATE_TOLERANCE = 0.05
"""If no duration is claimed, this difference in frames counts as another frame rate.

25 frames per second for 24 are 4 %.
"""
SLACK_SECONDS = 1e-9
"""A frame this little after an instant counts as shown at it, in all samplings.

Time bases tick in microseconds or slower, and float64 is off by about 1e-11 s ten hours into a
video. A nanosecond thus hides every rounding and no real difference.
"""


@dataclass(frozen=True)
class PictureTimes:
    """When the pictures of a file are shown, known before any of them is decoded."""

    times_seconds: tuple[float, ...]
    """Rising, in seconds since the container's start; at least one."""
    end_seconds: float
    """When the last one ends."""
    declared: int | None = None
    """Number of pictures that the header promises; None if it does not say."""


@dataclass(frozen=True)
class SegmentsOfVideo:
    """The sampling of one video whose rows are its annotated segments."""

    kind: ClassVar[str] = "SegmentsOfVideo"

    length_frames: int
    spread: str
    """How frames are spread over a segment, as in `FramesOfSegments`."""
    time_unit: str
    """Of `segments`: `seconds`, or `frames` of the original file."""
    segments: tuple[Span, ...]
    """Distinct `[start, end)`, sorted."""
    frames_least: int | None = None
    """Bounds of the original file's number of frames, as in `storage.base.records.Video`."""
    frames_most: int | None = None
    claimed_seconds: float | None = None
    """Claimed duration of the original file."""

    def __post_init__(self) -> None:
        # A decode worker receives this as JSON, in which pairs are lists.
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
    """Clipped to the time in which the file has pictures."""
    end_seconds: float
    instants_seconds: tuple[float, ...]
    """When the pictures of its window are shown, never falling."""


@dataclass(frozen=True)
class SegmentAlignment:
    """How one video's segments were aligned. Stored with the video: never rename a field."""

    clock: str
    """`seconds`, `numbered`, `scaled` or `misaligned`; see the module's docstring."""
    annotated: int
    """Segments in the table."""
    outside: int
    """Segments of the table that lie outside the file."""
    pictures: int
    """Pictures in the file, or promised by its header if that is more."""
    detail: str = ""
    """The numbers that led to `scaled` or `misaligned`, and what could not be checked."""

    def record(self) -> dict[str, JSON]:
        """As JSON, for the video's manifest entry."""
        return dict(vars(self))


def align_segments(
    sampling: SegmentsOfVideo, pictures: PictureTimes
) -> tuple[SegmentAlignment, tuple[AlignedSegment, ...]]:
    """How the segments were aligned, and every segment that has a picture, in the table's order."""
    clock, detail = _choose_clock(sampling, pictures)
    segments: tuple[AlignedSegment, ...] = ()
    outside = 0
    if clock != "misaligned":
        segments = tuple(_locate(sampling, pictures, clock))
        outside = len(sampling.segments) - len(segments)
    count = _picture_count(pictures)
    alignment = SegmentAlignment(clock, len(sampling.segments), outside, count, detail)
    return alignment, segments


def _picture_count(pictures: PictureTimes) -> int:
    # Annotations number the pictures of the whole video, including those that were cut off.
    return max(len(pictures.times_seconds), pictures.declared or 0)


def _choose_clock(sampling: SegmentsOfVideo, pictures: PictureTimes) -> tuple[str, str]:
    """The clock of the annotations, and the numbers that led to it."""
    if sampling.time_unit == "seconds":
        return "seconds", ""
    count, least, most = _picture_count(pictures), sampling.frames_least, sampling.frames_most
    if least is None:
        # The original file has at least the frames that were annotated.
        last_frame = max((end for _, end in sampling.segments), default=0)
        least = math.ceil(last_frame)
    upper = math.inf if most is None else most + AGREES_WITHIN_FRAMES
    if least - AGREES_WITHIN_FRAMES <= count <= upper:
        if most is None:
            return "numbered", f"{count} pictures, at least {least} expected; most unknown"
        return "numbered", ""
    # Scaling needs the exact number of frames of the original file.
    if least != most:
        expected = f"{least} to {most or 'any number'} expected"
        return "misaligned", f"{count} pictures, {expected}, too vague to scale by"
    return _scale_or_reject(sampling, pictures, f"{count} pictures, {least} expected")


def _scale_or_reject(
    sampling: SegmentsOfVideo, pictures: PictureTimes, difference: str
) -> tuple[str, str]:
    """`scaled` if nothing shows that the file is another cut of the video, else `misaligned`."""
    count, present = _picture_count(pictures), len(pictures.times_seconds)
    expected = sampling.frames_most or 0
    # Of a file that was cut, the duration says nothing about the frame rate.
    if present < count - AGREES_WITHIN_FRAMES:
        return "misaligned", f"{difference}, and only {present} are there"
    claimed = sampling.claimed_seconds
    if claimed is None:
        is_same_cut = abs(count - expected) <= RATE_TOLERANCE * expected
        reason = f"length unknown, allowed {RATE_TOLERANCE:.0%}"
    else:
        seconds = pictures.end_seconds - pictures.times_seconds[0]
        tolerance = max(LEAST_LENGTH_TOLERANCE_SECONDS, LENGTH_TOLERANCE * claimed)
        is_same_cut = abs(seconds - claimed) <= tolerance
        reason = f"{seconds:.3f} s of {claimed:g} s claimed"
    return "scaled" if is_same_cut else "misaligned", f"{difference}, {reason}"


def _locate(sampling: SegmentsOfVideo, pictures: PictureTimes, clock: str) -> list[AlignedSegment]:
    """Every segment that has a picture, clipped to the time in which the file has pictures."""
    times = pictures.times_seconds
    first_seconds, end_seconds = times[0], pictures.end_seconds
    spans = np.array(sampling.segments, dtype=np.float64).reshape(-1, 2)
    if clock == "numbered":
        # Annotated frame numbers may be fractions: between two pictures, time is interpolated.
        edges = (*times, end_seconds)
        spans = np.interp(spans, np.arange(len(edges)), edges)
    elif clock == "scaled":
        spans = first_seconds + spans / (sampling.frames_most or 1) * (end_seconds - first_seconds)
    segments = []
    clipped = np.clip(spans, first_seconds, end_seconds).tolist()
    for number, (start, end) in enumerate(clipped):
        if end - start <= SLACK_SECONDS:
            continue
        # The picture on screen at the start, up to the last that is shown before the end.
        first = bisect_right(times, start + SLACK_SECONDS) - 1
        behind = bisect_left(times, end - SLACK_SECONDS)
        chosen = sampling.sampling.frame_indices(behind - first)
        instants = tuple(times[first + offset] for offset in chosen)
        segments.append(AlignedSegment(number, start, end, instants))
    return segments
