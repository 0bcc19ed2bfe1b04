"""A small disk that fills up at every stage: reported, nothing half written, and resumable."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.support.disk_full import IDS, MAX_ATTEMPTS, PUBLISHED
from tests.support.faulty_server import MP4
from tests.support.loopback_site import Site, site
from tests.support.mount_namespace import in_namespace, need_namespace


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with site() as up:
        up.files.update(dict.fromkeys(IDS[:-1], MP4))
        yield up


def filling(folder: Path, served: Site, *limit: str) -> dict[str, Any]:
    need_namespace()
    for name in ("disk", "beside"):
        (folder / name).mkdir()
    module = [sys.executable, "-m", "tests.support.disk_full"]
    words = [*module, str(folder / "beside"), str(folder / "disk"), served.address, *limit]
    said = in_namespace(f'cd {REPOSITORY} && "$@"', words)
    sys.stdout.write(said)
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result


def test_each_stage_meets_a_full_disk_and_the_next_run_goes_on(
    served: Site, tmp_path: Path
) -> None:
    result = filling(tmp_path, served)
    assert result["stages"] == {stage: [stage, 4, 0, True] for stage in PUBLISHED}
    assert result["half"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "step", "met"),
    [
        # What the last download leaves of its step may hold the spool and the part; of a larger
        # step, its record too.
        ("size", 4096, {"catalog", "download", "media record"}),
        ("size", 16_384, {"catalog", "download"}),
        ("nr_inodes", 1, {"catalog", "download", "spool", "part"}),
    ],
)
def test_a_disk_that_grows_bit_by_bit_ends_with_what_a_large_one_has(
    served: Site, tmp_path: Path, limit: str, step: int, met: set[str]
) -> None:
    result = filling(tmp_path, served, limit, str(step))
    assert (result["code"], result["half"], result["equal"]) == (0, 0, True)
    assert 10 < result["attempts"] < MAX_ATTEMPTS
    assert met <= set(result["stages"])
    assert not [stage for stage in result["stages"] if stage.startswith("no full disk")]
