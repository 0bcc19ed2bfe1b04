"""Reads DHF1K, 1,000 videos with people's gaze: its videos, and each one's number of frames.

Where people looked is a picture for each frame, `annotation/0001/maps/0001.png`. Only the names of
these pictures are read, and the pictures stay where they are: the number of maps is the number of
frames. So the catalog has no marks. Grouping: `dhf1k`, where 1 to 600 are train, 601 to 700
validation and 701 to 1000 test, whose maps are withheld. A video is named after the folder of its
maps, `0001`; its file may be named `001`, so that name is looked for too.

Source: https://github.com/wenguanwang/DHF1K.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset, quote_value
from pipeline.datasets.parsing.tables import DatasetBuilder, require_sources
from storage.base.errors import SettingsError
from storage.base.records import Group, Video

NAME = "DHF1K"
FILES = r"(?:annotation/)?[0-9]{4}/maps/[0-9]{4}\.png"
"""The published paths whose names are read."""
PARTS = (("train", 1, 600), ("validation", 601, 700), ("test", 701, 1000))
_MAP = re.compile(r"(?:annotation/)?([0-9]{4})/maps/([0-9]{4})\.png")


def read_dhf1k(
    sources: Mapping[str, bytes], *, name: str, shard_count: int | None = None
) -> ParsedDataset:
    """Read `{"annotations": paths of all maps, one per line}`.

    Raises `SettingsError` if no line is such a path.
    """
    require_sources(sources, NAME, "annotations")
    maps: dict[int, set[int]] = defaultdict(set)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:other_path", "maps_not_numbered_from_1", "no_maps", "map_of_no_video"
    )
    for line in sources["annotations"].decode("utf-8", "replace").splitlines():
        match = _MAP.fullmatch(line)
        if match:
            maps[int(match[1])].add(int(match[2]))
        else:
            builder.oddities["dropped:other_path"].append(line)
    if not maps:
        raise SettingsError((_no_maps(builder.oddities["dropped:other_path"]),))
    for part, first, last in PARTS:
        for number in range(first, last + 1):
            _add_video(number, part, maps.pop(number, set()), builder)
    # What is left belongs to numbers above 1000.
    builder.oddities["map_of_no_video"] += [f"{number:04d}" for number in maps]
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _no_maps(other_lines: list[str]) -> str:
    got = "no line"
    if other_lines:
        got = f"{len(other_lines):,} other lines, such as {quote_value(other_lines[0])}"
    return f"no path in the listing of {NAME} looks like annotation/0001/maps/0001.png; got {got}"


def _add_video(number: int, part: str, frames: set[int], builder: DatasetBuilder) -> None:
    video_id, file_name = f"{number:04d}", f"{number:03d}"
    if not frames and part != "test":
        builder.oddities["no_maps"].append(video_id)
    if frames != set(range(1, len(frames) + 1)):
        builder.oddities["maps_not_numbered_from_1"].append(video_id)
    n_frames = len(frames) or None
    # From 1000 on, both names are the same.
    alternative_ids = () if file_name == video_id else (file_name,)
    builder.videos.append(Video(video_id, None, n_frames, n_frames, alternative_ids))
    builder.groups.append(Group("dhf1k", part, video_id))
