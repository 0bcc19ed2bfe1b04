"""Who is asked about what: splits, hold-outs, histories, and an account in which nobody is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.base.records import Annotation, User, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from tests.support.stores import rows_of, write_people, write_variant
from trainer.data import DataSettings, ExampleCounts, HighlightData, open_data
from trainer.data.user_examples import split_users

USERS = ("ann", "bob", "cas", "dan", "eve", "fay")


def settings(**changes: object) -> DataSettings:
    fields: dict[str, object] = {
        "arrays": ("c3d/pool5",),
        "unit": "segment",
        "history": "shots",
        "holdout_users": 1,
    }
    return DataSettings(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four users to train on and two to test, three videos each: v10 v11 v12 of ann, v20 v21 v22 of
    bob, ...

    eve's target (v50) and one video of bob's (v21) are private; dan marked v42 behind its end.
    """
    marks = [
        (user, f"v{number + 1}{item}", 2.0, 6.0)
        for number, user in enumerate(USERS)
        for item in range(3)
    ]
    marks = [(u, v, 90.0, 92.0) if v == "v42" else (u, v, s, e) for u, v, s, e in marks]
    splits = {user: "test" if user in ("eve", "fay") else "train" for user in USERS}
    targets = {user: f"v{number + 1}0" for number, user in enumerate(USERS)}
    folder = write_people(tmp_path, marks, targets, splits)
    ids = sorted({video for _, video, _, _ in marks} - {"v50", "v21"})
    write_variant(folder, [rows_of(video_id, 12) for video_id in ids])
    return folder


def opened(folder: Path, **changes: object) -> HighlightData:
    return open_data(folder, settings(**changes))


def test_training_asks_about_every_video_with_the_others_as_history(folder: Path) -> None:
    found = opened(folder, holdout_users=0).training().example_set
    assert (
        str(found.targets)
        == "12 targets = 10 used + 1 no position is a highlight + 1 unavailable:private"
    )
    assert found.targets.dropped == {
        "unavailable:private": ("bob/v21",),
        "no position is a highlight": ("dan/v42",),
    }
    assert str(found.users) == "4 users = 4 used"
    histories = {
        (example.user_id, example.video_id): set(example.history) for example in found.examples
    }
    assert histories["ann", "v10"] == {"v11", "v12"}
    assert histories["ann", "v11"] == {"v10", "v12"}
    assert histories["bob", "v20"] == {"v22"}
    assert ("dan", "v42") not in histories


def test_scoring_asks_about_the_linked_target_alone(folder: Path) -> None:
    found = opened(folder).scoring("test").example_set
    assert [(example.user_id, example.video_id) for example in found.examples] == [("fay", "v60")]
    assert str(found.users) == "2 users = 1 used + 1 without a target"
    assert found.users.dropped == {"without a target": ("eve",)}
    assert set(found.examples[0].history) == {"v61", "v62"}


def test_training_on_last_videos_alone(folder: Path) -> None:
    found = opened(folder, holdout_users=0, targets="last").training().example_set
    assert [example.video_id for example in found.examples] == ["v10", "v20", "v30", "v40"]


def test_the_hold_out_is_named_and_apart_from_training(folder: Path) -> None:
    data = opened(folder, holdout_users=2)
    train, validation = data.training(), data.scoring("validation")
    held_out = {example.user_id for example in validation.example_set.examples}
    assert len(held_out) == 2
    assert not held_out & {example.user_id for example in train.example_set.examples}
    assert train.example_set.users.total + validation.example_set.users.total == 4
    assert any("holdout-2-seed0-" in note for note in validation.notes)
    other = {
        e.user_id
        for seed in range(9)
        for e in opened(folder, holdout_seed=seed).scoring("validation").example_set.examples
    }
    assert len(other) > 1


def test_one_in_ten_is_held_out_by_default_and_at_least_one(folder: Path) -> None:
    settings = DataSettings(("c3d/pool5",), "segment", "shots")
    small = read_catalog(folder)
    large = replace(
        small,
        links=(),
        annotations=(),
        users=tuple(User(f"{number:05d}", "train") for number in range(12_972)),
    )
    some = replace(large, users=large.users[:57])
    counts = [
        len(split_users(catalog, "validation", settings)[0]) for catalog in (small, some, large)
    ]
    assert counts == [1, 5, 1000]


