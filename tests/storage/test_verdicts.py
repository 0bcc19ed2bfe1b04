from __future__ import annotations

import re

import pytest

from storage.verdicts import DONE, REASONS, State, Verdict, failed


def test_every_reason_belongs_to_one_state_that_is_not_done_and_says_what_to_do() -> None:
    for name, reason in REASONS.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert reason.state is not State.DONE
        assert reason.meaning
        assert reason.advice
        assert failed(name) == Verdict(reason.state, name)
    assert {reason.state for reason in REASONS.values()} == set(State) - {State.DONE}


@pytest.mark.parametrize(
    ("state", "reason", "message"),
    [
        (State.DONE, "private", "a done video has no reason, got 'private'"),
        (State.REJECTED, "", "unknown reason ''; known reasons are not_found"),
        (State.REJECTED, "tired", "unknown reason 'tired'"),
        (State.REJECTED, "private", "'private' belongs to unavailable, not to rejected"),
    ],
)
def test_a_verdict_outside_the_table_is_refused(state: State, reason: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Verdict(state, reason)


def test_verdicts_read_as_state_reason_and_detail() -> None:
    assert str(DONE) == "done"
    assert str(failed("private")) == "unavailable:private"
    assert str(failed("too_short", "3 frames")) == "rejected:too_short (3 frames)"
    with pytest.raises(ValueError, match="unknown reason 'tired'"):
        failed("tired")
