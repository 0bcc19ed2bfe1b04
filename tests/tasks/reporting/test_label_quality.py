"""Annotations beyond the end of their decoded video are counted."""

from __future__ import annotations

from storage.base.records import Annotation, Video
from storage.base.video_status import DONE
from storage.catalog.catalog import Catalog
from storage.features.manifest import ManifestEntry
from tasks.reporting.data_quality import QualityNotes, decoded_end
from tasks.reporting.label_quality import label_lines

ROWS = [
    Annotation("one", "anna", 1.0, 2.0),
    Annotation("one", "ben", 2.0, 99.0),  # begins inside
    Annotation("one", "carl", 3.5, 4.0),
    Annotation("two", "anna", 100.0, 120.0),
    Annotation("not_built", "anna", 100.0, 120.0),
]


def catalog(unit: str) -> Catalog:
    videos = [Video(name) for name in ("one", "two", "not_built")]
    return Catalog("mine", videos, [], [], ROWS, 1, unit)


def notes(**ends: str) -> list[QualityNotes]:
    return [QualityNotes({}, {}, {}, {}, ends)]


def test_those_that_begin_after_the_end_are_counted() -> None:
    first, *examples = label_lines(catalog("seconds"), notes(one="3.500", two="3.000"))
    assert "NOTE 2 of 5 annotations, of 2 videos, begin where the decoded video has ended" in first
    assert examples == [
        "      one: 3.5 to 4 s of a video of 3.5 s, by carl",
        "      two: 100 to 120 s of a video of 3 s, by anna",
    ]


def test_nothing_is_said_without_a_reason() -> None:
    assert list(label_lines(catalog("seconds"), notes(one="200.0", two="200.0"))) == []
    assert list(label_lines(catalog("frames"), notes(two="3.0"))) == []


def test_the_end_comes_from_the_facts_of_a_finished_video() -> None:
    assert decoded_end(ManifestEntry(DONE, facts={"decode": {"end_seconds": 12.5}})) == "12.500"
    assert decoded_end(ManifestEntry(DONE)) == ""
