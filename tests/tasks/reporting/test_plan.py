"""`--plan` says what a build would do, and starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame, FramesAtRate
from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from tasks.reporting.plan import Plan, gigabytes_per_hour, rows_per_second
from tests.support.luigi_server import run_luigi


def test_a_plan_of_the_sample_starts_nothing(tmp_path: Path) -> None:
    done = run_luigi(
        tmp_path, "--module", "tasks", "BuildPHD2Features", "--plan",
        "--extract-extractors", "frames",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plan: 12 videos in 3 shards" in done.stdout
    assert "requests: none, the videos are in a folder" in done.stdout
    assert "nothing was started" in done.stdout
    assert not (tmp_path / "data" / "sample" / "features").exists()


def test_a_plan_of_a_site_counts_requests() -> None:
    text = "\n".join(Plan(1000, 4, 100.0, 3, 1000, 250.0, {"c3d-0": 1.5}).lines())
    assert "1,000 videos in 4 shards, 100.0 hours (3 of unknown duration)" in text
    assert "requests: 1,000, at 250 an hour 4.0 hours" in text
    assert "media: about 22.5 GB" in text
    assert "c3d-0: about 1.50 GB" in text


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [(ConsecutiveFrames(16, 16), 1.875), (FramesAtRate(2.0), 2.0), (EveryFrame(), 30.0)],
)
def test_rows_of_a_second(sampling: object, expected: float) -> None:
    assert rows_per_second(sampling) == expected  # type: ignore[arg-type]


def test_c3d_of_phd2_is_as_large_as_published() -> None:
    spec = EXTRACTORS["c3d"]
    settings = spec.settings_type(arrays=("pool5",))
    pool5 = gigabytes_per_hour(Variant("c3d", spec, settings, "random:0", Path()))
    assert 10_212 * pool5 / 1000 == pytest.approx(1.13, abs=0.01)
