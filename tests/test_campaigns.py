"""Tests of hundreds of faults have a budget of their own, and no other test has."""

from __future__ import annotations

import faulthandler
from typing import Any

import pytest

from tests.conftest import pytest_runtest_setup


@pytest.mark.parametrize(("asked_seconds", "given_seconds"), [(3600, 3600.0), (1, 400.0)])
def test_a_campaign_has_its_own_budget_and_never_a_smaller_one(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    asked_seconds: float,
    given_seconds: float,
) -> None:
    armed: list[tuple[float, bool]] = []

    def arm(seconds: float, *, exit: bool, **_: Any) -> None:
        armed.append((seconds, exit))

    with monkeypatch.context() as patch:
        patch.setattr(faulthandler, "dump_traceback_later", arm)
        patch.setattr(request.config, "getini", {"faulthandler_timeout": "400"}.__getitem__)
        pytest_runtest_setup(request.node)
        assert armed == []
        request.node.add_marker(pytest.mark.campaign(asked_seconds))
        pytest_runtest_setup(request.node)
    assert armed == [(given_seconds, True)]
