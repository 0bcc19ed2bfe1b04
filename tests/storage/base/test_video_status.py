"""The table of reasons: closed, consistent, and pinned to its version."""

from __future__ import annotations

import hashlib

import pytest

from storage.base.video_status import (
    DONE,
    REASONS,
    TAXONOMY_VERSION,
    Policy,
    State,
    VideoStatus,
    failure_status,
)


def test_the_table_is_what_its_version_promises() -> None:
    lines = [f"{name} {row.state} {row.policy}\n" for name, row in sorted(REASONS.items())]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    assert (TAXONOMY_VERSION, digest) == (7, "1c98cdf23a22"), (
        "the table changed: raise TAXONOMY_VERSION, then pin it anew"
    )


@pytest.mark.parametrize("name", REASONS)
def test_state_and_policy_agree(name: str) -> None:
    row = REASONS[name]
    assert row.state is not State.DONE
    # What is retried, or stops everything, is never called final; what is final is never retried by
    # itself.
    if row.policy in (Policy.RETRY, Policy.PAUSE, Policy.ENVIRONMENT):
        assert row.state is State.PENDING
    if row.policy is Policy.PERMANENT:
        assert row.state in (State.UNAVAILABLE, State.REJECTED)
    assert row.meaning
    assert row.advice


def test_a_verdict_checks_itself() -> None:
    assert str(failure_status("removed", "gone")) == "unavailable:removed (gone)"
    with pytest.raises(ValueError, match="unknown reason 'lost'; known reasons are not_found, "):
        failure_status("lost")
    with pytest.raises(ValueError, match="a done video has no reason, got 'removed'"):
        VideoStatus(State.DONE, "removed")
    with pytest.raises(ValueError, match="reason 'removed' belongs to unavailable, not to pending"):
        VideoStatus(State.PENDING, "removed")
    assert str(DONE) == "done"
