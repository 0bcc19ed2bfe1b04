"""Nothing joins a store of format version 1 before its seconds are players' seconds; then it is
built on.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.base.records import CONTAINER_START
from tests.conftest import REPOSITORY
from tests.support.luigi_server import run_luigi

DATA = REPOSITORY / "tests" / "storage" / "data" / "store_v1"


def build(root: Path, *options: str) -> tuple[int, str]:
    words = [
        "--module", "tasks", "BuildPHD2Features", "--data-root", str(root), "--data-shards", "2",
        "--phd2-testing", str(DATA / "phd2" / "sources" / "testing.csv"),
        "--download-source", str(DATA / "media"), "--extract-extractors", "frames",
        "--frames-frames-per-second", "2", "--frames-jpeg-quality", "60", *options,
    ]  # fmt: skip
    done = run_luigi(root, *words, environment={"PATH": str(Path(sys.executable).parent)})
    return done.returncode, done.stdout + done.stderr


def sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(DATA / "phd2", tmp_path / "phd2")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [(), ("--retry", "all"), ("--frames-jpeg-quality", "70"), ("--shards", "0")],
    ids=["build", "retry", "another variant", "one shard"],
)
def test_nothing_is_built_beside_it(root: Path, options: tuple[str, ...]) -> None:
    before = sums(root)
    code, told = build(root, *options)
    assert code == 2, told
    assert "on each stream's own clock" in told
    assert f"python -m pipeline rebase {root / 'phd2'}" in told
    assert sums(root) == before


def test_it_is_brought_over_and_built_on(root: Path) -> None:
    kept = FeatureStore(DATA / "phd2", check=False)["frames"]
    rebase = [
        sys.executable,
        "-m",
        "pipeline",
        "rebase",
        str(root / "phd2"),
        "--media",
        str(DATA / "media"),
    ]
    done = subprocess.run(rebase, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    code, told = build(root)
    assert code == 0, told
    found = FeatureStore(root / "phd2", verify=True)["frames"]
    assert found.time_origins == {CONTAINER_START}
    assert found.ids == kept.ids
    for video_id in ("-dashfirst0", "mp4begins00"):
        assert found.entry(video_id).digest == kept.entry(video_id).digest
    # Its clock began at 1.4 s, where its sound begins; its picture begins with it, or 24 ms later.
    assert 0.0 <= found["tsbegins000"].spans[0, 0] < 0.2
    assert (kept["tsbegins000"].spans - found["tsbegins000"].spans).std() < 1e-9
    facts = found.entry("tsbegins000").facts["probe"]
    assert isinstance(facts, dict)
    start = facts["container_start_seconds"]
    assert isinstance(start, float)
    assert kept["tsbegins000"].spans[0, 0] - start == pytest.approx(
        found["tsbegins000"].spans[0, 0], abs=1e-9
    )
