"""What every test may lean on: shared data that is loudly absent where it is absent, and a random
state that stays.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core: threads of one would only wait for those of the others.
    # Before numpy and torch.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published annotations and two real clips that lie beside the repository, not in it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"LOUD SKIP: real annotations and clips are not at {folder}; this test proves nothing here"
        )
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A campaign of many faults has a budget of its own: its length is that of the machine's load,
    times hundreds.
    """
    marker = item.get_closest_marker("campaign")
    usual_seconds = float(item.config.getini("faulthandler_timeout") or 0)
    if marker is not None and usual_seconds:
        (seconds,) = marker.args
        told = item.config.stash[fault_handler_stderr_fd_key]
        # In place of the usual one, which pytest has set by now.
        faulthandler.dump_traceback_later(max(usual_seconds, seconds), file=told, exit=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave out of garbage collections what importing has made, which stays to the end anyway.

    A forked child that collects would otherwise copy every page with an object on it: 0.1 s of CPU.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Give frozen objects back: a library that looks for leaks at exit would report them all."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _random_state_stays_put() -> Iterator[None]:
    state, numpy_state = random.getstate(), np.random.get_state()
    yield
    random.setstate(state)
    np.random.set_state(numpy_state)
