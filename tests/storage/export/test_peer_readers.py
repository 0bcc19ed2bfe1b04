"""Each form opened with the reader that people use for it: values equal the store's, to the bit."""

from __future__ import annotations

import gc
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.base.records import Array, Ragged
from storage.export.run import ExportRequest, export_store
from storage.export.source.selection import SelectionRequest
from storage.features.store import FeatureStore
from tests.support.export_stores import DONE_IDS, TITLES, variant_named, write_hard_store

EXTRA = "the extra [export] is not installed"
LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""For webdataset, which leaves closing to the garbage collector."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_hard_store(tmp_path / "data")


def export(store: Path, form: str, out: Path, **what: Any) -> Path:
    export_store(ExportRequest(store, out, form, SelectionRequest(**what)))
    return out


def stored(store: Path, video_id: str, name: str) -> Array:
    rows = FeatureStore(store)["c3d"][video_id][name][:]
    assert isinstance(rows, np.ndarray)
    return rows


def ragged(store: Path, video_id: str, name: str) -> Ragged:
    rows = FeatureStore(store)["c3d"][video_id][name][:]
    assert isinstance(rows, Ragged)
    return rows


def bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    plain = np.ascontiguousarray(array)
    return plain.dtype.name, plain.shape, plain.tobytes()


def test_numpy_reads_npz(store: Path, tmp_path: Path) -> None:
    out = export(store, "npz", tmp_path / "out", clip_seconds=0.0)
    for video_id in DONE_IDS:
        with np.load(out / variant_named(store, "c3d") / "maps" / f"{video_id}.npz") as found:
            assert bits(found["features"]) == bits(stored(store, video_id, "maps"))
            assert bits(found["spans"]) == bits(FeatureStore(store)["c3d"][video_id].spans)


def test_pandas_reads_parquet(store: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason=EXTRA)
    pytest.importorskip("pyarrow", reason=EXTRA)
    out = export(store, "parquet", tmp_path / "out", variants=("c3d",))
    table = pandas.read_parquet(out / variant_named(store, "c3d"))
    assert list(dict.fromkeys(table["video_id"])) == sorted(DONE_IDS)
    for video_id in DONE_IDS:
        rows = table[table["video_id"] == video_id]
        spans = FeatureStore(store)["c3d"][video_id].spans
        assert bits(rows[["start_seconds", "end_seconds"]].to_numpy()) == bits(spans)
        single = np.stack(rows["Fc6"].to_list())
        assert bits(single) == bits(stored(store, video_id, "Fc6").astype(np.float32))
        maps = np.stack(rows["maps"].to_list())
        assert bits(maps) == bits(stored(store, video_id, "maps").reshape(len(rows), 4))
        assert rows["segment"].map(lambda row: row.tolist()).to_list() == [
            [number] for number in range(len(rows))
        ]
        boxes = ragged(store, video_id, "boxes")
        assert [len(row) for row in rows["boxes"]] == boxes.lengths.tolist()
        items = [item for row in rows["boxes"] for item in row]
        assert bits(np.array(items).reshape(-1, 4)) == bits(boxes.values)
        pictures = ragged(store, video_id, "jpeg")
        assert b"".join(rows["jpeg"]) == pictures.values.tobytes()
        assert all(picture.startswith(b"\xff\xd8") for picture in rows["jpeg"])


def test_pyarrow_adds_what_was_float16(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason=EXTRA)
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    out = export(store, "parquet", tmp_path / "out", arrays=("c3d/Fc6",), ids=("ABC",))
    column = pq.read_table(out / variant_named(store, "c3d"))["Fc6"].combine_chunks().flatten()
    total = pc.sum(pc.if_else(pc.is_finite(column), column, 0.0)).as_py()
    values = stored(store, "ABC", "Fc6").astype(np.float64)
    assert total == pytest.approx(float(values[np.isfinite(values)].sum()), rel=1e-6)


@LEAVES_FILES_OPEN
def test_webdataset_reads_the_tar_files(store: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason=EXTRA)
    out = export(store, "webdataset", tmp_path / "out")
    samples = webdataset.WebDataset(str(out / "shard-000000.tar"), shardshuffle=False).decode()
    found = {sample["__key__"]: sample for sample in samples}
    assert found.keys() == set(DONE_IDS)
    for video_id, sample in found.items():
        assert sample["json"]["metadata"].get("title") == TITLES.get(video_id)
        # The reader gives keys in lower case; dots of the variant's name are underscores.
        assert bits(sample["c3d.fc6.npy"]) == bits(stored(store, video_id, "Fc6"))
        assert bits(sample["c3d.spans.npy"]) == bits(FeatureStore(store)["c3d"][video_id].spans)
        boxes = ragged(store, video_id, "boxes")
        assert bits(sample["c3d.boxes.npy"]) == bits(boxes.values)
        assert bits(sample["c3d.boxes.lengths.npy"]) == bits(boxes.lengths)
    assert found["ABC"]["c3d_other.fc7.npy"].shape == (2, 5)
    gc.collect()


