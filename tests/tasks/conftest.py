"""Ends the process that runs the commands of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.luigi_server import SERVER


@pytest.fixture(scope="session", autouse=True)
def _server_ends() -> Iterator[None]:
    yield
    SERVER.close()
