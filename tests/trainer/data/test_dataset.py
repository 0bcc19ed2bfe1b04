"""What a model is handed: the store's own rows or their means, labels, pairs, histories; and what
is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import JSON
from storage.features.store import FeatureStore
from tests.support.stores import SETTINGS, rows_of, write_frames, write_people, write_variant
from trainer.data import DataSettings, DeviceBatch, Loader, LoaderSettings, open_data

KEY = "c3d/pool5"
MARKS = [
    ("ann", "v1", 2.0, 4.4),  # row 4 is covered for 0.4 of its second
    ("ann", "v1", 4.3, 4.6),  # ... and with this one for 0.6
    ("ann", "v2", 1.0, 3.0),
    ("ann", "v2", 10.0, 30.0),
    ("ann", "v3", 5.2, 5.3),  # shorter than half a row
    ("bob", "v2", 0.0, 5.0),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_people(
        tmp_path, MARKS, {"ann": "v1", "bob": "v2"}, {"ann": "test", "bob": "test"}
    )
    write_variant(folder, [rows_of("v1", 12), rows_of("v2", 40), rows_of("v3", 8)])
    return folder


def loaded(
    folder: Path, *, user: str = "ann", training: bool = False, **changes: object
) -> DeviceBatch:
    """The batch of size 1 of this user's target."""
    fields: dict[str, object] = {
        "arrays": (KEY,),
        "unit": "row",
        "history": "clips",
        "targets": "last",
    }
    data = open_data(folder, DataSettings(**(fields | changes)))  # type: ignore[arg-type]
    dataset = data.training("test") if training else data.scoring("test")
    return next(
        found for found in Loader(dataset, LoaderSettings(1)) if found.examples[0].user_id == user
    )


def test_rows_are_the_stores_own(folder: Path) -> None:
    batch, targets, examples = loaded(folder)
    stored = FeatureStore(folder)["c3d"]["v1"]
    assert batch.features[KEY].dtype == torch.float32
    assert (batch.features[KEY][0].numpy() == np.asarray(stored["pool5"], np.float32)).all()
    assert (batch.spans[0].numpy() == stored.spans).all()
    assert batch.mask.all()
    assert examples[0].video_id == "v1"
    assert targets.labels[0].tolist() == [0, 0, 1, 1, 1] + [0] * 7
    assert (targets.positive == (targets.labels > 0)).all()


def test_clips_of_a_history_are_the_marked_rows(folder: Path) -> None:
    batch, _, _ = loaded(folder)
    firsts = [
        rows[mask].tolist()
        for rows, mask in zip(batch.history_spans[0, :, :, 0], batch.history_mask[0], strict=True)
    ]
    assert sorted(firsts) == [[1, 2], [5], list(range(10, 30))]
    assert (batch.history[KEY][~batch.history_mask] == 0).all()
    stored = np.asarray(FeatureStore(folder)["c3d"]["v2"]["pool5"], np.float32)
    longest = int(batch.history_mask[0].sum(1).argmax())
    assert (batch.history[KEY][0, longest].numpy() == stored[10:30]).all()


def test_videos_of_a_history_hold_all_that_was_marked_there(folder: Path) -> None:
    batch, _, _ = loaded(folder, history="videos")
    assert sorted(batch.history_mask[0].sum(1).tolist()) == [1, 22]


def test_shots_of_a_history_are_means_of_pieces(folder: Path) -> None:
    batch, _, _ = loaded(folder, unit="segment", history="shots")
    assert batch.history[KEY].shape == (
        1,
        6,
        1,
        4,
    )  # one of v3; of v2 one, and 20 seconds in pieces of 5
    spans = sorted(batch.history_spans[0, :, 0].tolist())
    assert spans == [[1, 3], [5.2, 5.3], [10, 15], [15, 20], [20, 25], [25, 30]]
    place = batch.history_spans[0, :, 0, 0].tolist().index(10)
    assert (
        batch.history[KEY][0, place, 0].tolist() == [12 + 2 / 8] * 4
    )  # the mean of rows 10 to 14 of v2


