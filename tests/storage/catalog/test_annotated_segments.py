"""The table of annotated segments: what numbers a row, and what changes the table's digest."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from storage.base.records import Annotation, Video
from storage.catalog.catalog import Catalog

ROWS = (
    Annotation("b", "one", 5.0, 9.0, 1.0),
    Annotation("b", "one", 2.0, 9.0, 0.5),
    Annotation(
        "b", "two", 5.0, 9.0, -1.0
    ),  # the same segment as the first: marked twice, numbered once
    Annotation("b", "two", 5.0, 7.0),
    Annotation("a", "two", -0.5, 3.0),
)


def catalog(unit: str = "frames", **changes: Any) -> Catalog:
    made = Catalog(
        "tiny", (Video("a"), Video("b", 10.0, 250, 250), Video("c")), (), (), ROWS, 1, unit
    )
    return dataclasses.replace(made, **changes)


def test_segments_are_numbered_by_start_then_end() -> None:
    table = catalog().segments
    assert table.segments == {"a": ((-0.5, 3.0),), "b": ((2.0, 9.0), (5.0, 7.0), (5.0, 9.0))}
    assert table.videos == {"a": Video("a"), "b": Video("b", 10.0, 250, 250)}
    assert table.description() == {"sha256": table.sha256, "time_unit": "frames"}


def test_segments_in_seconds_say_since_when_seconds_count() -> None:
    table = catalog("seconds").segments
    assert table.description() == {
        "sha256": table.sha256,
        "time_unit": "seconds",
        "time_origin": "container_start",
    }


def test_neither_order_nor_opinion_changes_the_digest() -> None:
    shuffled = tuple(random.Random(3).sample(ROWS, len(ROWS)))
    opinions = tuple(
        dataclasses.replace(row, value=row.value + 1, annotator="other") for row in ROWS
    )
    for rows in (shuffled, opinions, ROWS[1:]):
        assert catalog(annotations=rows).segments == catalog().segments


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": ROWS[:-1]},
        {"annotations": (*ROWS, Annotation("c", "one", 5.0, 9.0))},
        {"annotations": (*ROWS[:-1], dataclasses.replace(ROWS[-1], end=3.0000000001))},
        {"time_unit": "seconds"},
        {"videos": (Video("a"), Video("b", 10.0, 250, 251), Video("c"))},
        {"videos": (Video("a"), Video("b", 10.5, 250, 250), Video("c"))},
    ],
)
def test_whatever_decides_which_frames_make_a_row_changes_it(changes: dict[str, Any]) -> None:
    assert catalog(**changes).segments != catalog().segments


def test_counts_of_frames_say_nothing_where_annotations_are_in_seconds() -> None:
    other = (Video("a"), Video("b", 11.0, 1, 2), Video("c"))
    assert catalog("seconds").segments == catalog("seconds", videos=other).segments
    # a video without annotations is in no row
    more = (*catalog().videos, Video("d", 3.0, 7, 7))
    assert catalog(videos=more).segments == catalog().segments


@pytest.mark.parametrize(("least", "most"), [(-1, None), (10, 9), (None, 0)])
def test_impossible_counts_are_refused(least: int | None, most: int | None) -> None:
    with pytest.raises(ValueError, match=r"frames_(least|most) must be"):
        Video("v", None, least, most)
