"""Since when the seconds of stored rows count, and the rule that nothing ever mixes two origins.

Parts of format version 1 count on each stream's own clock, all others from the container's start,
as players count. Where a clock begins at 0 both are the same; in general a mark would meet other
rows. Refuses to know files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from storage.base.errors import SettingsError
from storage.base.records import CONTAINER_START, STREAM_CLOCK

MEANINGS = {
    CONTAINER_START: "seconds since the container's start, as players count",
    STREAM_CLOCK: "seconds on each stream's own clock, as releases with format version 1 stored them",
}


def refuse_to_extend(catalog: Path, origins: Mapping[str, Collection[str]]) -> None:
    """Raise SettingsError if rows that are made now may not lie beside those of a catalog.

    `origins` has the time origins of each of its variants, by full name.
    """
    old = sorted(name for name, found in origins.items() if STREAM_CLOCK in found)
    if old:
        raise SettingsError(
            (f"{catalog} holds features ({', '.join(old)}) whose times are {MEANINGS[STREAM_CLOCK]}; "
             f"times are now {MEANINGS[CONTAINER_START]}, and one catalog never mixes both. "
             f"`python -m pipeline rebase {catalog}` brings them over: videos whose clock began at 0 keep their rows, "
             "and the others are marked to be built again; or build into another data root",)
        )  # fmt: skip


def common_origin(origins: Mapping[str, Collection[str]], purpose: str) -> str:
    """The one origin of all these features; `CONTAINER_START` of none. Raises SettingsError where
    there are two.

    `origins` has the time origins of each source, by the name that a message gives it.
    """
    every = sorted({origin for found in origins.values() for origin in found})
    if len(every) > 1:
        told = "; ".join(
            f"{name} has {MEANINGS[one]}"
            for name, found in origins.items()
            for one in sorted(found)
        )
        raise SettingsError(
            (f"{purpose} cannot mix times that count from different origins: {told}. "
             "`python -m pipeline rebase ROOT/CATALOG` brings features of format version 1 over",)
        )  # fmt: skip
    return every[0] if every else CONTAINER_START
