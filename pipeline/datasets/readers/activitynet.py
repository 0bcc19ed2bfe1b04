"""Reads ActivityNet v1.3 by the five categories of set-based learning.

Its files are the localisation JSON, a map from labels to categories, and a list of videos. An
annotator is `category/label` (`sport/Long jump`), so that the marks of a category are those whose
annotator begins with its name. Values are 1; times are seconds. Groupings: `domain`, the categories
of a video's marks (a video with several counts in each); `set_learning`, where ActivityNet's
training subset is train and its validation subset is test.

Sources: http://activity-net.org (`activity_net.v1-3.min.json`); https://github.com/ChrisAllenMing/
Cross_Category_Video_Highlight (`label_dict.json`, and `ActivityNet_vids.txt`, the 3,316 videos that
work uses).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.parsing.tables import DatasetBuilder, parse_json, require_sources
from storage.base.errors import SettingsError
from storage.base.records import VIDEO_ID, Annotation, Group, Video

NAME = "ActivityNet"
PARTS = {"training": "train", "validation": "test"}
"""Published subset → group of `set_learning`."""


def read_activitynet(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": localisation JSON, "labels": label_dict.json, "videos": list}`.

    Without `videos`, every video of the subsets with a mark of some category is taken. Raises
    `SettingsError` if a source is invalid, or no video is usable.
    """
    require_sources(sources, NAME, "annotations", "labels")
    database = _field(sources["annotations"], "database", f"the localisation JSON of {NAME}")
    categories = _field(sources["labels"], "label_dict", f"the label map of {NAME}")
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:bad_name",
        "dropped:bad_video_id",
        "dropped:not_in_the_json",
        "dropped:other_subset",
        "dropped:no_category",
        "dropped:bad_times",
        "dropped:label_without_category",
        "ends_after_duration",
        "several_categories",
        "duration_unknown",
    )
    video_ids: Iterable[str] = sorted(map(str, database))
    if "videos" in sources:
        video_ids = _listed_ids(sources["videos"], builder)
    for video_id in video_ids:
        if not VIDEO_ID.fullmatch(video_id):
            builder.oddities["dropped:bad_video_id"].append(video_id)
        elif not isinstance(database.get(video_id), dict):
            builder.oddities["dropped:not_in_the_json"].append(video_id)
        else:
            _read_video(video_id, database[video_id], categories, builder)
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="seconds")


def _field(content: bytes, field: str, what: str) -> dict[str, Any]:
    table = parse_json(content, what)
    value = table.get(field) if isinstance(table, dict) else None
    if not isinstance(value, dict):
        raise SettingsError((f"{what} has no table {field!r}",))
    return value


def _listed_ids(content: bytes, builder: DatasetBuilder) -> Iterator[str]:
    """Video IDs of a list of file names, `v_<id>.mp4` each."""
    lines = content.decode("utf-8", "replace").split()
    for line in dict.fromkeys(lines):
        # A name may have no ending.
        stem = line.rpartition(".")[0] or line
        if stem.startswith("v_"):
            yield stem.removeprefix("v_")
        else:
            builder.oddities["dropped:bad_name"].append(line)


def _read_video(
    video_id: str, entry: Mapping[str, Any], categories: Mapping[str, Any], builder: DatasetBuilder
) -> None:
    subset = entry.get("subset")
    if subset not in PARTS:
        builder.oddities["dropped:other_subset"].append(f"{video_id} {subset}")
        return
    duration = _positive_duration(entry.get("duration"))
    if duration is None:
        builder.oddities["duration_unknown"].append(video_id)
    rows = entry.get("annotations") or []
    marks = list(_marks(video_id, rows, categories, builder))
    if not marks:
        builder.oddities["dropped:no_category"].append(video_id)
        return
    _list_overruns(marks, duration, builder)
    # A video with marks of several categories is evaluated in each of them.
    domains = sorted({mark.annotator.partition("/")[0] for mark in marks})
    if len(domains) > 1:
        builder.oddities["several_categories"].append(f"{video_id} {' '.join(domains)}")
    builder.videos.append(Video(video_id, duration))
    builder.groups += [Group("domain", domain, video_id) for domain in domains]
    builder.groups.append(Group("set_learning", PARTS[str(subset)], video_id))
    builder.annotations += marks


def _list_overruns(
    marks: Sequence[Annotation], duration: float | None, builder: DatasetBuilder
) -> None:
    """List the marks that end after a known duration."""
    if duration is None:
        return
    for mark in marks:
        if mark.end > duration:
            case = f"{mark.video_id} {mark.start} {mark.end}"
            builder.oddities["ends_after_duration"].append(case)


def _positive_duration(value: Any) -> float | None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        return None
    return float(value)


def _marks(
    video_id: str, rows: Any, categories: Mapping[str, Any], builder: DatasetBuilder
) -> Iterator[Annotation]:
    for row in rows:
        label = str(row.get("label"))
        segment = row.get("segment")
        span = _span(segment)
        if label not in categories:
            builder.oddities["dropped:label_without_category"].append(f"{video_id} {label}")
        elif span is None:
            builder.oddities["dropped:bad_times"].append(f"{video_id} {label} {segment}")
        else:
            yield Annotation(video_id, f"{categories[label]}/{label}", *span)


def _span(segment: Any) -> tuple[float, float] | None:
    """Start and end in seconds, `0 <= start < end`; None if `segment` does not hold these."""
    if not isinstance(segment, list):
        return None
    numbers = []
    for value in segment:
        if isinstance(value, int | float):
            numbers.append(float(value))
    if len(numbers) != 2:
        return None
    start, end = numbers
    is_span = 0 <= start < end < math.inf
    return (start, end) if is_span else None