def test_segments_are_means_weighted_by_time(folder: Path) -> None:
    batch, targets, _ = loaded(folder, unit="segment", history="shots", training=True)
    assert batch.spans[0].tolist() == [[0, 2], [2, 4.6], [4.6, 9.6], [9.6, 12]]
    values = batch.features[KEY][0, :, 0].numpy() - 1 / 8
    expected = [
        0.5,
        (2 + 3 + 0.6 * 4) / 2.6,
        (0.4 * 4 + 5 + 6 + 7 + 8 + 0.6 * 9) / 5,
        (0.4 * 9 + 10 + 11) / 2.4,
    ]
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    assert targets.labels[0].tolist() == [0, 1, 0, 0]
    assert set(targets.pairs[0, :, 0].tolist()) == {1}
    assert set(targets.pairs[0, :, 1].tolist()) == {0, 2, 3}


def test_scoring_segments_are_at_true_time(folder: Path) -> None:
    batch, targets, _ = loaded(folder, unit="segment", history="shots")
    assert batch.spans[0].tolist() == [[0, 5], [5, 10], [10, 12]]
    assert targets.labels[0].tolist() == [1, 0, 0]  # 2.6 of 5 seconds


def test_reading_pairs_alone_gives_their_positions(folder: Path) -> None:
    whole = loaded(folder, user="bob", training=True, unit="segment", history="shots", pairs=2)
    few = loaded(
        folder, user="bob", training=True, unit="segment", history="shots", pairs=2, only_pairs=True
    )
    assert few.batch.mask.sum() <= 4 < whole.batch.mask.sum()
    for places, all_places in zip(
        few.targets.pairs[0].flatten(), whole.targets.pairs[0].flatten(), strict=True
    ):
        assert (few.batch.spans[0, places] == whole.batch.spans[0, all_places]).all()
        assert (
            few.batch.features[KEY][0, places] == whole.batch.features[KEY][0, all_places]
        ).all()


def test_no_pair_has_a_touched_position_as_non_highlight(tmp_path: Path) -> None:
    folder = write_people(tmp_path, [("ann", "v1", 1.0, 2.4)], {"ann": "v1"}, {"ann": "test"})
    write_variant(folder, [rows_of("v1", 4)])
    _, targets, _ = loaded(folder, pairs=50)
    assert set(targets.pairs[0, :, 1].tolist()) == {0, 3}  # row 2 is covered for 0.4
    write_people(tmp_path / "all", [("ann", "v1", 0.0, 9.0)], {"ann": "v1"}, {"ann": "test"})
    write_variant(tmp_path / "all" / "tiny", [rows_of("v1", 4)])
    _, targets, _ = loaded(tmp_path / "all" / "tiny")
    assert (targets.pairs == -1).all()


def test_windows_are_cut_side_by_side_and_hold_a_highlight(folder: Path) -> None:
    settings = DataSettings((KEY,), "row", "none", window_rows=6)
    dataset = open_data(folder, settings).training("test")
    windows = [
        (example.video_id, example.user_id, example.window)
        for example in dataset.example_set.examples
    ]
    assert windows == [
        ("v1", "ann", (0, 6)),
        ("v2", "ann", (0, 6)), ("v2", "ann", (6, 12)), ("v2", "ann", (12, 18)), ("v2", "ann", (18, 24)),
        ("v2", "ann", (24, 30)), ("v2", "bob", (0, 6)),
    ]  # fmt: skip
    for batch, targets, examples in Loader(dataset, LoaderSettings(1)):
        first, end = examples[0].window or (-1, -1)
        assert batch.spans[0, :, 0].tolist() == list(range(first, end))
        assert targets.positive.any()
    assert dataset.example_set.targets.dropped == {"no position is a highlight": ("ann/v3",)}


def test_draws_have_an_element_of_each_video_and_change_with_the_epoch(tmp_path: Path) -> None:
    marks = [
        ("ann", f"v{video}", 10.0 * item, 10.0 * item + 2)
        for video in range(1, 6)
        for item in range(4)
    ]
    folder = write_people(tmp_path, marks, {"ann": "v1"}, {"ann": "test"})
    write_variant(folder, [rows_of(f"v{video}", 40) for video in range(1, 6)])
    settings = DataSettings((KEY,), "segment", "shots", max_elements=6, targets="last")
    loader = Loader(open_data(folder, settings).training("test"), LoaderSettings(1))
    seen = []
    for _ in range(20):
        for batch, _, _ in loader:
            values = batch.history[KEY][0, :, 0, 0]
            videos = (
                (values * 8).round().long() % 8 - 4
            ) % 8  # the mean of two rows is ... + 1/2 + video/8
            assert sorted(set(videos.tolist())) == [2, 3, 4, 5]
            assert batch.history_mask.shape == (1, 6, 1)
            seen.append(tuple(values.tolist()))
    assert len(set(seen)) > 10


