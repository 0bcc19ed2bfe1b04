"""The annotated segments of a catalog, numbered per video: one feature row per segment uses these.

Segment `k` of a video is the k-th of its distinct annotated `[start, end)`, sorted by start, then
end. Who annotated it, and how often, does not matter.
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
    """The segments of all videos of a catalog. Tables are equal exactly if their digests are."""

    time_unit: str
    """`seconds`, or `frames` of an original file."""
    sha256: str
    """Over everything that decides which frames make a row.

    That is the unit and the segments, and for `frames` also the videos' frame counts and durations.
    """
    segments: Mapping[str, tuple[Span, ...]] = field(compare=False, repr=False)
    """Video id → its segments, sorted. Videos without an annotation are left out."""
    videos: Mapping[str, Video] = field(compare=False, repr=False)
    """Video id → its row in the catalog, with what is known of the original file."""

    def description(self) -> dict[str, JSON]:
        """The table's entry in settings.json."""
        described: dict[str, JSON] = {"sha256": self.sha256, "time_unit": self.time_unit}
        if self.time_unit == "seconds":
            # Where an annotated second lies in a file depends on where its seconds begin.
            described["time_origin"] = CONTAINER_START
        return described


def segment_table(
    time_unit: str, videos: Iterable[Video], annotations: Iterable[Annotation]
) -> SegmentTable:
    """The table of these annotations, which may come in any order."""
    segments = _distinct_segments(annotations)
    # Only annotated videos: a new video without labels must not change the digest, which is in the
    # fingerprint of every variant with such rows.
    annotated = {video.video_id: video for video in videos if video.video_id in segments}
    content: dict[str, object] = {"time_unit": time_unit, "segments": segments}
    if time_unit == "frames":
        # Frame numbers are placed by the counts and the duration of the original file.
        content["originals"] = {
            video_id: (video.claimed_duration_seconds, video.frames_least, video.frames_most)
            for video_id, video in annotated.items()
        }
    sha256 = hashlib.sha256(canonical_json(content)).hexdigest()
    return SegmentTable(time_unit, sha256, segments, annotated)


def _distinct_segments(annotations: Iterable[Annotation]) -> dict[str, tuple[Span, ...]]:
    distinct: dict[str, set[Span]] = {}
    for row in annotations:
        # Adding 0.0 turns -0.0 into 0.0, which is spelled otherwise in JSON.
        span = (row.start + 0.0, row.end + 0.0)
        distinct.setdefault(row.video_id, set()).add(span)
    return {video_id: tuple(sorted(spans)) for video_id, spans in distinct.items()}
