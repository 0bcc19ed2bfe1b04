"""The front door as a person uses it: the real command, a PHD2 table over HTTP, two real clips, a
dead link.

One story, told in order: build, look, the dead link comes alive, retry, compact; and beside it a
build that had everything from the start, and one from the same table in another order.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.support.loopback_site import Site, site
from tests.support.luigi_server import C3D, run_luigi

STRIDE = 300
"""Frames between clips of c3d: one or two clips a video are enough."""
PROOFS = "proofs"
PANCAKE, GYM, LATE = "flipPancake", "-GGSY1Qvo99", "comesLater0"
TABLE = f"""youtubeId,start,duration,user_id,video_duration,is_last
{PANCAKE},1.0,2.5,7,10.0,False
{PANCAKE},6.5,4.2,7,10.0,False
{LATE},0.5,3.0,7,-1,False
{GYM},3.25,4.0,7,18.0,True
"""


@dataclass(frozen=True)
class Build:
    """One run of the command."""

    folder: Path
    exit_code: int
    output: str


ENVIRONMENT = {"PATH": str(Path(sys.executable).parent)}
"""No ffmpeg of the system's may be found."""


def words(folder: Path, address: str, *options: str) -> list[str]:
    return [
        "--module", "tasks", "BuildPHD2Features",
        "--data-root", str(folder), "--data-shards", "1",
        "--phd2-testing", f"{address}/testing.csv", "--download-source", f"{address}/{{id}}",
        "--extract-extractors", "c3d, frames",
        "--c3d-weights", "random:3", "--c3d-arrays", "pool5", "--c3d-stride-frames", str(STRIDE),
        *options,
    ]  # fmt: skip


def program(folder: Path, address: str) -> Build:
    """The command as a person starts it."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("luigi")), *words(folder, address)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
        env={**os.environ, **ENVIRONMENT},
    )
    return Build(folder / "phd2", done.returncode, done.stdout + done.stderr)


def luigi(folder: Path, address: str, *options: str) -> Build:
    """The same command in a process that has imported the libraries."""
    done = run_luigi(
        folder.parent, *words(folder, address, *options), environment=ENVIRONMENT, preload=C3D
    )
    return Build(folder / "phd2", done.returncode, done.stdout + done.stderr)


def new_root(folder: Path, first: Build) -> Path:
    """A data root where nothing is built, on a machine whose networks were tested before."""
    shutil.copytree(first.folder.parent / PROOFS, folder / "data" / PROOFS)
    return folder / "data"


def storage(verb: str, folder: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "storage", verb, str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    return done.returncode, done.stdout + done.stderr


def sums(folder: Path, pattern: str) -> dict[str, str]:
    files = sorted(path for path in (folder / "features").rglob(pattern) if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def states(folder: Path, variant: str) -> dict[str, str]:
    (manifest,) = folder.glob(f"features/{variant}-*/shard_000.json")
    entries = json.loads(manifest.read_text())["entries"]
    return {video_id: f"{entry['state']}:{entry['reason']}" for video_id, entry in entries.items()}


@pytest.fixture(scope="module")
def served(shared_data: Path) -> Iterator[Site]:
    with site() as up:
        up.files["testing.csv"] = TABLE.encode()
        up.files[PANCAKE] = (shared_data / "videos" / "flipping_a_pancake.mkv").read_bytes()
        up.files[GYM] = (shared_data / "videos" / "v_GGSY1Qvo990.mp4").read_bytes()
        yield up


@pytest.fixture(scope="module")
def first(served: Site, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return program(tmp_path_factory.mktemp("first") / "data", served.address)


@pytest.fixture(scope="module")
def first_parts(first: Build) -> dict[str, str]:
    return sums(first.folder, "*.h5")


@pytest.fixture(scope="module")
def again(served: Site, first: Build, first_parts: dict[str, str]) -> Build:
    """The dead link comes alive, and a retry is asked for."""
    served.files[LATE] = served.files[PANCAKE]
    return luigi(first.folder.parent, served.address, "--retry", "not_found")


def test_one_run_accounts_for_every_id(first: Build, first_parts: dict[str, str]) -> None:
    assert first.exit_code == 0, first.output
    for variant in ("c3d", "frames"):
        expected = {PANCAKE: "done:", GYM: "done:", LATE: "unavailable:not_found"}
        assert states(first.folder, variant) == expected
    assert "3 ids = 2 done + 1 unavailable + 0 rejected + 0 pending + 0 quarantined" in first.output
    assert (first.folder / "report" / "features.png").read_bytes().startswith(b"\x89PNG")
    assert len(first_parts) == 2


def test_the_audit_adds_up(first: Build, first_parts: dict[str, str]) -> None:
    code, told = storage("audit", first.folder, "--deep")
    assert code == 0, told
    assert "3 ids = 2 done + 1 unavailable + 0 rejected + 0 pending + 0 quarantined" in told


def test_a_second_run_asks_nobody_and_changes_nothing(
    served: Site, first: Build, first_parts: dict[str, str]
) -> None:
    everything = sums(first.folder, "*")
    served.asked.clear()
    second = luigi(first.folder.parent, served.address)
    assert second.exit_code == 0, second.output
    assert served.asked == []
    assert sums(first.folder, "*") == everything


def test_plain_h5py_reads_a_part(first: Build, first_parts: dict[str, str]) -> None:
    (path,) = first.folder.glob("features/c3d-*/shard_000.p000.h5")
    with h5py.File(path, "r") as part:
        ids = [video_id.decode() for video_id in part["ids"][:]]
        start, end = part["offsets"][ids.index(GYM) : ids.index(GYM) + 2]
        spans = part["spans"][start:end]
        pool5 = part["arrays/pool5"][start:end]
    assert ids == sorted([PANCAKE, GYM])
    assert pool5.dtype == np.float16
    assert pool5.shape == (len(spans), 8192)
    assert np.isfinite(pool5).all()
    assert pool5.any()


def test_row_times_are_ffprobes(first: Build, first_parts: dict[str, str]) -> None:
    """Clip k of c3d covers frames [STRIDE k, STRIDE k + 16) of the 19.62 fps clip, as ffprobe
    dates them.
    """
    golden = json.loads((REPOSITORY / "tests/pipeline/goldens/v_GGSY1Qvo990.mp4.json").read_text())
    times = [float(frame) for frame in golden["pts_seconds"]]
    (path,) = first.folder.glob("features/c3d-*/shard_000.p000.h5")
    with h5py.File(path, "r") as part:
        start, end = part["offsets"][0:2]  # ids are sorted, and "-" sorts first
        spans = part["spans"][start:end]
    expected = [(times[STRIDE * k], times[STRIDE * k + 16]) for k in range(len(spans))]
    assert len(spans) == (len(times) - 16) // STRIDE + 1 > 1
    np.testing.assert_allclose(spans, expected, rtol=0, atol=1e-3)


def test_the_retry_adds_a_part_and_touches_no_other(
    again: Build, first_parts: dict[str, str]
) -> None:
    assert again.exit_code == 0, again.output
    assert states(again.folder, "c3d")[LATE] == "done:"
    assert "3 ids = 3 done + 0 unavailable" in again.output
    now = sums(again.folder, "*.h5")
    assert len(now) == len(first_parts) + 2
    assert {name: digest for name, digest in now.items() if name in first_parts} == first_parts


@pytest.fixture(scope="module")
def whole(served: Site, again: Build, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build that finds everything alive from the start."""
    return luigi(new_root(tmp_path_factory.mktemp("whole"), again), served.address)