def test_scoring_draws_nothing_and_sees_all(folder: Path) -> None:
    data = open_data(folder, DataSettings((KEY,), "segment", "shots", max_elements=2))
    loader = Loader(data.scoring("test"), LoaderSettings(2))
    (first,), (second,) = list(loader), list(loader)
    assert first.batch.history_mask.shape[1] == 6
    assert (first.batch.history[KEY] == second.batch.history[KEY]).all()
    assert (first.targets.pairs == second.targets.pairs).all()


def test_long_elements_are_thinned_evenly(folder: Path) -> None:
    batch, _, _ = loaded(folder, element_rows=3)
    longest = batch.history_spans[0, int(batch.history_mask[0].sum(1).argmax()), :, 0]
    assert longest.tolist() == [10, 20, 29]


def test_padding_is_zero_outside_every_mask(folder: Path) -> None:
    data = open_data(folder, DataSettings((KEY,), "row", "videos"))
    (found,) = Loader(data.scoring("test"), LoaderSettings(8))
    batch, targets, examples = found
    assert [example.user_id for example in examples] == ["ann", "bob"]
    assert batch.mask.sum(1).tolist() == [12, 40]
    assert (batch.features[KEY][~batch.mask] == 0).all()
    assert (batch.spans[~batch.mask] == 0).all()
    assert not targets.positive[~batch.mask].any()
    assert batch.history_mask[1].sum() == 0  # bob marked no other video
    assert targets.pairs.shape == (2, 5, 2)


def test_nobody_has_a_history(folder: Path) -> None:
    batch, _, _ = loaded(folder, whose="nobody")
    assert batch.history[KEY].shape == (1, 0, 0, 4)
    assert batch.history_mask.shape == (1, 0, 0)
    batch, _, _ = loaded(folder, history="none")
    assert batch.history == {}


def test_ragged_arrays_become_dense(folder: Path) -> None:
    write_frames(folder, "v1", [0, 1, 3, 2])
    arrays = ("yolov5/p5", "keypoint_rcnn/joints", "frames/jpeg")
    items = {"keypoint_rcnn/joints": 2, "frames/jpeg": 3}
    batch, _, _ = loaded(folder, arrays=arrays, max_items=items, history="none")
    joints, jpeg = batch.features["keypoint_rcnn/joints"], batch.features["frames/jpeg"]
    assert joints.shape == (1, 4, 2, 17, 2)
    assert (joints[0, :, :, 0, 0] == torch.tensor([[0, 0], [1, 0], [35, 69], [137, 171]])).all()
    assert jpeg.dtype == torch.uint8
    assert jpeg[0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3], [4, 5, 0]]
    assert open_data(folder, DataSettings(arrays, "row", "none", max_items=items)).shapes == {
        "yolov5/p5": (3, 2, 2), "keypoint_rcnn/joints": (2, 17, 2), "frames/jpeg": (3,),
    }  # fmt: skip


def test_ragged_arrays_without_a_bound_or_to_be_averaged_are_refused(folder: Path) -> None:
    write_frames(folder, "v1", [0, 1])
    with pytest.raises(SettingsError, match="keypoint_rcnn/joints is ragged and needs max_items"):
        loaded(folder, arrays=("keypoint_rcnn/joints",))
    with pytest.raises(SettingsError, match="c3d/pool5 is not ragged and takes no max_items"):
        loaded(folder, max_items={KEY: 3})
    with pytest.raises(LookupFailed, match="has no mean over a segment"):
        loaded(
            folder, arrays=("keypoint_rcnn/joints",), unit="segment", history="none",
            max_items={"keypoint_rcnn/joints": 2},
        )  # fmt: skip


