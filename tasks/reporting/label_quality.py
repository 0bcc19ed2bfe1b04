"""Annotations that lie beyond the end of their decoded video, where they label nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from storage.base.records import Annotation
from storage.catalog.catalog import Catalog
from tasks.reporting.data_quality import QualityNotes

EXAMPLES = 3


def label_lines(catalog: Catalog, notes: Sequence[QualityNotes]) -> Iterator[str]:
    """A NOTE with the number of these annotations and the first few; nothing if there is none.

    Only for catalogs in seconds: frame numbers are of the annotators' own copies of the videos.
    """
    if catalog.time_unit != "seconds":
        return
    ends: dict[str, float] = {}
    for one in notes:
        ends |= {video_id: float(seconds) for video_id, seconds in one.ends.items()}
    beyond = _beyond_the_end(catalog, ends)
    if not beyond:
        return
    videos = len({row.video_id for row in beyond})
    yield (
        f"  NOTE {len(beyond):,} of {len(catalog.annotations):,} annotations, of {videos:,} "
        "videos, begin where the decoded video has ended, so they label nothing: correct their "
        "times, or take another copy of the video"
    )
    for row in beyond[:EXAMPLES]:
        where = f"{row.start:g} to {row.end:g} s of a video of {ends[row.video_id]:g} s"
        yield f"      {row.video_id}: {where}, by {row.annotator}"


def _beyond_the_end(catalog: Catalog, ends: Mapping[str, float]) -> list[Annotation]:
    return [row for row in catalog.annotations if row.start >= ends.get(row.video_id, row.end)]
