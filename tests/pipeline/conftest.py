"""A misbehaving web server on loopback for whoever fetches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.faulty_server import Mirror, running_mirror


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with running_mirror() as server:
        yield server
