"""Which published datasets can be read: one row each.

Knows names, citations and which function reads what. Refuses to know where this machine keeps anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.catalogs.phd2 import survey_phd2
from pipeline.catalogs.survey import ReadSurvey
from storage.errors import LookupFailed


@dataclass(frozen=True)
class CatalogSpec:
    """One row: a dataset that can become a catalog."""

    description: str
    citation: str
    url: str
    """Where its authors publish it; empty if it is made here."""
    files: Mapping[str, str]
    """Split → the published file's name. A split may be absent."""
    read: ReadSurvey


CATALOGS: dict[str, CatalogSpec] = {
    "phd2": CatalogSpec(
        description="GIFs that 13,822 people cut from 119,938 YouTube videos; the last video of each is the target",
        citation="Garcia del Molino and Gygli, PHD-GIFs: Personalized Highlight Detection for Automatic GIF Creation, "
        "ACM Multimedia 2018",
        url="https://github.com/gyglim/personalized-highlights-dataset",
        files={"train": "training.csv", "test": "testing.csv"},
        read=survey_phd2,
    ),
    "sample": CatalogSpec(
        description="two minutes of drawn video with planted preferences, in PHD2's format",
        citation="none: it is drawn by pipeline.catalogs.sample",
        url="",
        files={"train": "training.csv", "test": "testing.csv"},
        read=survey_phd2,
    ),
    "sample-large": CatalogSpec(
        description="the same with half an hour of video and 80 users, for trying models",
        citation="none: it is drawn by pipeline.catalogs.sample",
        url="",
        files={"train": "training.csv", "test": "testing.csv"},
        read=survey_phd2,
    ),
}
"""Dataset → how it is read."""


def catalog_spec(name: str) -> CatalogSpec:
    """The row of that name; raises `LookupFailed` listing the names there are."""
    if name not in CATALOGS:
        raise LookupFailed(f"no dataset is called {name!r}; known are {', '.join(sorted(CATALOGS))}")
    return CATALOGS[name]
