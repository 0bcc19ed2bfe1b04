"""A bar in a pipe is lines, with rate and remaining time."""

from __future__ import annotations

import pytest

from trainer.base.progress import ProgressBar


def test_a_pipe_gets_lines_without_carriage_returns(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("step") as bar:
        bar.start("training", 3)
        for done in (1, 2, 3):
            bar.advance_to(done, f"loss {1 / done:.2f}")
    text = capfd.readouterr().err
    assert "\r" not in text
    lines = text.splitlines()
    assert lines[0].startswith("training:   0%")
    assert "3/3" in lines[-1]
    assert "step/s" in lines[-1]
