"""A store as data frames: every row, label and status once, as the store and the catalog say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.base.errors import LookupFailed
from storage.base.paths import Layout
from storage.base.records import Annotation, Group, Link, Metadata, User, Video
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.features.store import FeatureStore
from tests.support.stores import SHARDS, rows_of, write_people, write_variant

pd: Any = pytest.importorskip("pandas", reason="needs the extra `export`")

MARKS = [("ann", "v0", 1.0, 2.5), ("ann", "v1", 0.0, 2.0), ("eve", "v2", 1.0, 3.0)]
HOSTILE = ("=cmd|' /C calc'!A0", "<script>alert(1)</script>", "{{7*7}}\n__import__('os')", "")


def people(root: Path) -> FeatureStore:
    folder = write_people(root, MARKS, {"ann": "v1", "eve": "v2"}, {"ann": "train", "eve": "test"})
    write_variant(folder, [rows_of("v0", 3), rows_of("v2", 5, row_seconds=0.5)])
    write_variant(folder, [rows_of("v0", 2)], variant="tased", settings={"extractor": "tased"})
    return FeatureStore(folder)


def test_spans_are_those_of_the_store(tmp_path: Path) -> None:
    store = people(tmp_path)
    frame = store.to_pandas("spans")
    assert list(frame.columns) == ["video_id", "variant", "row", "start_seconds", "end_seconds"]
    assert len(frame) == 3 + 5 + 2
    for name in store.variants():
        for video_id, video in store[name].items():
            part = frame[(frame["variant"] == name) & (frame["video_id"] == video_id)]
            np.testing.assert_array_equal(
                part[["start_seconds", "end_seconds"]].to_numpy(), video.spans
            )
            assert part["row"].tolist() == list(range(video.rows))
    assert [str(dtype) for dtype in frame.dtypes] == [
        "category", "category", "int64", "float64", "float64",
    ]  # fmt: skip


def test_one_variant_may_be_asked_for(tmp_path: Path) -> None:
    frame = people(tmp_path).to_pandas("spans", variant="tased")
    assert frame["video_id"].tolist() == ["v0", "v0"]
    with pytest.raises(LookupFailed, match="has no variant 'c4d'"):
        people(tmp_path / "other").to_pandas("spans", variant="c4d")


def test_labels_have_the_split_of_their_user(tmp_path: Path) -> None:
    frame = people(tmp_path).to_pandas("labels")
    assert frame.to_dict("records") == [
        {"video_id": video, "annotator": user, "start": start, "end": end, "unit": "seconds",
         "value": 1.0, "split": {"ann": "train", "eve": "test"}[user]}
        for user, video, start, end in MARKS
    ]  # fmt: skip
    assert [str(dtype) for dtype in frame.dtypes] == [
        "string", "string", "float64", "float64", "category", "float64", "string",
    ]  # fmt: skip


def test_states_have_a_line_for_every_id_and_variant(tmp_path: Path) -> None:
    store = people(tmp_path)
    frame = store.to_pandas("states").set_index(["variant", "video_id"])
    assert len(frame) == 2 * 3
    for name in store.variants():
        for video_id, status in store[name].statuses.items():
            row = frame.loc[(name, video_id)]
            assert (row["state"], row["reason"]) == (str(status.state), status.reason)


def catalog(**tables: Any) -> Catalog:
    rows: dict[str, Any] = {"users": (), "links": (), "annotations": (), **tables}
    videos = (Video("v0"), Video("v1"))
    return Catalog("tiny", videos, shard_count=SHARDS, time_unit="frames", **rows)


def written(root: Path, **tables: Any) -> FeatureStore:
    write_catalog(Layout(root, "tiny"), catalog(**tables))
    write_variant(root / "tiny", [rows_of("v0", 3)])
    return FeatureStore(root / "tiny")


def test_the_split_of_a_video_counts_where_there_are_no_users(tmp_path: Path) -> None:
    marks = (Annotation("v0", "match", 0, 9, -1.0), Annotation("v1", "match", 3, 5))
    groups = (Group("umt", "train", "v0"), Group("umt", "val", "v0"))
    frame = written(tmp_path, annotations=marks, groups=groups).to_pandas("labels")
    assert frame["split"].tolist() == ["train|val", pd.NA]
    assert frame["unit"].tolist() == ["frames", "frames"]
    assert frame["value"].tolist() == [-1.0, 1.0]


def test_several_published_splits_need_a_name(tmp_path: Path) -> None:
    groups = (Group("umt", "train", "v0"), Group("vlist_sel", "test", "v0"))
    store = written(tmp_path, annotations=(Annotation("v0", "match", 0, 9),), groups=groups)
    with pytest.raises(LookupFailed, match="name one of umt, vlist_sel"):
        store.to_pandas("labels")
    assert store.to_pandas("labels", grouping="vlist_sel")["split"].tolist() == ["test"]


def test_an_annotator_who_is_no_user_has_no_split(tmp_path: Path) -> None:
    store = written(
        tmp_path,
        users=(User("ann", "train"),),
        links=(Link("ann", "v0", "target"),),
        annotations=(Annotation("v0", "ann", 0, 9), Annotation("v0", "guest", 1, 2)),
    )
    assert store.to_pandas("labels")["split"].tolist() == ["train", pd.NA]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_list_are_data(tmp_path: Path, text: str) -> None:
    key = text.partition("\n")[0] or "state"
    store = written(tmp_path, metadata=(Metadata("v0", key, text), Metadata("v1", "title", text)))
    frame = store.to_pandas("states")
    assert frame[f"metadata.{key}"].tolist() == [text, pd.NA]
    assert frame["metadata.title"].tolist() == [pd.NA, text]
    assert frame["state"].tolist() == ["done", "unavailable"]


def test_a_variant_that_has_not_reached_a_video_states_nothing(tmp_path: Path) -> None:
    store = written(tmp_path)
    write_catalog(
        Layout(tmp_path, "tiny"),
        Catalog("tiny", (*catalog().videos, Video("v9")), (), (), (), SHARDS, "frames"),
    )
    assert store.to_pandas("states").set_index("video_id")["state"].isna().tolist() == [
        False, False, True,
    ]  # fmt: skip


def test_an_empty_store_gives_empty_frames_with_all_columns(tmp_path: Path) -> None:
    write_catalog(Layout(tmp_path, "tiny"), catalog())
    store = FeatureStore(tmp_path / "tiny")
    for table, columns in (("spans", 5), ("labels", 7), ("states", 5)):
        assert store.to_pandas(table).shape == (0, columns)  # type: ignore[arg-type]


def test_an_unknown_table_lists_the_tables(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match="choose one of spans, labels, states"):
        people(tmp_path).to_pandas("rows")  # type: ignore[arg-type]


def test_reading_a_store_imports_no_pandas_and_its_absence_is_a_message(tmp_path: Path) -> None:
    people(tmp_path)
    code = (
        "import sys; from storage import FeatureStore\n"
        "from storage.commands import run_and_exit\n"
        "store = FeatureStore(sys.argv[1]); store['c3d']['v0'].spans\n"
        "assert 'pandas' not in sys.modules\n"
        "sys.modules['pandas'] = None\n"
        "run_and_exit(lambda: store.to_pandas('spans'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tiny")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "pandas is not installed: run pip install '.[export]' in your checkout of "
        "video-highlights\n",
    )


def test_row_counts_are_those_of_the_parts(tmp_path: Path) -> None:
    store = people(tmp_path)
    assert store["c3d"].row_counts == {"v0": 3, "v2": 5}
    assert len(read_catalog(store.folder).videos) == 3
