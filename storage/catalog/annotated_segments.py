"""The annotated segments of a catalog as a table: what a row of segment-shaped features is numbered
by.

Segment `k` of a video is the k-th of its distinct annotated `[start, end)`, sorted by start, then
end; who marked it, and how often, does not matter. Refuses to know how frames are chosen inside
one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.base.fingerprint import canonical_json
from storage.base.records import CONTAINER_START, JSON, Annotation, Video

Span = tuple[float, float]


@dataclass(frozen=True)
class SegmentTable:
    """The segments of all videos of a catalog. Equal tables have equal digests, and only those."""

    time_unit: str
    """`seconds`, or `frames` of an original file."""
    sha256: str
    """Over everything that decides which frames make a row: unit, segments, and for `frames` the
    counts and lengths.
    """
    segments: Mapping[str, tuple[Span, ...]] = field(compare=False, repr=False)
    """Video id → its segments, sorted. A video without an annotation is not named."""
    videos: Mapping[str, Video] = field(compare=False, repr=False)
    """Video id → what its annotations say of the original file."""

    def description(self) -> dict[str, JSON]:
        """What settings.json says of the table."""
        described: dict[str, JSON] = {"sha256": self.sha256, "time_unit": self.time_unit}
        # Where an annotated second lies in a file depends on where seconds begin.
        return described | ({"time_origin": CONTAINER_START} if self.time_unit == "seconds" else {})


def segment_table(
    time_unit: str, videos: Iterable[Video], annotations: Iterable[Annotation]
) -> SegmentTable:
    """The table of these annotations, in whatever order they come."""
    distinct: dict[str, set[Span]] = {}
    for row in annotations:
        distinct.setdefault(row.video_id, set()).add((row.start + 0.0, row.end + 0.0))
    segments = {video_id: tuple(sorted(spans)) for video_id, spans in distinct.items()}
    named = {video.video_id: video for video in videos if video.video_id in segments}
    content: dict[str, object] = {"time_unit": time_unit, "segments": segments}
    if time_unit == "frames":
        content["originals"] = {
            video_id: (video.claimed_duration_seconds, video.frames_least, video.frames_most)
            for video_id, video in named.items()
        }
    return SegmentTable(
        time_unit, hashlib.sha256(canonical_json(content)).hexdigest(), segments, named
    )
