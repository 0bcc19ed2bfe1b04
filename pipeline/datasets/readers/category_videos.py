"""Reads the table of the synthetic category videos into a catalog."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import DatasetBuilder, require_sources
from storage.base.errors import SettingsError
from storage.base.records import Annotation, Group, Video

NAME = "category sample"
SEGMENTS = "segments.csv"
COLUMNS = ("video_id", "domain", "part", "start", "end", "label", "manner", "bystander")
# The dataset has the form of YouTube Highlights, so that its recipes apply: hence these names.
ANNOTATOR = "match"
GROUPING = "vlist_sel"
SEGMENT_SECONDS = 3.0
"""Long enough that the 32 frames of TASED-Net lie in one segment."""


def read_category_sample(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"segments": segments.csv}`. Raises `SettingsError` if the table is invalid."""
    require_sources(sources, NAME, "segments")
    builder = DatasetBuilder(NAME)
    ends: dict[str, float] = {}
    for video_id, domain, part, start, end, label in _read(sources["segments"]):
        builder.annotations.append(Annotation(video_id, ANNOTATOR, start, end, label))
        builder.groups += [Group("domain", domain, video_id), Group(GROUPING, part, video_id)]
        ends[video_id] = max(end, ends.get(video_id, 0.0))
    builder.videos += [Video(video_id, end) for video_id, end in ends.items()]
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="seconds")


def segment_span(place: int) -> tuple[float, float]:
    """Start and end in seconds of the segment at that position."""
    return place * SEGMENT_SECONDS, (place + 1) * SEGMENT_SECONDS


def _read(content: bytes) -> Iterator[tuple[str, str, str, float, float, float]]:
    reader = csv.reader(io.StringIO(content.decode(errors="replace"), newline=""), strict=True)
    if tuple(next(reader, ())) != COLUMNS:
        raise SettingsError((f"the segments of a {NAME} start with {','.join(COLUMNS)}",))
    for line in reader:
        try:
            video_id, domain, part, *numbers = line[:6]
            start, end, label = map(float, numbers)
        except ValueError as error:
            raise SettingsError(
                (f"line {reader.line_num} of {SEGMENTS} is not a segment: {error}",)
            ) from error
        yield video_id, domain, part, start, end, label
