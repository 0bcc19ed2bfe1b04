"""A real video, damaged at 200 seeded places in each of seven containers; a sample per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.file_mutations import CONTAINERS, KINDS, campaign

VIDEO = "mmaction_demo.mp4"


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_damage_is_told_and_stays_with_its_video(
    container: str, shared_data: Path, tmp_path: Path
) -> None:
    outcome = campaign(shared_data / "videos" / VIDEO, container, 200, 1, tmp_path)
    assert outcome.holds, outcome
    assert (outcome.files, outcome.bystanders) == (200, 20)
    assert outcome.noted + sum(outcome.refused.values()) > 100


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm", "ts"])
def test_some_damage_of_every_kind(container: str, shared_data: Path, tmp_path: Path) -> None:
    outcome = campaign(shared_data / "videos" / VIDEO, container, 2 * len(KINDS), 1, tmp_path)
    assert outcome.holds, outcome
    assert (outcome.files, outcome.bystanders) == (2 * len(KINDS), 1)