def test_after_compaction_it_equals_a_build_that_had_everything(again: Build, whole: Build) -> None:
    assert whole.exit_code == 0, whole.output
    assert storage("compact", again.folder)[0] == 0
    digest = storage("digest", again.folder)
    assert digest[0] == 0
    assert digest == storage("digest", whole.folder)
    code, told = storage("audit", again.folder, "--deep")
    assert code == 0, told


def test_another_order_in_another_place_gives_the_same_bytes(
    served: Site, whole: Build, tmp_path_factory: pytest.TempPathFactory
) -> None:
    head, *rows = TABLE.splitlines()
    served.files["testing.csv"] = "\n".join([head, *rows[::-1], ""]).encode()
    other = luigi(new_root(tmp_path_factory.mktemp("elsewhere"), whole), served.address)
    served.files["testing.csv"] = TABLE.encode()
    assert other.exit_code == 0, other.output
    mine, theirs = (
        # The index is a cache: it notes when it saw each sidecar, which differs from place to
        # place.
        {
            name: digest
            for name, digest in sums(build.folder, "*").items()
            if not name.endswith("/index.bin")
        }
        for build in (other, whole)
    )
    assert mine == theirs
    for name in ("catalog.json", "videos.csv", "annotations.csv", "links.csv", "users.csv"):
        assert (whole.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_changing_one_setting_builds_beside_and_never_serves_the_old(
    served: Site, again: Build
) -> None:
    before = sums(again.folder, "*")
    changed = luigi(again.folder.parent, served.address, "--frames-jpeg-quality", "50")
    assert changed.exit_code == 0, changed.output
    after = sums(again.folder, "*")
    assert {name: digest for name, digest in after.items() if name in before} == before
    assert len({name.split("/")[1] for name in after if "/frames-" in name}) == 2
