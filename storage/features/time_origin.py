"""The time origin of stored rows, and the rule that two origins are never mixed.

Parts of format version 1 count seconds on each stream's own clock, all others from the container's
start, as players count. Both are the same where a clock begins at 0. Otherwise the two would assign
a label to different rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from storage.base.errors import SettingsError
from storage.base.records import CONTAINER_START, STREAM_CLOCK

MEANINGS = {
    CONTAINER_START: "seconds since the container's start, as players count",
    STREAM_CLOCK: (
        "seconds on each stream's own clock, as releases with format version 1 stored them"
    ),
}


def refuse_to_extend(catalog: Path, origins: Mapping[str, Collection[str]]) -> None:
    """Raise SettingsError if a catalog holds rows that new rows may not be added to.

    `origins` has the time origins of each of its variants, by full name.
    """
    old = sorted(name for name, found in origins.items() if STREAM_CLOCK in found)
    if old:
        fault = (
            f"{catalog} holds features ({', '.join(old)}) whose times are "
            f"{MEANINGS[STREAM_CLOCK]}; times are now {MEANINGS[CONTAINER_START]}, and one catalog "
            f"never mixes both. `python -m pipeline rebase {catalog}` converts them: videos whose "
            "clock began at 0 keep their rows, and the others are marked to be built again; or "
            "build into another data root"
        )
        raise SettingsError((fault,))


def common_origin(origins: Mapping[str, Collection[str]], purpose: str) -> str:
    """The one time origin of all these features; `CONTAINER_START` if there are none.

    `origins` has the time origins of each source, by the name that a message gives it.

    Raises:
        SettingsError: there are two.
    """
    different = sorted(set().union(*origins.values()))
    if not different:
        return CONTAINER_START
    if len(different) == 1:
        return different[0]
    descriptions: list[str] = []
    for name, found in origins.items():
        descriptions += [f"{name} has {MEANINGS[origin]}" for origin in sorted(found)]
    fault = (
        f"{purpose} cannot mix times that count from different origins: {'; '.join(descriptions)}. "
        "`python -m pipeline rebase ROOT/CATALOG` converts features of format version 1"
    )
    raise SettingsError((fault,))
