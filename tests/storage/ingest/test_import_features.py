"""Imports: round trips, files of every form, and bad files that cost only themselves."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from storage.__main__ import main
from storage.base.errors import SettingsError
from storage.base.records import FeatureTrack, Video
from storage.base.video_status import State
from storage.catalog.catalog import Catalog, read_catalog, write_catalog
from storage.export.run import ExportRequest, export_store
from storage.export.source.selection import SelectionRequest
from storage.features.store import FeatureStore
from storage.ingest.import_features import ImportRequest, ImportSummary, import_features
from storage.maintenance.audit import audit
from tests.support.export_stores import write_hard_store
from tests.support.stores import write_variant


def rows(
    seed: int, count: int = 5, width: int = 3
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = np.random.default_rng(seed).normal(size=(count, width))
    return values.astype(np.float32)


def take(folder: Path, into: Path, **more: object) -> ImportSummary:
    request: dict[str, object] = {"name": "slowfast", "seconds_per_row": 2.0, **more}
    return import_features(ImportRequest(folder, into, **request))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "theirs"
    made.mkdir()
    return made


def test_an_export_comes_back_with_the_same_digest(tmp_path: Path) -> None:
    tracks = [
        FeatureTrack(
            video_id,
            np.array([[0.0, 0.5], [0.7, 1.25], [1.25, 3.0]]),
            {"fc6": np.array([[1, -0.0], [65504, 6e-8], [3, 4]], np.float16)},
        )
        for video_id in ("-a", "B")
    ]
    store = store_of(tmp_path / "first" / "own", tracks)
    what = SelectionRequest(clip_seconds=0.0)
    export_store(ExportRequest(store, tmp_path / "out", "npz", what))
    (folder,) = (tmp_path / "out").glob("c3d-*/fc6")
    take(folder, tmp_path / "second" / "own", name="c3d", array="fc6", seconds_per_row=None)
    assert FeatureStore(tmp_path / "second" / "own")["c3d"].digest() == digest_of(store)


def test_clips_of_the_length_of_the_rows_come_back_with_the_same_digest(tmp_path: Path) -> None:
    starts = np.arange(7, dtype=np.float64)[:, None] * 2
    spans = np.concatenate([starts, starts + 2], axis=1)
    tracks = [FeatureTrack("a", spans, {"fc6": rows(1, 7)})]
    store = store_of(tmp_path / "first" / "own", tracks)
    what = SelectionRequest(clip_seconds=2.0)
    export_store(ExportRequest(store, tmp_path / "out", "npz", what))
    (folder,) = (tmp_path / "out").glob("c3d-*/fc6")
    take(folder, tmp_path / "second" / "own", name="c3d", array="fc6")
    assert FeatureStore(tmp_path / "second" / "own")["c3d"].digest() == digest_of(store)


def store_of(folder: Path, tracks: list[FeatureTrack]) -> Path:
    from storage.base.paths import Layout
    from tests.support.stores import SHARDS

    videos = tuple(Video(track.video_id) for track in tracks)
    catalog = Catalog(folder.name, videos, (), (), (), SHARDS, "seconds")
    write_catalog(Layout(folder.parent, folder.name), catalog)
    write_variant(folder, tracks)
    return folder


def digest_of(store: Path) -> str:
    return FeatureStore(store)["c3d"].digest()


@pytest.mark.parametrize("form", ["npy", "npz", "one h5 of all", "groups", "an h5 for each"])
def test_every_form_of_file_is_read(folder: Path, tmp_path: Path, form: str) -> None:
    made = {"v1": rows(1), "v2": rows(2, 9)}
    if form == "npy":
        for name, values in made.items():
            np.save(folder / f"{name}.npy", values)
    elif form == "npz":
        for name, values in made.items():
            np.savez_compressed(folder / f"{name}.npz", features=values, other=np.ones(3))
    elif form == "an h5 for each":
        for name, values in made.items():
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["features"] = values
    else:
        with h5py.File(folder / "all.hdf5", "w") as file:
            for name, values in made.items():
                key = name if form == "one h5 of all" else f"{name}/features"
                file.create_dataset(key, data=values, compression="gzip", chunks=True)
    summary = take(folder, tmp_path / "data" / "theirs")
    assert (summary.videos, summary.rows, summary.refused) == (2, 14, {})
    variant = FeatureStore(tmp_path / "data" / "theirs", verify=True)["slowfast"]
    for name, values in made.items():
        assert np.asarray(variant[name]["features"]).tobytes() == values.tobytes()
        assert variant[name].spans[1].tolist() == [2.0, 4.0]
    (report,) = audit(tmp_path / "data" / "theirs", deep=True)
    assert report.is_clean
    assert report.findings == ()


def npy(header: str, body: bytes) -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def spoil(folder: Path) -> dict[str, str]:
    """Files that cannot be taken: name → a word of the reason."""
    np.save(folder / "object.npy", np.array([{}, []], object), allow_pickle=True)
    np.save(folder / "flat.npy", np.ones(5, np.float32))
    np.save(folder / "empty.npy", np.ones((0, 3), np.float32))
    np.save(folder / "wide.npy", rows(3, width=4))
    np.save(folder / "double.npy", rows(3).astype(np.float64))
    np.save(folder / "text.npy", np.array([["a", "b"]]))
    np.save(folder / "nan.npy", np.full((5, 3), np.nan, np.float32))
    np.save(folder / ("x" * 65 + ".npy"), rows(4))
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-1])
    claim = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    (folder / "claim.npy").write_bytes(npy(claim, b"0000"))
    minus = "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }"
    (folder / "minus.npy").write_bytes(npy(minus, b""))
    (folder / "none.npy").write_bytes(b"")
    (folder / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    (folder / "torn.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    (folder / "weights.pt").write_bytes(b"pickle")
    np.savez(folder / "several.npz", a=rows(1), b=rows(2))
    with zipfile.ZipFile(folder / "lying.npz", "w") as zipped:
        zipped.writestr("features.npy", npy(claim, b"0000"))
    buffer = io.BytesIO()
    np.save(buffer, rows(1))
    with zipfile.ZipFile(folder / "twice.npz", "w") as zipped:
        zipped.writestr("features.npy", buffer.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            zipped.writestr("features.npy", buffer.getvalue())
    with h5py.File(folder / "links.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/hidden/x")
        file["outside"] = h5py.ExternalLink("/etc/passwd", "/")
    return {
        "object.npy": "object", "flat.npy": "(5,)", "empty.npy": "neither of them 0",
        "wide.npy": "most files have float32", "double.npy": "most files have float32",
        "text.npy": "<U1", "nan.npy": "rejected:non_finite", "x" * 65 + ".npy": "65 characters",
        "cut.npy": "bytes follow", "claim.npy": "bytes follow", "minus.npy": "", "none.npy": "",
        "torn.npz": "", "torn.h5": "", "weights.pt": "is not one of", "several.npz": "but 2: a, b",
        "lying.npz": "bytes follow", "twice.npz": "twice", "links.h5:soft": "is a link",
        "links.h5:outside": "is a link",
    }  # fmt: skip


def test_bad_files_are_listed_with_their_reasons_and_lose_nothing(
    folder: Path, tmp_path: Path
) -> None:
    np.save(folder / "good.npy", rows(1))
    np.save(folder / "good2.npy", rows(2))
    reasons = spoil(folder)
    summary = take(folder, tmp_path / "data" / "theirs")
    assert summary.videos == 2
    assert summary.refused.keys() == reasons.keys()
    for name, word in reasons.items():
        assert word in summary.refused[name], (name, summary.refused[name])
    variant = FeatureStore(tmp_path / "data" / "theirs")["slowfast"]
    assert variant.ids == ("good", "good2")
    assert variant.statuses["nan"].reason == "non_finite"
    assert variant.statuses["flat"].state is State.PENDING
    assert "not imported: has the shape (5,)" in variant.statuses["flat"].detail
    (report,) = audit(tmp_path / "data" / "theirs", deep=True)
    assert report.adds_up
    assert report.is_clean
    assert report.without_status == 0


def test_nothing_is_executed(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "executed"),))  # type: ignore[return-value]

    np.save(folder / "bad.npy", np.array([[Payload()]], object), allow_pickle=True)
    np.savez(folder / "bad2.npz", features=np.array([[Payload()]], object))
    np.save(folder / "good.npy", rows(1))
    assert take(folder, tmp_path / "data" / "theirs").videos == 1
    assert not (tmp_path / "executed").exists()


def test_the_variant_says_that_it_is_imported(folder: Path, tmp_path: Path) -> None:
    import hashlib

    np.save(folder / "RoripwjYFp8_360.0_510.0.npy", rows(1))
    into = tmp_path / "data" / "theirs"
    arguments = ["import", str(folder), "--into", str(into), "--name", "slowfast"]
    arguments += ["--seconds-per-row", "2", "--licence", "CC BY", "--origin", "http://a.example/f"]
    assert main(arguments) == 0
    variant = FeatureStore(into)["slowfast"]
    assert variant.ids == ("RoripwjYFp8_360_0_510_0",)
    assert variant.settings["imported"] is True
    assert variant.settings["origin_as_stated"] == "http://a.example/f"
    assert variant.settings["weights_as_stated"] == "not stated"
    assert variant.settings["sampling"]["EqualRows"]["seconds_per_row"] == 2.0
    (record,) = variant.provenance.values()
    assert record["licence_as_stated"] == "CC BY"
    imported_from = variant.entry("RoripwjYFp8_360_0_510_0").facts["imported_from"]
    content = (folder / "RoripwjYFp8_360.0_510.0.npy").read_bytes()
    assert isinstance(imported_from, dict)
    assert imported_from["sha256"] == hashlib.sha256(content).hexdigest()
    metadata = read_catalog(into).metadata_by_video["RoripwjYFp8_360_0_510_0"]
    assert metadata == {"imported_name": "RoripwjYFp8_360.0_510.0"}


def test_a_second_import_adds_and_repeats_nothing(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "data" / "theirs"
    np.save(folder / "a.npy", rows(1))
    first = take(folder, into)
    parts = {path: path.read_bytes() for path in into.rglob("*.h5")}
    assert take(folder, into).variant == first.variant
    assert {path: path.read_bytes() for path in into.rglob("*.h5")} == parts
    np.save(folder / "b.npy", rows(2))
    take(folder, into)
    assert FeatureStore(into, verify=True)["slowfast"].ids == ("a", "b")


def test_a_file_that_is_bad_now_takes_no_rows_away(folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "data" / "theirs"
    np.save(folder / "a.npy", rows(1))
    np.save(folder / "b.npy", rows(2))
    take(folder, into)
    before = FeatureStore(into)["slowfast"].digest()
    (folder / "a.npy").write_bytes(b"")
    assert take(folder, into).refused.keys() == {"a.npy"}
    assert FeatureStore(into, verify=True)["slowfast"].digest() == before


def test_a_name_that_no_terminal_shows_is_escaped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(folder / "good.npy", rows(1))
    (folder / "\x1b[31m\nred.npy").write_bytes(b"")
    (folder / os.fsdecode(b"half\xff.npy")).write_bytes(b"")
    with h5py.File(folder / "names.h5", "w") as file:
        file["\x1b]0;title\x07"] = np.ones(3)
    into = tmp_path / "data" / "theirs"
    arguments = ["--into", str(into), "--name", "slowfast", "--seconds-per-row", "2"]
    assert main(["import", str(folder), *arguments]) == 0
    told = capsys.readouterr().out
    assert all(line.isprintable() for line in told.splitlines())
    assert "half\\udcff.npy" in told
    assert "4 videos" not in told
    assert FeatureStore(into)["slowfast"].ids == ("good",)


def test_a_catalog_that_is_there_gets_no_new_ids(folder: Path, tmp_path: Path) -> None:
    store = write_hard_store(tmp_path / "data")
    np.save(folder / "ABC.npy", rows(1))
    np.save(folder / "stranger.npy", rows(2))
    before = (store / "catalog.json").read_bytes()
    summary = take(folder, store)
    assert summary.refused == {"stranger.npy": "the catalog has no video stranger"}
    assert FeatureStore(store)["slowfast"].ids == ("ABC",)
    assert (store / "catalog.json").read_bytes() == before


def test_spans_are_the_files_or_the_users(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "a.npz", features=rows(1), spans=np.ones((5, 2)))
    with pytest.raises(SettingsError, match="leave out --seconds-per-row"):
        take(folder, tmp_path / "data" / "theirs")
    np.save(folder / "a.npy", rows(1))
    (folder / "a.npz").unlink()
    with pytest.raises(SettingsError, match="give --seconds-per-row"):
        take(folder, tmp_path / "data" / "theirs", seconds_per_row=None)
    assert not (tmp_path / "data").exists()


def test_spans_that_are_none_cost_only_their_video(folder: Path, tmp_path: Path) -> None:
    starts = np.arange(5, dtype=np.float64)
    np.savez(folder / "a.npz", features=rows(1), spans=np.stack([starts, starts + 1], 1))
    np.savez(folder / "b.npz", features=rows(1), spans=np.stack([starts + 1, starts], 1))
    summary = take(folder, tmp_path / "data" / "theirs", seconds_per_row=None)
    assert summary.videos == 1
    assert "start < end" in summary.refused["b.npz"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"name": "Slow Fast"}, "--name is written in"),
        ({"array": "a/b"}, "--array is"),
        ({"seconds_per_row": 0.0}, "--seconds-per-row is above 0"),
        ({"seconds_per_row": float("nan")}, "--seconds-per-row is above 0"),
    ],
)
def test_a_wrong_request_writes_nothing(
    folder: Path, tmp_path: Path, more: dict[str, object], told: str
) -> None:
    np.save(folder / "a.npy", rows(1))
    with pytest.raises(SettingsError, match=told):
        take(folder, tmp_path / "data" / "theirs", **more)
    assert not (tmp_path / "data").exists()


def test_big_endian_and_fortran_order_are_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    np.save(folder / "a.npy", np.asfortranarray(rows(1).astype(">f4")))
    take(folder, tmp_path / "data" / "theirs")
    found = FeatureStore(tmp_path / "data" / "theirs")["slowfast"]["a"]["features"]
    assert np.asarray(found).tobytes() == rows(1).tobytes()
    assert found.dtype == np.dtype("<f4")
