"""Whole exports: compared with the store, refused plainly, and never whole before their end."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from storage.__main__ import main
from storage.base.errors import HighlightsError, IntegrityError, LookupFailed, SettingsError
from storage.base.extras import missing_library
from storage.base.fingerprint import ids_sha256
from storage.base.paths import Layout
from storage.base.records import FeatureTrack
from storage.export.forms import numpy_files
from storage.export.forms.registry import FORMATS
from storage.export.record import exports_holding, read_records
from storage.export.run import ExportRequest, ExportSummary, export_store
from storage.export.source.rows import ExportedRows
from storage.export.source.selection import SelectionRequest
from storage.features.store import FeatureStore
from tests.support.export_stores import DONE_IDS, IDS, variant_named, write_hard_store
from tests.support.feature_samples import killed_at
from tests.support.stores import write_variant

NEEDS = {"parquet": "pyarrow", "hf": "pyarrow", "zarr": "zarr"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_hard_store(tmp_path / "data")


def export(store: Path, form: str, out: Path, **what: object) -> ExportSummary:
    if form in NEEDS:
        pytest.importorskip(NEEDS[form], reason="the extra [export] is not installed")
    request = SelectionRequest(**what)  # type: ignore[arg-type]
    return export_store(ExportRequest(store, out, form, request))


def read_json(path: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(path.read_text())
    return content


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("clip_seconds", [0.0, 2.0])
def test_an_export_is_whole(store: Path, tmp_path: Path, form: str, clip_seconds: float) -> None:
    out = tmp_path / "out"
    export(store, form, out, clip_seconds=clip_seconds)
    provenance = read_json(out / "provenance.json")
    variant = provenance["variants"][variant_named(store, "c3d")]  # type: ignore[index]
    assert variant["videos"] == len(DONE_IDS)
    assert variant["settings"] == FeatureStore(store)["c3d"].settings
    assert variant["logical_digest"] == FeatureStore(store)["c3d"].digest()
    assert variant["logical_digest"] == variant["logical_digest_of_exported"]
    assert variant["time_origin"][0].startswith("container_start: ")
    assert "random weights" in str(provenance["marks"])
    assert not (out / "INCOMPLETE").exists()
    done = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    listed = {line.split("  ")[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert there - listed == {"SHA256SUMS", "provenance.json"}
    sums = hashlib.sha256((out / "SHA256SUMS").read_bytes()).hexdigest()
    assert provenance["sha256sums_sha256"] == sums


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_in_an_export_names_this_machine(store: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    export(store, form, out)
    for path in out.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_every_id_of_the_catalog_is_listed_with_its_state(store: Path, tmp_path: Path) -> None:
    export(store, "npy", tmp_path / "out", variants=("c3d",))
    with (tmp_path / "out" / "ids.csv").open(newline="") as file:
        states = {row["video_id"]: (row["state"], row["reason"]) for row in csv.DictReader(file)}
    assert states.keys() == set(IDS)
    assert states["gone"] == ("unavailable", "private")


def test_clips_of_the_peers_are_the_default_of_npz(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(store), "--to", "npz", "--out", str(out)]) == 0
    folder = out / variant_named(store, "c3d") / "Fc6"
    with np.load(folder / "-dashFirst.npz") as found:
        assert found.files == ["features"]
        assert (found["features"].dtype, found["features"].shape) == (np.float16, (2, 8))
    stored = np.asarray(FeatureStore(store)["c3d"]["-dashFirst"]["Fc6"], np.float64)
    with np.load(folder / "-dashFirst.npz") as found:
        expected = stored[:2].mean(axis=0).astype(np.float16)
        assert found["features"][0].tobytes() == expected.tobytes()
        assert found["features"][1].tobytes() == stored[2].astype(np.float16).tobytes()


def test_variants_of_one_decode_have_equally_many_clips(tmp_path: Path) -> None:
    """Their last rows end at different times; a peer would stretch all windows by the ratio."""
    store = write_hard_store(tmp_path / "data")
    reader = FeatureStore(store)["c3d"]
    rows = {name: FeatureStore(store)[name]["ABC"].rows for name in ("c3d", "c3d.other")}
    assert rows["c3d"] != rows["c3d.other"]
    entry = reader.entry("ABC")
    assert "decode" not in entry.facts  # this store has no facts: each counts to its last row
    out = tmp_path / "out"
    export(store, "npz", out, clip_seconds=1.0, arrays=("c3d/Fc6", "c3d.other/fc7"))
    with (out / "ids.csv").open(newline="") as file:
        shown = {
            row["variant"].rpartition("-")[0]: (row["duration_seconds"], row["rows_written"])
            for row in csv.DictReader(file)
            if row["video_id"] == "ABC"
        }
    assert shown == {"c3d": ("4.0", "4"), "c3d.other": ("2.0", "2")}


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no such variant": ({"variants": ("c4d",)}, "has no variant 'c4d'"),
    "no such array": ({"arrays": ("c3d/fc9",)}, "has no array 'fc9'"),
    "no such id": ({"ids": ("ABC", "nowhere")}, "1 of 2 ids are not in the catalog hard"),
    "no such split": ({"split": "validation"}, "it has test, train, domain/dog, vlist_sel/held"),
    "ids and split": ({"ids": ("ABC",), "split": "train"}, "not both"),
    "an array without its variant": ({"arrays": ("Fc6",)}, "names no variant"),
    "a ragged array by name": ({"arrays": ("c3d/boxes",)}, "its rows differ in length"),
    "a mean of integers": (
        {"arrays": ("c3d/segment",), "clip_seconds": 2.0},
        "a mean of int64 says nothing",
    ),
    "nothing is done": ({"ids": ("gone",)}, "none of the 1 selected videos has features"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_writes_nothing(store: Path, tmp_path: Path, case: str) -> None:
    what, told = REFUSED[case]
    with pytest.raises((SettingsError, LookupFailed)) as raised:
        export(store, "npz", tmp_path / "out", **what)
    assert told in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert read_records(Layout(store.parent, "hard")) == ()


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("train", ["ABC"]),
        ("test", ["plain-7"]),
        ("domain/dog", ["ABC"]),
        ("held", ["_two"]),
        ("vlist_sel/held", ["_two"]),
    ],
)
def test_a_split_is_one_of_users_or_of_videos(
    store: Path, tmp_path: Path, name: str, ids: list[str]
) -> None:
    export(store, "npz", tmp_path / "out", split=name, variants=("c3d",))
    found = {path.stem for path in (tmp_path / "out").rglob("*.npz")}
    assert sorted(found) == ids


@pytest.mark.parametrize("occupied", ["file", "folder with a file", "lost link", "in the store"])
def test_only_a_new_or_empty_folder_is_written_to(
    store: Path, tmp_path: Path, occupied: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if occupied == "file":
        out.write_text("mine")
    elif occupied == "folder with a file":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif occupied == "lost link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out = store / "out"
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    assert main(["export", str(store), "--to", "npy", "--out", str(out)]) == 2
    assert f"--out {out} " in capsys.readouterr().err
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_is_written_to(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(store, "npy", tmp_path / "out")
    assert (tmp_path / "out" / "provenance.json").is_file()


def test_a_killed_export_is_never_taken_for_whole(store: Path, tmp_path: Path) -> None:
    """Killed before every third step of a write, until it comes through."""
    layout = Layout(store.parent, "hard")
    one: dict[str, object] = {"ids": ("ABC",), "arrays": ("c3d/Fc6",)}
    kills = 0
    out = tmp_path
    for place in range(0, 300, 3):
        out = tmp_path / f"out{place}"
        was_killed = killed_at(place, lambda out=out: export(store, "npy", out, **one))  # type: ignore[misc]
        if (out / "provenance.json").exists():
            listed = (out / "SHA256SUMS").read_text().splitlines()
            assert all((out / line.split("  ")[1]).is_file() for line in listed)
            assert not (out / "INCOMPLETE").exists()
        if not was_killed:
            break
        kills += 1
        if list(out.rglob("*.npy")):
            assert str(out) in {record.path for record in read_records(layout)}
            with pytest.raises(SettingsError, match="holds"):
                export(store, "npy", out, **one)
    assert (out / "provenance.json").exists()
    assert kills > 15


def test_a_changed_bit_is_noticed_before_the_export_is_whole(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = numpy_files.NpyWriter.add

    def flipped(
        writer: numpy_files.NpyWriter, video_id: str, variants: Mapping[str, ExportedRows]
    ) -> None:
        usual(writer, video_id, variants)
        if video_id != "_two":
            return
        path = next((tmp_path / "out").rglob(f"{video_id}.npy"))
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(numpy_files.NpyWriter, "add", flipped)
    with pytest.raises(IntegrityError, match=r"read back of _two .* has other values"):
        export(store, "npy", tmp_path / "out")
    assert not (tmp_path / "out" / "provenance.json").exists()
    assert (tmp_path / "out" / "INCOMPLETE").exists()


def test_a_damaged_store_is_not_exported(store: Path, tmp_path: Path) -> None:
    for part in store.rglob("*.h5"):
        content = bytearray(part.read_bytes())
        for place in range(len(content) // 2, len(content), 64):
            content[place] ^= 1
        part.write_bytes(content)
    with pytest.raises(HighlightsError):
        export(store, "npy", tmp_path / "out")
    assert not (tmp_path / "out" / "provenance.json").exists()


def test_the_export_is_recorded_in_the_store(store: Path, tmp_path: Path) -> None:
    summary = export(store, "npy", tmp_path / "out", ids=("ABC", "gone"))
    layout = Layout(store.parent, "hard")
    assert [one.path for one in exports_holding(layout, "gone")] == [str(tmp_path / "out")]
    assert exports_holding(layout, "_two") == ()
    assert summary.record is not None
    assert summary.record.ids_sha256 == ids_sha256(["ABC", "gone"])
    selection = summary.provenance["selection"]
    assert selection["ids_sha256"] == summary.record.ids_sha256


def test_a_store_may_be_left_untouched(store: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    out = tmp_path / "out"
    assert main(["export", str(store), "--to", "npy", "--out", str(out), "--no-record"]) == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_progress_counts_every_video_twice(store: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    request = ExportRequest(store, tmp_path / "out", "npy", SelectionRequest(variants=("c3d",)))
    export_store(request, lambda *step: seen.append(step))
    assert seen[0] == ("written", 1, len(IDS))
    assert seen[-1] == ("compared", len(DONE_IDS), len(DONE_IDS))


def test_the_card_shows_marks_and_no_title(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--citation", "Doe | et al.\n# 2026 <b>", "--licence", "CC BY 4.0"]
    assert main(["export", str(store), "--to", "npy", "--out", str(out), *arguments]) == 0
    text = (out / "README.md").read_text()
    assert "is random:7 (random weights): not a result about real videos" in text
    assert "Citation: Doe \\| et al. \\# 2026 \\<b\\>." in text
    assert "HYPERLINK" not in text
    assert "script" not in text


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bits", [0x8000, 0x7E01, 0x0000], ids=["-0.0", "nan", "0.0"])
def test_rows_of_one_value_keep_their_bits(tmp_path: Path, form: str, bits: int) -> None:
    """A chunk, or a dictionary, of one value is what writers like to leave out or to merge."""
    store = write_hard_store(tmp_path / "data")
    values = np.full((300, 8), bits, np.uint16).view(np.float16)
    starts = np.arange(300, dtype=np.float64)
    spans = np.stack([starts, starts + 1], axis=1)
    track = FeatureTrack("ABC", spans, {"fc": values})
    write_variant(store, [track], variant="same", settings={"extractor": "same"})
    out = tmp_path / "out"
    export(store, form, out, variants=("same",))  # compares every bit
    if form == "zarr":
        import zarr

        group = zarr.open_group(out, mode="r")
        found = group[f"{variant_named(store, 'same')}/fc"][:]  # type: ignore[index]
        assert np.asarray(found).tobytes() == values.tobytes()


def test_a_missing_library_is_named_before_anything_is_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("storage.export.run.import_module", missing)
    with pytest.raises(ModuleNotFoundError) as raised:
        export_store(ExportRequest(store, tmp_path / "out", "zarr"))
    assert "'.[export]'" in missing_library(raised.value)
    assert not (tmp_path / "out").exists()
    assert read_records(Layout(store.parent, "hard")) == ()
