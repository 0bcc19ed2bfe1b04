"""Ids for videos that others name: a name becomes an id by a fixed rule, or is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from storage.base.records import METADATA_VALUE, VIDEO_ID

NAMED_AS = "imported_name"
"""Metadata of a video whose id is not its published name: that name."""
_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def id_of(name: str) -> str:
    """The id for a name: every character but A-Z a-z 0-9 _ - becomes `_`.

    QVHighlights' `RoripwjYFp8_360.0_510.0` becomes `RoripwjYFp8_360_0_510_0`.

    Raises:
        ValueError: the name is empty, too long, or not text.
    """
    if not METADATA_VALUE.fullmatch(name):
        raise ValueError("its name is not text that can be recorded")
    video_id = _OTHER.sub("_", name)
    if not VIDEO_ID.fullmatch(video_id):
        raise ValueError(f"its name has {len(name)} characters; an id has 1 to 64")
    return video_id


def ids_of(names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Name → id, and name → why it has none. Names that would share an id are all refused."""
    ids: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            ids[name] = id_of(name)
        except ValueError as error:
            refused[name] = str(error)
    counts: Mapping[str, int] = Counter(ids[name] for name in names if name in ids)
    shared = [name for name in ids if counts[ids[name]] > 1]
    for name in shared:
        refused[name] = f"{counts[ids[name]]} files would become the id {ids[name]}"
        del ids[name]
    return ids, refused