@LEAVES_FILES_OPEN
def test_webdataset_shards_hold_whole_samples(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    webdataset = pytest.importorskip("webdataset", reason=EXTRA)
    monkeypatch.setattr("storage.export.forms.webdataset.SHARD_BYTES", 1)
    out = export(store, "webdataset", tmp_path / "out")
    pattern = str(out / "shard-{000000..000003}.tar")
    samples = list(webdataset.WebDataset(pattern, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == sorted(DONE_IDS)
    gc.collect()


def test_zarr_reads_rows_by_their_offsets(store: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason=EXTRA)
    out = export(store, "zarr", tmp_path / "out")
    group = zarr.open_group(out, mode="r")[variant_named(store, "c3d")]
    ids, bounds = group.attrs["video_ids"], group["row_offsets"][:]
    assert ids == sorted(DONE_IDS)
    for number, video_id in enumerate(ids):
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        for name in ("Fc6", "maps", "segment"):
            assert bits(group[name][rows]) == bits(stored(store, video_id, name))
        items = group["marks/offsets"][rows.start : rows.stop + 1]
        marks = ragged(store, video_id, "marks")
        assert bits(group["marks/values"][items[0] : items[-1]]) == bits(marks.values)
        assert np.diff(items).tolist() == marks.lengths.tolist()


def test_zarr_appends_in_whole_chunks(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zarr = pytest.importorskip("zarr", reason=EXTRA)
    monkeypatch.setattr("storage.export.forms.zarr_groups.CHUNK_BYTES", 32)
    out = export(store, "zarr", tmp_path / "out", variants=("c3d",))
    array = zarr.open_group(out, mode="r")[variant_named(store, "c3d")]["Fc6"]
    assert array.chunks == (2, 8)
    expected = np.concatenate([stored(store, name, "Fc6") for name in sorted(DONE_IDS)])
    assert bits(array[:]) == bits(expected)


def test_hugging_face_loads_each_variant_by_its_name(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    datasets = pytest.importorskip("datasets", reason=EXTRA)
    out = export(store, "hf", tmp_path / "out", variants=("c3d", "c3d.other"))
    cache = str(tmp_path / "cache")
    name = variant_named(store, "c3d")
    assert datasets.get_dataset_config_names(str(out)) == [
        name, variant_named(store, "c3d.other"),
    ]  # fmt: skip
    table = datasets.load_dataset(str(out), name, split="train", cache_dir=cache)
    rows = table.with_format("numpy")[:]
    mine = np.array(rows["video_id"]) == "ABC"
    expected = stored(store, "ABC", "Fc6").astype(np.float32)
    assert bits(np.stack(list(rows["Fc6"]))[mine]) == bits(expected)
    pictures = [row["jpeg"] for row in table if row["video_id"] == "ABC"]
    assert b"".join(pictures) == ragged(store, "ABC", "jpeg").values.tobytes()


def test_a_split_is_named_in_the_card(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason=EXTRA)
    out = export(store, "hf", tmp_path / "out", variants=("c3d",), split="vlist_sel/held")
    assert '  - split: "held"\n' in (out / "README.md").read_text()


def test_a_large_video_is_split_over_row_groups_and_files(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason=EXTRA)
    import pyarrow.parquet as pq

    monkeypatch.setattr("storage.export.forms.parquet.BATCH_BYTES", 700)
    monkeypatch.setattr("storage.export.forms.parquet.FILE_BYTES", 1500)
    out = export(store, "parquet", tmp_path / "out", variants=("c3d",))
    files = sorted((out / variant_named(store, "c3d")).iterdir())
    assert len(files) > 1
    groups = [pq.ParquetFile(path).num_row_groups for path in files]
    assert sum(groups) > len(DONE_IDS)
    table = pq.read_table(out / variant_named(store, "c3d"))
    ids = table["video_id"].to_pylist()
    assert ids == sorted(ids)
    picture = io.BytesIO(table["jpeg"][0].as_py())
    assert picture.read(2) == b"\xff\xd8"