def test_rows_about_other_spans_are_refused_as_rows_and_taken_as_segments(folder: Path) -> None:
    write_frames(folder, "v1", [1] * 20)
    arrays = (KEY, "yolov5/p5")
    with pytest.raises(
        LookupFailed,
        match=r"v1: the 20 rows of yolov5-\w+ are not about the same spans as the 12 of c3d",
    ):
        loaded(folder, arrays=arrays, history="none")
    batch, _, _ = loaded(folder, arrays=arrays, unit="segment", history="none")
    assert batch.spans[0].tolist() == [[0, 5], [5, 10]]  # from 10 s on there are no frames
    assert batch.features["yolov5/p5"].shape == (1, 2, 3, 2, 2)


def test_features_a_model_was_not_trained_on_are_refused_and_both_are_named(
    folder: Path, tmp_path: Path
) -> None:
    mine = FeatureStore(folder)["c3d"].name
    trained: dict[str, JSON] = {**SETTINGS, "settings": {"stride_frames": 8}}
    settings = DataSettings((KEY,), "row", "none")
    with pytest.raises(
        SettingsError,
        match=rf"c3d-\w+ \(settings.stride_frames=8\).*{mine} \(settings.stride_frames=16\)",
    ):
        open_data(folder, settings, trained_on={"c3d": trained})
    with pytest.raises(SettingsError, match="trained on yolov5, not on c3d"):
        open_data(folder, settings, trained_on={"yolov5": trained})
    wanted = write_variant(folder, [rows_of("v1", 12)], variant="c3d.dense", settings=trained)
    data = open_data(
        folder, settings, trained_on={"c3d": trained}
    )  # the name is a person's, the settings decide
    assert data.features.readers["c3d"].name == wanted
    assert (
        open_data(folder, settings, trained_on={"c3d": SETTINGS}).features.readers["c3d"].name
        == mine
    )
    assert data.trained_on == {"c3d": trained}


def test_made_up_features_say_so(folder: Path) -> None:
    write_variant(folder, [rows_of("v1", 12)], variant="other", settings={"weights": "random:3"})
    assert open_data(folder, DataSettings((KEY,), "row", "none")).scoring("test").notes == ()
    (note,) = open_data(folder, DataSettings(("other/pool5",), "row", "none")).scoring("test").notes
    assert "random:3" in note


def test_training_on_made_shots_says_so(folder: Path) -> None:
    data = open_data(folder, DataSettings((KEY,), "segment", "shots"))
    assert any("not a shot detector's" in note for note in data.training("test").notes)
    assert not data.scoring("test").notes


def test_a_table_of_shots_is_used_and_its_gaps_are_accounted_for(
    folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "shots.csv"
    table.write_text("video_id,start_seconds,end_seconds\nv1,0,2.5\nv1,2.5,4\nv1,4,12\n")
    dataset = open_data(folder, DataSettings((KEY,), "segment", "shots", shots=table)).training(
        "test"
    )
    assert dataset.example_set.targets.dropped == {
        "not in the table of shots": ("ann/v2", "ann/v3", "bob/v2")
    }
    (found,) = Loader(dataset, LoaderSettings(4))
    assert found.batch.spans[0].tolist() == [[0, 2.5], [2.5, 4], [4, 12]]
    assert found.targets.positive[0].tolist() == [False, True, False]
    assert (found.targets.pairs == -1).all()  # both other shots touch a GIF
    assert not dataset.notes


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"arrays": ()}, "at least one"),
        ({"arrays": ("pool5",)}, "keys such as"),
        ({"max_items": {"a/b": 1}}, "not in arrays: a/b"),
        ({"unit": "segment", "window_rows": 256}, "window_rows needs a model of rows"),
        ({"only_pairs": True}, "needs a model of segments"),
        ({"only_pairs": True, "pairs": 0}, "pairs of at least 1"),
        ({"window_rows": 0}, "at least 1; got 0"),
        ({"segment_seconds": 0}, "above 0"),
        ({"max_elements": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], fault: str) -> None:
    fields: dict[str, object] = {"arrays": (KEY,), "unit": "row", "history": "none"}
    with pytest.raises(ValueError, match=fault):
        DataSettings(**(fields | changes))  # type: ignore[arg-type]
