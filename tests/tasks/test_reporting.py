"""Lines of the account: what a person is told of videos that are done, and yet not as they should be."""

from __future__ import annotations

from pipeline.segments import Placement
from storage.sidecar import Entry
from storage.verdicts import DONE, failed
from tasks.remarks import rescaling_of


def test_a_rescaled_video_is_told_with_its_counts() -> None:
    def entry(clock: str, detail: str = "") -> Entry:
        return Entry(DONE, facts={"segments": Placement(clock, 3, 0, 200, detail).record()})

    assert rescaling_of(entry("scaled", "200 pictures, 100 expected")) == "200 pictures, 100 expected"
    assert rescaling_of(entry("numbered", "most unknown")) == ""
    assert rescaling_of(entry("seconds")) == ""
    assert rescaling_of(Entry(DONE)) == ""
    assert rescaling_of(Entry(failed("misaligned"), facts=entry("misaligned", "no").facts)) == ""
