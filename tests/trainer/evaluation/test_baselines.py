"""Baselines and their command, on a catalog of a few users and on the published test set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.base.paths import Layout
from storage.base.records import Annotation, Link, User, Video
from storage.catalog.catalog import Catalog, write_catalog
from tests.support.stores import rows_of, write_people, write_variant
from trainer.__main__ import COMMANDS, main
from trainer.evaluation.baselines import BASELINES, baseline_tracks
from trainer.evaluation.phd2_protocol import Targets, find_targets


def small(name: str = "phd2") -> Catalog:
    users = [f"u{number}" for number in range(4)]
    return Catalog(
        name=name,
        videos=tuple(Video(f"v{number}", None if number == 3 else 23.0) for number in range(4)),
        users=tuple(User(user, "test") for user in users),
        links=tuple(Link(user, f"v{number}", "target") for number, user in enumerate(users)),
        annotations=tuple(
            Annotation(f"v{number}", user, 6.0, 9.0) for number, user in enumerate(users)
        ),
        shard_count=1,
        time_unit="seconds",
    )


@pytest.fixture
def asked() -> Targets:
    return find_targets(small(), "test")


def order(name: str, asked: Targets) -> list[int]:
    """Segments of 23 seconds, best first, as the baseline ranks them."""
    scores = baseline_tracks(BASELINES[name], asked)["u0", "v0"].scores
    return [int(segment) for segment in np.argsort(-scores, kind="stable")]


def test_baselines_rank_as_they_are_named(asked: Targets) -> None:
    assert order("early", asked) == [0, 1, 2, 3, 4]
    assert order("late", asked) == [4, 3, 2, 1, 0]
    assert order("centre", asked)[0] == 2
    assert order("edges", asked)[-1] == 2
    assert len(set(baseline_tracks(BASELINES["duration"], asked)["u0", "v0"].scores)) == 1


def test_dice_obey_their_seed(asked: Targets) -> None:
    for name in ("random", "random-rows"):
        one, same, other = (baseline_tracks(BASELINES[name], asked, seed) for seed in (1, 1, 2))
        assert all((one[key].scores == same[key].scores).all() for key in one)
        assert all((one[key].scores != other[key].scores).any() for key in one)
        assert (one["u0", "v0"].scores != one["u1", "v1"].scores).any()
    assert len(baseline_tracks(BASELINES["random-rows"], asked)["u0", "v0"].scores) > 40


def test_the_command_prints_published_beside_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_catalog(Layout(tmp_path, "phd2"), small())
    assert main(["baselines", str(tmp_path / "phd2"), "--seeds", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("users: 3 of 4, ids ")
    assert lines[1].endswith("dropped: 1 unknown_duration")
    rows = [line.split() for line in lines[3:]]
    assert {row[0] for row in rows} == set(BASELINES)
    assert next(row for row in rows if row[:2] == ["random", "mAP"])[2] == "12.97"
    # The mark covers 3 of the 5 seconds of the second segment: 15 of the first 50 frames.
    assert next(row for row in rows if row[:2] == ["early", "mAP"])[2] == "30.00"


def test_published_numbers_stand_beside_their_own_dataset_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_catalog(Layout(tmp_path, "sample"), small("sample"))
    assert main(["baselines", str(tmp_path / "sample"), "--seeds", "1"]) == 0
    assert "12.97" not in capsys.readouterr().out


def test_wrong_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baselines", str(tmp_path / "nothing")]) == 2
    assert "Build the catalog" in capsys.readouterr().err
    write_catalog(Layout(tmp_path, "phd2"), small())
    assert main(["baselines", str(tmp_path / "phd2"), "--seeds", "0"]) == 2
    assert main(["baselines", str(tmp_path / "phd2"), "--split", "train"]) == 2
    (tmp_path / "phd2" / "users.csv").write_text("user_id,split\n")
    assert main(["baselines", str(tmp_path / "phd2")]) == 5
    with pytest.raises(SystemExit) as stopped:
        main(["unheard-of"])
    assert stopped.value.code == 2


def test_every_command_has_a_module_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    for name in COMMANDS:
        assert name in told
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0


def test_unknown_durations_come_from_the_store_or_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = [("ann", "v1", 2.0, 6.0), ("bob", "v2", 1.0, 3.0)]
    folder = write_people(
        tmp_path, marks, {"ann": "v1", "bob": "v2"}, {"ann": "test", "bob": "test"}
    )
    assert main(["baselines", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "no user or video can be measured under phd2-segments/1" in message
    assert "dropped: 2 unknown_duration. A target has an unknown_duration until" in message
    write_variant(folder, [rows_of("v1", 12)])
    assert main(["baselines", str(folder), "--seeds", "2"]) == 0
    assert "users: 1 of 2" in capsys.readouterr().out
