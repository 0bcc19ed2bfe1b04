"""Progress without a library: rate and time left, and few lines in a log."""

from __future__ import annotations

import pytest

from storage.progress_lines import ProgressLines, progress_line


@pytest.mark.parametrize(
    ("done", "elapsed", "line"),
    [
        (0, 9.0, "written: 0/90 videos"),
        (5, 0.5, "written: 5/90 videos"),
        (12, 2.0, "written: 12/90 videos, 6.0 a second, 0:00:13 left"),
        (90, 3.0, "written: 90/90 videos, 30.0 a second, 0:00:00 left"),
    ],
)
def test_a_line_has_rate_and_time_left(done: int, elapsed: float, line: str) -> None:
    assert progress_line("written", done, 90, elapsed) == line


def test_a_log_gets_a_line_in_half_a_minute_and_at_the_end_of_each_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10_000, 7))
    monkeypatch.setattr("storage.progress_lines.time.monotonic", lambda: float(next(now)))
    show = ProgressLines()
    for step in ("written", "compared"):
        for done in range(1, 11):
            show(step, done, 10)
    assert [line.partition(" ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "written:", "written:", "compared:", "compared:",
    ]  # fmt: skip
