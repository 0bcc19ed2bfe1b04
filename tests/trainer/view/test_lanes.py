from __future__ import annotations

from pathlib import Path

import pytest

from storage.base.records import JSON
from tests.support.annotated_stores import FRAMES_PER_SECOND, write_domains
from tests.support.view_stores import FILM, HOSTILE_PERSON, write_viewed_store
from trainer.view.lanes import StoredScores, labels_json
from trainer.view.opened_store import OpenedStore


def lanes_of(answer: dict[str, JSON]) -> list[dict[str, JSON]]:
    lanes = answer["lanes"]
    assert isinstance(lanes, list)
    return [lane for lane in lanes if isinstance(lane, dict)]


def test_labels_in_seconds_are_shown_as_they_are(tmp_path: Path) -> None:
    snapshot = OpenedStore(write_viewed_store(tmp_path, with_media=False)).snapshot()
    lanes = lanes_of(labels_json(snapshot, FILM))
    assert lanes == [
        {"annotator": HOSTILE_PERSON, "spans": [[4.5, 6.0, 1.0]]},
        {"annotator": "anna", "spans": [[1.0, 3.0, 1.0]]},
    ]


def test_labels_in_frames_take_the_times_of_their_rows(tmp_path: Path) -> None:
    """A row of `c3d.segments` is about one annotated segment and has its seconds."""
    snapshot = OpenedStore(write_domains(tmp_path)).snapshot()
    answer = labels_json(snapshot, "dog00")
    (match, _) = lanes_of(answer)
    assert (match["annotator"], answer["notes"]) == ("match", [])
    rows = [row for row in snapshot.annotations["dog00"] if row.annotator == "match"]
    assert match["spans"] == [
        [
            pytest.approx(row.start / FRAMES_PER_SECOND),
            pytest.approx(row.end / FRAMES_PER_SECOND),
            row.value,
        ]
        for row in rows
    ]


def test_labels_in_frames_without_times_are_not_placed(tmp_path: Path) -> None:
    snapshot = OpenedStore(write_domains(tmp_path, absent=("dog00",))).snapshot()
    answer = labels_json(snapshot, "dog00")
    assert [lane["spans"] for lane in lanes_of(answer)] == [[], []]
    assert "count frames of the original file" in str(answer["notes"])


def test_scores_come_from_every_run(tmp_path: Path) -> None:
    store = OpenedStore(write_viewed_store(tmp_path, with_media=False))
    lanes = lanes_of(StoredScores(store).lanes_json(FILM))
    assert [(lane["run"], lane["model"], lane["user"]) for lane in lanes] == [
        ("one.test", "one", "anna"),
        ("two.test", "two", "anna"),
    ]
