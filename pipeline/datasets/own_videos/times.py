"""Times as people write them in tables."""

from __future__ import annotations

import math
import re

_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_SECONDS = re.compile(r"\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?\s*s?")


def parse_seconds(text: str) -> float:
    """Seconds from `12.5`, `12,5`, `12.5 s`, `1:02.5` or `1:02:03`.

    Raises ValueError for a negative time, and for anything else.
    """
    stripped = text.strip()
    if clock := _CLOCK.fullmatch(stripped):
        hours, minutes, seconds = clock[1] or "0", clock[2], clock[3].replace(",", ".")
        # `90:00` is an hour and a half; only a part below a larger one stays under 60.
        parts_are_small = float(seconds) < 60 and (clock[1] is None or int(minutes) < 60)
        if parts_are_small:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    elif _SECONDS.fullmatch(stripped):
        value = float(stripped.rstrip("s").strip().replace(",", "."))
        if math.isfinite(value):
            return value
    raise ValueError(f"a time is in seconds, mm:ss or h:mm:ss, got {text[:50]!r}")
