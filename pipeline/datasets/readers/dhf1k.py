"""DHF1K, 1,000 videos with people's gaze: which videos there are, and how many frames each was
annotated with.

What people looked at is a picture for each frame, `annotation/0001/maps/0001.png`; those stay where
they lie, and only their names are read: the number of maps is the number of frames. So there are no
marks here. Grouping: `dhf1k`, 1 to 600 train, 601 to 700 validation, 701 to 1000 test, whose maps
are withheld. A video is called as its maps' folder is, `0001`, and is looked for as `001` too, as
its file is called.

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
    """Read `{"annotations": paths of all maps, one a line}`. Raises `SettingsError` if no line is
    one.
    """
    require_sources(sources, NAME, "annotations")
    maps: dict[int, set[int]] = defaultdict(set)
    builder = DatasetBuilder(NAME)
    builder.always_list(
        "dropped:other_path", "maps_not_numbered_from_1", "no_maps", "map_of_no_video"
    )
    for line in sources["annotations"].decode("utf-8", "replace").splitlines():
        if match := _MAP.fullmatch(line):
            maps[int(match[1])].add(int(match[2]))
        else:
            builder.oddities["dropped:other_path"].append(line)
    if not maps:
        others = builder.oddities["dropped:other_path"]
        got = (
            f"{len(others):,} other lines, such as {quote_value(others[0])}"
            if others
            else "no line"
        )
        raise SettingsError(
            (
                f"no path in the listing of {NAME} looks like annotation/0001/maps/0001.png; got {got}",
            )
        )
    for part, first, last in PARTS:
        for number in range(first, last + 1):
            _add(number, part, maps.pop(number, set()), builder)
    builder.oddities["map_of_no_video"] += [f"{number:04d}" for number in maps]
    return builder.build(sources, name=name, shard_count=shard_count, time_unit="frames")


def _add(number: int, part: str, frames: set[int], builder: DatasetBuilder) -> None:
    video_id, file_name = f"{number:04d}", f"{number:03d}"
    if not frames and part != "test":
        builder.oddities["no_maps"].append(video_id)
    if frames != set(range(1, len(frames) + 1)):
        builder.oddities["maps_not_numbered_from_1"].append(video_id)
    count = len(frames) or None
    builder.videos.append(
        Video(video_id, None, count, count, () if file_name == video_id else (file_name,))
    )
    builder.groups.append(Group("dhf1k", part, video_id))
