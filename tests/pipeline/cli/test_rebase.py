"""Rebase: videos whose clock began at 0 keep their rows, all others are built again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main
from pipeline.cli.rebase import container_start
from storage import FeatureStore
from storage.base.records import CONTAINER_START, STREAM_CLOCK
from storage.features.time_origin import refuse_to_extend
from storage.maintenance.audit import audit
from tests.conftest import REPOSITORY
from tests.support.feature_samples import killed_at

pytestmark = pytest.mark.filterwarnings(
    "ignore::storage.features.store.UnsealedParts",
    "ignore:This process .* is multi-threaded:DeprecationWarning",
)

DATA = REPOSITORY / "tests" / "storage" / "data" / "store_v1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_bytes())["variants"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "phd2", tmp_path / "phd2")


def check_brought_over(folder: Path) -> None:
    store = FeatureStore(folder, verify=True)
    assert set(store.time_origins().values()) == {frozenset([CONTAINER_START])}
    refuse_to_extend(folder, store.time_origins())
    for name, expected in EXPECTED.items():
        reader = store[name]
        planted = name.startswith("c3d")  # of no file; counted from 0
        assert reader.ids == ("-dashfirst0", "mp4begins00", *(["tsbegins000"] if planted else []))
        for video_id in reader.ids:
            assert reader[video_id].track().digest() == expected["videos"][video_id]["digest"]
            clock = reader.entry(video_id).facts["clock"]
            assert isinstance(clock, dict)
            assert clock["was"] == STREAM_CLOCK
        if not planted:
            assert str(reader.statuses["tsbegins000"]).startswith(
                "pending:requested (its clock began at 1."
            )
        for video_id in ("gonegonegon", "soundonly00"):
            status = reader.statuses[video_id]
            assert [str(status.state), status.reason, status.detail] == expected["verdicts"][
                video_id
            ]
    assert [report for report in audit(folder, deep=True) if not report.is_clean] == []


def test_with_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rebase", str(folder), "--media", str(DATA / "media")]) == 0
    assert (
        "frames-c6e2b5b7062c shard 1: 1 videos keep their rows; 1 are built again"
        in capsys.readouterr().out
    )
    check_brought_over(folder)
    assert main(["rebase", str(folder)]) == 0
    assert "all times count from the containers' start already" in capsys.readouterr().out


def test_without_the_files_the_first_picture_decides(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planted rows say nothing of files, and count from 0, so all of c3d's are kept."""
    assert main(["rebase", str(folder)]) == 0
    told = capsys.readouterr().out
    assert (
        "frames-c6e2b5b7062c shard 1: 1 videos keep their rows, "
        "1 of them by their first picture alone" in told
    )
    store = FeatureStore(folder)
    assert store["frames"].ids == ("-dashfirst0", "mp4begins00")
    assert "its file is not at hand" in store["frames"].statuses["tsbegins000"].detail
    assert store["c3d"].digest() == EXPECTED["c3d-602c143d170f"]["digest"]


@pytest.mark.parametrize("step", range(3))
def test_a_kill_leaves_a_store_that_another_run_finishes(folder: Path, step: int) -> None:
    arguments = ["rebase", str(folder), "--media", str(DATA / "media")]
    killed_at(step * 7 + 3, lambda: main(arguments))
    refused = STREAM_CLOCK in set().union(*FeatureStore(folder).time_origins().values())
    assert main(arguments) == 0
    assert refused or step
    check_brought_over(folder)


def test_the_start_is_the_containers(tmp_path: Path) -> None:
    assert container_start(DATA / "media" / "mp4begins00.mp4") == 0
    assert 1 < container_start(DATA / "media" / "tsbegins000.ts") < 2
