"""Every extractor there is. To add one: write its file beside this one, import its SPEC, add a row."""

from __future__ import annotations

from models.extractors import c3d, frames
from models.extractors.spec import ExtractorSpec

EXTRACTORS: dict[str, ExtractorSpec] = {
    "c3d": c3d.SPEC,
    "frames": frames.SPEC,
}


def extractor(name: str) -> ExtractorSpec:
    """The row of that name; KeyError lists the names there are."""
    if name not in EXTRACTORS:
        raise KeyError(f"no extractor is called {name!r}; there are {', '.join(sorted(EXTRACTORS))}")
    return EXTRACTORS[name]