def test_holding_out_everybody_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="holdout_users is 4, but tiny has 4 users"):
        opened(folder, holdout_users=4).training()


def test_an_unknown_split_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="one of train, validation, test, all; got 'tset'"):
        opened(folder).scoring("tset")  # type: ignore[arg-type]


def test_a_split_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    folder = write_people(tmp_path, [("ann", "v1", 90.0, 92.0)], {"ann": "v1"}, {"ann": "test"})
    write_variant(folder, [rows_of("v1", 9)])
    assert len(opened(folder).scoring("test")) == 1
    with pytest.raises(
        SettingsError, match="no example left in the split 'test': 1 targets = 0 used"
    ):
        opened(folder).training("test")


def test_histories_of_others_are_never_the_users_own(folder: Path) -> None:
    examples = opened(folder, holdout_users=0, whose="other").training().example_set.examples
    assert examples
    assert all(example.history_user not in ("", example.user_id) for example in examples)
    assert len({example.history_user for example in examples}) == 4
    nobody = opened(folder, holdout_users=0, whose="nobody").training().example_set
    assert {example.history for example in nobody.examples} == {()}
    assert nobody.history.total == 0


def test_short_histories_are_nested(folder: Path) -> None:
    def histories(most: int) -> dict[str, tuple[str, ...]]:
        examples = (
            opened(folder, holdout_users=0, history_videos=most).training().example_set.examples
        )
        return {example.video_id: example.history for example in examples}

    one, two = histories(1), histories(2)
    assert all(one[video_id] == two[video_id][:1] for video_id in two)
    assert set(histories(0).values()) == {()}
    assert any(
        "drawn by seed" in note for note in opened(folder, history_videos=1).scoring("test").notes
    )


def test_a_video_that_is_target_and_history_does_not_tell_its_answer(tmp_path: Path) -> None:
    marks = [
        ("ann", "v1", 0.0, 3.0),
        ("bob", "v1", 2.0, 5.0),
        ("bob", "v2", 1.0, 5.0),
        ("ann", "v2", 1.0, 5.0),
    ]
    folder = write_people(
        tmp_path, marks, {"ann": "v1", "bob": "v2"}, {"ann": "test", "bob": "test"}
    )
    write_variant(folder, [rows_of(video_id, 9) for video_id in ("v1", "v2")])
    for whose in ("own", "other"):
        for example in opened(folder, whose=whose).scoring("test").example_set.examples:
            assert example.video_id not in example.history


def test_a_catalog_without_users_asks_what_anybody_likes(tmp_path: Path) -> None:
    marks = (
        Annotation("v1", "1", 0, 4, 1.0),
        Annotation("v1", "2", 0, 2, 0.5),
        Annotation("v1", "2", 6, 9, -1.0),
    )
    write_catalog(
        Layout(tmp_path, "tiny"),
        Catalog("tiny", (Video("v1"), Video("v2")), (), (), marks, 3, "seconds"),
    )
    write_variant(tmp_path / "tiny", [rows_of("v1", 8)])
    data = opened(tmp_path / "tiny", unit="row", history="none")
    dataset = data.scoring("all")
    assert str(dataset.example_set.targets) == "2 targets = 1 used + 1 unavailable:private"
    sample = dataset.reader.read(dataset.example_set.examples[0], np.random.default_rng(0))
    assert sample.labels.tolist() == [0.75, 0.75, 0.5, 0.5, 0, 0, -0.5, -0.5]
    with pytest.raises(SettingsError, match="no users in the split 'test'"):
        data.scoring("test")


def test_marks_in_frames_are_refused(tmp_path: Path) -> None:
    write_catalog(
        Layout(tmp_path, "tiny"), Catalog("tiny", (Video("v1"),), (), (), (), 3, "frames")
    )
    write_variant(tmp_path / "tiny", [rows_of("v1", 8)])
    with pytest.raises(SettingsError, match="in frames"):
        opened(tmp_path / "tiny")


def test_an_account_has_to_add_up() -> None:
    with pytest.raises(ValueError, match="3 users in, but 1 used and 1 dropped"):
        ExampleCounts("users", 3, 1, {"gone": ("ann",)})


def test_a_split_without_users_lists_the_others(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"no users in the split 'validation'|holdout_users"):
        opened(folder, holdout_users=9).scoring("validation")
