"""Windows of any store: every row comes, at its place and time, whatever the catalog says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from storage.base.errors import LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.base.records import Annotation, Group, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.features.store import FeatureStore
from tests.support.annotated_stores import write_domains
from tests.support.stores import SHARDS, rows_of, write_frames, write_people, write_variant
from trainer.data import WindowDataset
from trainer.data.windows import window_starts

KEY = "c3d/pool5"
MARKS = [
    ("ann", "v0", 1.0, 2.5),
    ("ann", "v0", 2.0, 3.25),
    ("bob", "v0", 6.0, 7.0),
    ("ann", "v1", 0.0, 2.0),
    ("eve", "v2", 1.0, 3.0),
]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    splits = {"ann": "train", "bob": "train", "eve": "test"}
    folder = write_people(tmp_path, MARKS, {"ann": "v1", "eve": "v2"}, splits)
    write_variant(folder, [rows_of("v0", 9), rows_of("v2", 3)])
    return folder


def bare(root: Path, **tables: Any) -> Path:
    """A catalog of two videos without users, annotators or labels, and their rows."""
    rows: dict[str, Any] = {"annotations": (), "time_unit": "seconds", **tables}
    videos = (Video("v0"), Video("v1"))
    write_catalog(Layout(root, "tiny"), Catalog("tiny", videos, (), (), shard_count=SHARDS, **rows))
    write_variant(root / "tiny", [rows_of("v0", 9), rows_of("v1", 3)])
    return root / "tiny"


def test_windows_hold_the_rows_of_the_store(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=4, stride_rows=3)
    store = FeatureStore(people)["c3d"]
    assert [(one["video_id"], one["row"]) for one in map(dataset.__getitem__, range(4))] == [
        ("v0", 0), ("v0", 3), ("v0", 6), ("v2", 0),
    ]  # fmt: skip
    assert len(dataset) == 4
    for window in map(dataset.__getitem__, range(len(dataset))):
        video, first = store[window["video_id"]], window["row"]
        count = int(window["mask"].sum())
        assert window["mask"].tolist() == [place < count for place in range(4)]
        assert count == min(4, video.rows - first)
        assert (window[KEY].dtype, window[KEY].shape) == (torch.float32, (4, 4))
        assert (window["spans"].dtype, window["spans"].shape) == (torch.float64, (4, 2))
        stored = np.asarray(video["pool5"][first : first + count], np.float32)
        np.testing.assert_array_equal(window[KEY][:count], stored)
        np.testing.assert_array_equal(window["spans"][:count], video.spans[first : first + count])
        assert not window[KEY][count:].any()
        assert not window["spans"][count:].any()
        assert "label" not in window


@pytest.mark.parametrize("rows", range(1, 12))
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (4, 1), (4, 3), (4, 4), (3, 5), (20, 7)])
def test_windows_reach_the_end_and_none_is_within_another(
    rows: int, window: int, stride: int
) -> None:
    starts = window_starts(rows, window, stride).tolist()
    assert starts == [stride * number for number in range(len(starts))]
    covered = {row for start in starts for row in range(start, min(start + window, rows))}
    wanted = {row for row in range(rows) if row % stride < window}
    assert covered == wanted
    assert all(start < rows for start in starts)
    assert all(start + window < rows for start in starts[:-1])


def test_negative_numbers_count_from_the_end_and_others_are_refused(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=4)
    assert dataset[-1]["video_id"] == "v2"
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_a_catalog_of_nothing_but_videos_is_enough(tmp_path: Path) -> None:
    dataset = WindowDataset(str(bare(tmp_path)), [KEY], window_rows=5)
    assert dataset.video_ids == ("v0", "v1")
    assert dataset.shapes == {KEY: (4,)}
    assert WindowDataset(tmp_path / "tiny", [KEY], window_rows=5, split="all").digest == (
        dataset.digest
    )


def test_videos_without_features_are_counted(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=5)
    assert str(dataset.counts) == "3 videos = 2 used + 1 unavailable:private"


def test_splits_are_those_of_the_catalog(people: Path) -> None:
    assert WindowDataset(people, [KEY], window_rows=2, split="train").video_ids == ("v0",)
    assert WindowDataset(people, [KEY], window_rows=2, split="test").video_ids == ("v2",)
    assert WindowDataset(people, [KEY], window_rows=2, split=["v2", "v0"]).video_ids == ("v0", "v2")
    folds = {
        WindowDataset(people, [KEY], window_rows=2, split=f"folds-2-{fold}/test").video_ids
        for fold in range(2)
    }
    assert {video_id for ids in folds for video_id in ids} == {"v0", "v2"}
    with pytest.raises(LookupFailed, match="has no split 'val'; it has test, train"):
        WindowDataset(people, [KEY], window_rows=2, split="val")
    with pytest.raises(LookupFailed, match="has no video 'v7' and 1 others"):
        WindowDataset(people, [KEY], window_rows=2, split=["v7", "v8", "v0"])


def test_a_split_without_features_is_an_error_with_counts(people: Path) -> None:
    with pytest.raises(SettingsError, match=r"1 videos = 0 used \+ 1 unavailable"):
        WindowDataset(people, [KEY], window_rows=2, split=["v1"])


@pytest.mark.parametrize("name", ["window_rows", "stride_rows"])
def test_sizes_are_at_least_one(people: Path, name: str) -> None:
    sizes = {"window_rows": 4, name: 0}
    with pytest.raises(ValueError, match=name):
        WindowDataset(people, [KEY], **sizes)  # type: ignore[arg-type]


def test_labels_of_users_are_covered_shares(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=9, labels="user")
    # Of v0: [1, 3.25) by two overlapping marks of one user, and [6, 7) by another.
    assert dataset[0]["label"].tolist() == [0, 1, 1, 0.25, 0, 0, 1, 0, 0]
    assert dataset[1]["label"].tolist() == [0, 1, 1] + [0] * 6  # padded rows have 0
    assert dataset[0]["label"].dtype == torch.float32


def test_labels_of_one_user_leave_out_the_videos_of_others(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=9, labels="user:bob")
    assert dataset[0]["label"].tolist() == [0] * 6 + [1, 0, 0]
    assert str(dataset.counts) == "3 videos = 1 used + 1 not annotated + 1 unavailable:private"
    with pytest.raises(LookupFailed, match="has no annotations by 'joe'"):
        WindowDataset(people, [KEY], window_rows=9, labels="user:joe")


def test_a_mark_without_value_is_no_highlight_but_an_annotation(tmp_path: Path) -> None:
    marks = (Annotation("v0", "a", 1.0, 2.0, 0.0), Annotation("v0", "a", 3.0, 3.5, 0.1))
    folder = bare(tmp_path, annotations=marks)
    dataset = WindowDataset(folder, [KEY], window_rows=9, labels="user")
    assert dataset.video_ids == ("v0",)
    assert dataset[0]["label"].tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0, 0]


def test_labels_that_a_catalog_does_not_have_are_errors(people: Path, tmp_path: Path) -> None:
    unlabelled = bare(tmp_path / "bare")
    for labels, folder, message in (
        ("user", unlabelled, "has no annotations; use labels=None"),
        ("annotator", people, "no rule for its annotations"),
        ("mean", people, "must be user, user:NAME or annotator"),
        ("user:", people, "must be user, user:NAME or annotator"),
    ):
        with pytest.raises(SettingsError, match=message):
            WindowDataset(folder, [KEY], window_rows=2, labels=labels)


@pytest.mark.parametrize("reader", ["own intervals", "ActivityNet"])
def test_marked_intervals_of_a_dataset_with_a_rule_are_exact(tmp_path: Path, reader: str) -> None:
    marks = (Annotation("v0", "me", 1.5, 2.25), Annotation("v0", "you", 2.0, 4.0))
    folder = bare(tmp_path, annotations=marks, origin={"reader": reader})
    dataset = WindowDataset(folder, [KEY], window_rows=9, labels="user")
    assert dataset[0]["label"].tolist() == [0, 0.5, 1, 1, 0, 0, 0, 0, 0]
    one = WindowDataset(folder, [KEY], window_rows=9, labels="user:me")
    assert one[0]["label"].tolist() == [0, 0.5, 0.25, 0, 0, 0, 0, 0, 0]


def test_labels_of_annotators_follow_the_rule_of_their_dataset(tmp_path: Path) -> None:
    folder = write_domains(tmp_path, videos=2)
    key = "c3d.segments/fc6"
    dataset = WindowDataset(folder, [key], window_rows=64, split="domain/dog", labels="annotator")
    assert dataset.video_ids == ("dog00", "dog01")
    catalog = read_catalog(folder)
    for window in map(dataset.__getitem__, range(len(dataset))):
        # Segments of 100 frames overlap by half, so a row is covered by its neighbours too.
        frames = np.zeros(10_000, bool)
        for row in catalog.annotations:
            if (row.video_id, row.annotator) == (window["video_id"], "match") and row.value > 0:
                frames[int(row.start) : int(row.end)] = True
        starts = (window["spans"][window["mask"]][:, 0] * 25).round().long().tolist()
        expected = [frames[start : start + 100].mean() for start in starts]
        np.testing.assert_allclose(window["label"][window["mask"]], expected, atol=1e-6)
    with pytest.raises(SettingsError, match="use labels='annotator'"):
        WindowDataset(folder, [key], window_rows=64, labels="user")
    with pytest.raises(LookupFailed, match="name one of set_learning_sorted, vlist_sel"):
        WindowDataset(folder, [key], window_rows=64, split="test")


def test_ragged_and_dense_arrays_of_several_variants_come_together(tmp_path: Path) -> None:
    write_catalog(
        Layout(tmp_path, "tiny"), Catalog("tiny", (Video("v0"),), (), (), (), SHARDS, "seconds")
    )
    folder = tmp_path / "tiny"
    write_frames(folder, "v0", [2, 0, 5])
    keys = ["yolov5/p5", "keypoint_rcnn/joints", "frames/jpeg"]
    limits = {"keypoint_rcnn/joints": 3, "frames/jpeg": 4}
    window = WindowDataset(folder, keys, window_rows=4, max_items=limits)[0]
    assert window["yolov5/p5"].shape == (4, 3, 2, 2)
    assert window["keypoint_rcnn/joints"].shape == (4, 3, 17, 2)
    assert window["frames/jpeg"].dtype == torch.uint8
    stored = np.asarray(FeatureStore(folder)["keypoint_rcnn"]["v0"]["joints"][2])
    np.testing.assert_array_equal(window["keypoint_rcnn/joints"][2], stored[:3])
    assert not window["keypoint_rcnn/joints"][1].any()
    with pytest.raises(SettingsError, match="is ragged and needs max_items"):
        WindowDataset(folder, keys, window_rows=4)


def test_random_weights_are_noted(tmp_path: Path) -> None:
    folder = bare(tmp_path)
    settings = {"extractor": "c3d", "weights": "random:0"}
    write_variant(folder, [rows_of("v0", 2)], variant="dry", settings=settings)
    notes = WindowDataset(folder, ["dry/pool5"], window_rows=2).notes
    assert len(notes) == 1
    assert "random:0: no result about real videos" in notes[0]


def test_the_digest_follows_the_windows(people: Path) -> None:
    made = [
        WindowDataset(people, [KEY], window_rows=4),
        WindowDataset(people, [KEY], window_rows=4, stride_rows=2),
        WindowDataset(people, [KEY], window_rows=3, stride_rows=4),
        WindowDataset(people, [KEY], window_rows=4, split="train"),
    ]
    assert len({dataset.digest for dataset in made}) == len(made)
    assert made[0].digest == WindowDataset(people, [KEY], window_rows=4, stride_rows=4).digest


def test_a_copy_in_another_process_needs_no_catalog(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=4, labels="user")
    dataset[0]  # opens a part
    (people / "catalog.json").unlink()
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301  our own
    for number in range(len(dataset)):
        assert torch.equal(copy[number][KEY], dataset[number][KEY])
        assert torch.equal(copy[number]["label"], dataset[number]["label"])


def test_torch_makes_batches_of_windows(people: Path) -> None:
    dataset = WindowDataset(people, [KEY], window_rows=4, labels="user")
    (batch,) = DataLoader(dataset, batch_size=8)
    assert batch["video_id"] == ["v0", "v0", "v0", "v2"]
    assert batch["row"].tolist() == [0, 4, 8, 0]
    assert batch[KEY].shape == (4, 4, 4)
    assert batch["mask"].sum() == 12
    assert batch["label"].shape == (4, 4)


def test_a_published_split_is_named_with_its_grouping(tmp_path: Path) -> None:
    groups = (Group("umt", "val", "v1"), Group("vlist_sel", "test", "v0"))
    folder = bare(tmp_path, groups=groups)
    assert WindowDataset(folder, [KEY], window_rows=2, split="umt/val").video_ids == ("v1",)
