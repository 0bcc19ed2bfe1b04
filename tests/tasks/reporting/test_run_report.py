"""Lines of the account: what a person is told of videos that are done, and yet not as they should
be.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipeline.sampling.segment_alignment import SegmentAlignment
from storage.base.video_status import DONE, REASONS, failure_status
from storage.features.manifest import ManifestEntry
from tasks.reporting.data_quality import (
    QualityNotes,
    frame_loss,
    rescaling_note,
    stream_choice,
)
from tasks.reporting.run_report import VariantSummary


def test_a_rescaled_video_is_told_with_its_counts() -> None:
    def entry(clock: str, detail: str = "") -> ManifestEntry:
        return ManifestEntry(
            DONE, facts={"segments": SegmentAlignment(clock, 3, 0, 200, detail).record()}
        )

    assert (
        rescaling_note(entry("scaled", "200 pictures, 100 expected"))
        == "200 pictures, 100 expected"
    )
    assert rescaling_note(entry("numbered", "most unknown")) == ""
    assert rescaling_note(entry("seconds")) == ""
    assert rescaling_note(ManifestEntry(DONE)) == ""
    assert (
        rescaling_note(
            ManifestEntry(failure_status("misaligned"), facts=entry("misaligned", "no").facts)
        )
        == ""
    )


WHOLE: dict[str, Any] = {
    "frames_decoded": 100,
    "frames_declared": 100,
    "decode_errors": 0,
    "gaps_seconds": [],
}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, ""),
        ({"frames_decoded": 99, "decode_errors": 1}, "99 of 100 frames decoded, 1 decoding errors"),
        (
            {"frames_declared": None, "frames_lost": 7},
            "100 of 107 frames decoded, 0 decoding errors",
        ),
        ({"frames_dropped": 3}, "3 pictures dropped for want of a time after the one before"),
        (
            {"damaged_packets": 2, "damaged_pictures": 5},
            "2 damaged packets; 5 pictures in part made up by the decoder",
        ),
        ({"clock_jumps": 1}, "1 jumps of the clock, which goes on behind them"),
        (
            {"gaps_seconds": [[1.0, 3.5], [7.0, 8.0]], "gaps_unlisted": 1},
            "no picture, or one that stood still, for 3.50 s in 3 places, first at 1.00 s",
        ),
        ({"file_damage": "the last tag is cut"}, "the last tag is cut"),
    ],
)
def test_every_loss_is_told(found: dict[str, Any], words: str) -> None:
    assert frame_loss(ManifestEntry(DONE, facts={"decode": {**WHOLE, **found}})) == words
    assert (
        frame_loss(
            ManifestEntry(failure_status("unreadable"), facts={"decode": {**WHOLE, **found}})
        )
        == ""
    )


@pytest.mark.parametrize(
    ("container", "alone"), [("mov", False), ("avi", False), ("matroska", True), ("mpegts", True)]
)
def test_a_picture_that_stands_still_is_no_loss_where_the_index_says_so(
    container: str, alone: bool
) -> None:
    gap = {**WHOLE, "gaps_seconds": [[1.0, 3.5]]}
    assert (
        bool(
            frame_loss(
                ManifestEntry(DONE, facts={"decode": gap, "probe": {"container": container}})
            )
        )
        is alone
    )
    broken = frame_loss(
        ManifestEntry(
            DONE, facts={"decode": {**gap, "decode_errors": 1}, "probe": {"container": container}}
        )
    )
    assert "for 2.50 s in 1 places" in broken


def test_what_a_download_lacks_is_told_once() -> None:
    cut: dict[str, Any] = {"decode": {**WHOLE, "file_damage": "cut"}, "source": {"damage": "cut"}}
    assert frame_loss(ManifestEntry(DONE, facts=cut)) == "cut"


def test_a_file_of_several_films_says_which_was_read() -> None:
    def entry(*others: dict[str, Any]) -> ManifestEntry:
        film: dict[str, Any] = {"stream_index": 0, "codec": "mjpeg", "width": 64, "height": 64}
        return ManifestEntry(DONE, facts={"probe": {**film, "other_streams": list(others)}})

    film: dict[str, Any] = {
        "index": 1,
        "kind": "video",
        "codec": "h264",
        "width": 192,
        "height": 144,
    }
    told = "stream 0 (mjpeg, 64x64) was read; not 1 (h264, 192x144)"
    assert stream_choice(entry(film, {"index": 2, "kind": "audio"})).startswith(told)
    assert stream_choice(entry({**film, "is_attached_picture": True})) == ""
    assert stream_choice(entry()) == stream_choice(ManifestEntry(DONE)) == ""


@pytest.mark.parametrize(
    ("done", "reasons", "common"),
    [
        (0, {"non_finite": ["a", "b"], "not_found": ["c"], "too_short": ["d"]}, "non_finite"),
        (1, {"non_finite": ["a", "b"]}, ""),
        (0, {"non_finite": ["a"], "unreadable": ["b"]}, ""),
        (0, {"unreadable": ["a"]}, "unreadable"),
        (0, {"not_found": ["a"]}, ""),
        (0, {}, ""),
    ],
)
def test_one_reason_for_all_videos_is_seen(
    done: int, reasons: dict[str, list[str]], common: str
) -> None:
    states = Counter(REASONS[reason].state for reason, ids in reasons.items() for _ in ids)
    summary = VariantSummary(
        name="c3d-0",
        weights="",
        ids=done + sum(map(len, reasons.values())),
        states={**states, DONE.state: done},
        reasons=reasons,
        notes=QualityNotes({}, {}, {}, {}),
        rows=0,
        size_bytes=0,
    )
    assert summary.common_reason == common
