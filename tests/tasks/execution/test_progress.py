"""Progress for people: plain lines in a log, control characters disarmed."""

from __future__ import annotations

import pytest

from storage.base.video_status import DONE, failure_status
from tasks.execution.progress import ProgressBar, VideoProgress, format_clock, log_line


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")],
)
def test_clock(seconds: float, shown: str) -> None:
    assert format_clock(seconds) == shown


def test_a_log_gets_the_first_and_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar("videos", "video", 3)
    for done in (1, 2, 3):
        bar.advance_to(done, "1 without all features")
    bar.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "videos: 1/3 videos; 1 without all features",
        "videos: 3/3 videos; 1 without all features",
    ]


def test_a_failure_is_told_when_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    videos = VideoProgress()
    videos.plan({"abc": None, "def": 10.0})
    videos.video_ended(7, "abc", failure_status("network", "reset by peer"))
    videos.video_ended(7, "def", DONE)
    videos.close()
    assert "shard 007  abc  pending:network (reset by peer)" in capsys.readouterr().err


def test_a_message_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    log_line("title \x1b[2J\x07 \u202eevil\r\nnext")
    assert capsys.readouterr().err == "title  [2J   evil  next\n"
