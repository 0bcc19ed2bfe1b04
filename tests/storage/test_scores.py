"""Scores on disk: what is written is read, nothing damaged is, and a kill leaves one run or the
other.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import Layout
from storage.base.records import JSON
from storage.files import atomic_write
from storage.files.checksummed_json import seal, unseal
from storage.scores import (
    Provenance,
    ScoreRun,
    ScoreTrack,
    drop_scores,
    make_score_run,
    read_scores,
    score_run_names,
    superseded_files,
    videos_of_scores,
    write_scores,
)

PROVENANCE = Provenance(
    "phd-ca", "ab" * 32, {"c3d": "0123456789ab"}, ("c3d: random:0",), {"seed": 3, "lr": 1e-3}
)


def track(user: str, video_id: str, rows: int, seed: int = 0) -> ScoreTrack:
    dice = np.random.default_rng([seed, rows])
    starts = np.arange(rows) * 0.5333333
    return ScoreTrack(
        user,
        video_id,
        12.5,
        np.stack([starts, starts + 0.54], axis=1),
        dice.random(rows, np.float32),
    )


def example(seed: int = 0) -> ScoreRun:
    tracks = [track("ü, 1", "-b", 3, seed), track("", "a", 5, seed), track("ü, 1", "a", 1, seed)]
    return make_score_run(PROVENANCE, tracks, {("2", "c"): "no_features"})


def same(one: ScoreRun, other: ScoreRun) -> bool:
    pairs = [(one.tracks[key], other.tracks[key]) for key in one.tracks]
    return (
        (one.provenance, one.absent, set(one.tracks))
        == (other.provenance, other.absent, set(other.tracks))
        and all((a.spans == b.spans).all() and (a.scores == b.scores).all() for a, b in pairs)
        and all(a.duration_seconds == b.duration_seconds for a, b in pairs)
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_scores(layout, "phd-ca.seed3", example())
    assert same(read_scores(layout, "phd-ca.seed3"), example())
    write_scores(layout, "nothing", make_score_run(PROVENANCE, [], {("1", "a"): "no_features"}))
    assert read_scores(layout, "nothing").tracks == {}
    assert score_run_names(layout) == ("nothing", "phd-ca.seed3")


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    one, other = Layout(tmp_path / "one", "tiny"), Layout(tmp_path / "other", "tiny")
    write_scores(one, "run", example())
    shuffled = make_score_run(PROVENANCE, list(example().tracks.values())[::-1], example().absent)
    write_scores(other, "run", shuffled)
    write_scores(other, "run", shuffled)
    contents = [
        {path.name: path.read_bytes() for path in at.scores("run").iterdir()} for at in (one, other)
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2


def test_any_change_is_seen(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_scores(layout, "run", example())
    for path in sorted(layout.scores("run").iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(IntegrityError):
                read_scores(layout, "run")
        path.unlink()
        with pytest.raises((IntegrityError, LookupFailed)):
            read_scores(layout, "run")
        path.write_bytes(whole)
    assert same(read_scores(layout, "run"), example())


def test_a_record_that_somebody_else_sealed_is_checked_too(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_scores(layout, "run", example())
    path = layout.scores("run") / "run.json"
    record = unseal(path, path.read_bytes())
    forgeries: dict[str, JSON] = {
        "tracks": [["u", "a", 12.5, 4]],
        "absent": [["u"]],
        "format_version": 3,
        "catalog": "other",
        "file": "../../../secret",
        "provenance": {"model": 3},
        "more": 1,
    }
    for name, wrong in forgeries.items():
        path.write_bytes(seal({**record, name: wrong}))
        with pytest.raises(IntegrityError):
            read_scores(layout, "run")


def test_a_kill_at_any_step_leaves_the_old_run_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    steps = 0

    def die(step: atomic_write.Step, path: Path) -> None:
        nonlocal steps
        steps -= 1
        if steps < 0:
            raise Killed

    outcomes = set()
    for allowed in range(200):
        layout = Layout(tmp_path / str(allowed), "tiny")
        monkeypatch.undo()
        write_scores(layout, "run", example(seed=0))
        steps = allowed
        monkeypatch.setattr(atomic_write, "before_step", die)
        try:
            write_scores(layout, "run", example(seed=1))
            finished = True
        except Killed:
            finished = False
        found = read_scores(layout, "run")
        is_old, is_new = same(found, example(seed=0)), same(found, example(seed=1))
        assert is_old != is_new
        outcomes.add(is_new)
        if finished:
            assert len(list(layout.scores("run").iterdir())) == 2
            break
    assert outcomes == {False, True}


def test_a_missing_run_lists_those_that_are_there(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_scores(layout, "run", example())
    with pytest.raises(LookupFailed, match=r"no scores of a run 'walk'; it has run"):
        read_scores(layout, "walk")
    with pytest.raises(ValueError, match="is named like"):
        read_scores(layout, "../run")


@pytest.mark.parametrize(
    "wrong",
    [
        {"spans": np.zeros((3, 2))},
        {"spans": np.array([[0.0, 1.0]] * 2)},
        {"scores": np.array([1, np.nan, 2], np.float32)},
        {"scores": np.zeros(3)},
        {"duration_seconds": 0.0},
        {"video_id": "../x"},
    ],
)
def test_a_track_checks_itself(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        dataclasses.replace(track("u", "a", 3), **wrong)  # type: ignore[arg-type]


def test_a_run_names_each_pair_once() -> None:
    with pytest.raises(ValueError, match="only 1 pairs"):
        make_score_run(PROVENANCE, [track("u", "a", 3), track("u", "a", 4)])
    with pytest.raises(ValueError, match="absent"):
        make_score_run(PROVENANCE, [track("u", "a", 3)], {("u", "a"): "no_features"})


def test_scores_of_a_video_are_dropped_and_the_others_stay(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "tiny")
    write_scores(layout, "run", example())
    assert videos_of_scores(layout, "run") == {"-b", "a", "c"}
    leftover = layout.scores("run") / "scores.0123.h5"
    leftover.write_bytes(b"of a killed run")
    assert superseded_files(layout, "run") == [leftover]
    drop_scores(layout, "run", {"-b", "c"}.__contains__)
    kept = [track("", "a", 5), track("ü, 1", "a", 1)]
    assert same(read_scores(layout, "run"), make_score_run(PROVENANCE, kept))
    assert superseded_files(layout, "run") == []
    assert len(list(layout.scores("run").iterdir())) == 2
