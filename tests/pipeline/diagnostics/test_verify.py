"""An honest store is found honest; in a store with one altered row that row is named."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from models.extractors.base.sampling import FramesAtRateWithHistory
from models.extractors.jpeg_frames import spec as frames
from models.extractors.jpeg_frames.settings import FramesSettings
from pipeline.__main__ import main
from pipeline.compute.processor_kind import processor_kind
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.diagnostics.comparison import Comparison, compare_with_file, cosine
from pipeline.diagnostics.store_variant import open_variant, variant_of_store
from pipeline.diagnostics.verify import (
    ANOTHER,
    MISSING,
    UNDECODED,
    find_media,
    processor_note,
    sample_rows,
    verify,
)
from pipeline.extraction.process_shard import process_shard
from pipeline.extraction.shard_job import ShardJob
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError, UntrustedFile
from storage.base.paths import Layout
from storage.base.records import FeatureTrack
from storage.features.commit import commit
from storage.features.manifest import PROCESSORS
from storage.features.store import VariantReader
from tests.conftest import REPOSITORY
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import coded_video

IDS = ("alpha", "beta", "gamma")
JPEGS = Variant("frames", frames.SPEC, FramesSettings(frames_per_second=0, height_pixels=16))
HISTORY = tiny_variant("history", FramesAtRateWithHistory(12.0, 4), 4)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store of three videos, whose media lie in its folder of sources."""
    made = Layout(tmp_path / "data", "tiny")
    made.sources.mkdir(parents=True)
    for number, video_id in enumerate(IDS):
        coded_video(made.sources / f"{video_id}.mp4", 9 + number)
    process_shard(
        ShardJob(made, 0, IDS, (JPEGS, HISTORY), 1_000_000),
        fetch=lambda video_id, _: media(made, video_id),
        decoder=InlineDecoder(),
        device="cpu",
        on_video=lambda *_: None,
    )
    return made


def media(layout: Layout, video_id: str) -> Media:
    path = layout.sources / f"{video_id}.mp4"
    return Media(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def reader(layout: Layout, variant: Variant) -> VariantReader:
    return open_variant(layout.variant(variant.name, variant.fingerprint()).folder)


def compared(layout: Layout, variant: Variant, count: int = 1000) -> dict[str, Comparison]:
    one = reader(layout, variant)
    rows = sample_rows(one, count, 0)
    files = {video_id: find_media(one, layout, video_id, [layout.sources]) for video_id in rows}
    found = verify(one, variant, files, rows, decoder=InlineDecoder(), device="cpu")
    assert found.is_verified == (not any(c.differing for c in found.comparisons))
    return {c.name: c for c in found.comparisons}


def alter(layout: Layout, variant: Variant, video_id: str, row: int) -> None:
    """Change one row, and every digest that vouches for it."""
    one = reader(layout, variant)
    track, entry = one[video_id].track(), one.manifests[0].entries[video_id]
    arrays: dict[str, Any] = {name: np.array(array) for name, array in track.arrays.items()}
    arrays["mean"][row] += 1.0
    changed = FeatureTrack(video_id, track.spans, arrays)
    commit(
        layout.variant(variant.name, variant.fingerprint()),
        layout.catalog,
        0,
        entries={video_id: dataclasses.replace(entry, digest=changed.digest())},
        tracks=[changed],
        max_part_bytes=1_000_000,
        provenance={},
    )


@pytest.mark.parametrize("variant", [JPEGS, HISTORY], ids=lambda variant: variant.name)
def test_an_honest_store_has_no_row_that_differs(variant: Variant, layout: Layout) -> None:
    found = compared(layout, variant)
    total = sum(reader(layout, variant)[video_id].rows for video_id in IDS)
    assert total >= 9 + 10 + 11 - 3
    for comparison in found.values():
        assert (comparison.rows, comparison.equal, comparison.differing) == (total, total, [])
        assert comparison.max_error == 0
        assert min(comparison.cosines) == pytest.approx(1)


def test_the_altered_row_is_named(layout: Layout) -> None:
    alter(layout, HISTORY, "beta", 5)
    found = compared(layout, HISTORY)
    assert found["spans"].differing == []
    (told,) = found["mean"].differing
    assert told.startswith("beta[5] (relative error")
    assert found["mean"].equal == found["mean"].rows - 1
    assert "1 differ; max error 1 (" in str(found["mean"])


def test_a_store_that_was_made_on_another_kind_of_processor_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = reader(layout, JPEGS)
    assert one.provenance[0][PROCESSORS] == [processor_kind("cpu")]
    assert processor_note(one, "cpu") == ""
    here = processor_kind("cpu")
    monkeypatch.setattr(
        "pipeline.diagnostics.verify.processor_kind", lambda _device: "another kind: avx2"
    )
    assert processor_note(one, "cpu").startswith(
        f"made on {here}; compared on another kind: avx2: rows need not"
    )


def test_rows_are_drawn_evenly_and_by_seed(layout: Layout) -> None:
    one = reader(layout, JPEGS)
    drawn = [sample_rows(one, 5, seed) for seed in range(200)]
    assert drawn[0] == sample_rows(one, 5, 0)
    assert all(sum(map(len, rows.values())) == 5 for rows in drawn)
    seen = {
        (video_id, row) for rows in drawn for video_id, numbers in rows.items() for row in numbers
    }
    assert seen == {(video_id, row) for video_id in IDS for row in range(one[video_id].rows)}
    assert sum(map(len, sample_rows(one, 10_000, 0).values())) == len(seen)


def test_a_variant_is_made_again_from_its_settings_file(layout: Layout, tmp_path: Path) -> None:
    one, weights = reader(layout, JPEGS), WeightsFolder(tmp_path / "weights")
    assert variant_of_store(one, weights, "", {}).fingerprint() == JPEGS.fingerprint()
    told = dict(one.settings)
    one.__dict__["settings"] = {**told, "numerics_version": 9}
    with pytest.raises(SettingsError, match="numerics version 9; this code has version 1"):
        variant_of_store(one, weights, "", {})
    one.__dict__["settings"] = {**told, "weights": "sha256:abc"}
    with pytest.raises(
        SettingsError,
        match=r"made with weights of sha256:abc, and .* has no such file; name it with --weights",
    ):
        variant_of_store(one, weights, "", {})
    one.__dict__["settings"] = {**told, "settings": {**told["settings"], "mean": "sha256:abc"}}
    with pytest.raises(
        SettingsError,
        match=r"mean is a file of sha256:abc, which is not in .*weights; give --file mean=PATH",
    ):
        variant_of_store(one, weights, "", {})
    one.__dict__["settings"] = {**told, "sampling": "other"}
    with pytest.raises(SettingsError, match=r"sampling: other stored, .* here"):
        variant_of_store(one, weights, "", {})


def test_what_can_be_compared_is_and_the_rest_is_counted(layout: Layout) -> None:
    """One file is gone, one is another video's, one is whole."""
    (layout.sources / "beta.mp4").write_bytes((layout.sources / "alpha.mp4").read_bytes())
    (layout.sources / "gamma.mp4").unlink()
    one = reader(layout, JPEGS)
    rows = sample_rows(one, 1000, 0)
    files = {video_id: find_media(one, layout, video_id, [layout.sources]) for video_id in rows}
    found = verify(one, JPEGS, files, rows, decoder=InlineDecoder(), device="cpu")
    assert {gap.video_id: gap.kind for gap in found.skipped} == {"beta": ANOTHER, "gamma": MISSING}
    assert (found.compared, found.chosen, found.is_verified) == (9, 9 + 10 + 11, False)
    assert found.summary() == (
        "compared 9 of 30 chosen rows; 2 videos not compared: 1 files are missing, "
        "1 files are other files than the features were made from"
    )
    assert all(c.differing == [] for c in found.comparisons)


def test_a_file_that_cannot_be_decoded_does_not_stop_the_others(layout: Layout) -> None:
    one = reader(layout, JPEGS)
    rows = sample_rows(one, 1000, 0)
    files = {video_id: find_media(one, layout, video_id, [layout.sources]) for video_id in rows}
    damaged = layout.sources / "alpha.mp4"
    damaged.write_bytes(damaged.read_bytes()[:100])
    found = verify(one, JPEGS, files, rows, decoder=InlineDecoder(), device="cpu")
    assert [(gap.video_id, gap.kind) for gap in found.skipped] == [("alpha", UNDECODED)]
    assert (found.compared, found.is_verified) == (10 + 11, False)


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".ts"])
def test_a_file_of_another_suffix_or_folder_is_found(
    layout: Layout, tmp_path: Path, suffix: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (layout.sources / "beta.mp4").rename(elsewhere / f"beta{suffix}")
    found = find_media(reader(layout, JPEGS), layout, "beta", [layout.sources, elsewhere])
    assert isinstance(found, Media)
    assert found.path == elsewhere / f"beta{suffix}"


def test_features_of_somebody_else_are_compared_row_by_row(layout: Layout, tmp_path: Path) -> None:
    one = reader(layout, HISTORY)
    stored = np.asarray(one["alpha"]["mean"])
    np.save(tmp_path / "theirs.npy", stored * 2 + np.array([0, 0, 5], np.float32))
    (found,) = compare_with_file(one, tmp_path / "theirs.npy", "mean", "alpha")
    flat = stored.reshape(len(stored), -1).astype(np.float64)
    theirs = (
        (stored * 2 + np.array([0, 0, 5], np.float32)).reshape(len(stored), -1).astype(np.float64)
    )
    assert found.max_error == pytest.approx(np.abs(flat - theirs).max())
    assert found.cosines == [pytest.approx(cosine(a, b)) for a, b in zip(flat, theirs, strict=True)]
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["alpha/mean"] = stored
        file["beta"] = np.asarray(one["beta"]["mean"])[:3].reshape(3, -1)
        file["unknown"] = stored
    names = {
        str(c).partition(":")[0]: c
        for c in compare_with_file(one, tmp_path / "theirs.h5", "mean", "")
    }
    assert [c.rows for c in names.values()] == [len(stored), 3]
    assert all(c.max_error == 0 for c in names.values())


def test_a_file_that_points_elsewhere_or_is_no_array_is_refused(
    layout: Layout, tmp_path: Path
) -> None:
    one = reader(layout, HISTORY)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["alpha"] = h5py.ExternalLink("other.h5", "/x")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("alpha", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)])
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "object.npy").write_bytes(objects.getvalue())
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("link.h5", "raw.h5", "object.npy", "text.h5"):
        with pytest.raises(UntrustedFile):
            list(compare_with_file(one, tmp_path / name, "mean", "alpha"))


def test_cosine_by_hand() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(24 / 25)
    assert cosine(np.zeros(2), np.zeros(2)) == 1
    assert cosine(np.zeros(2), np.ones(2)) == 0


def test_the_command_says_it_and_returns_it(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = layout.variant(JPEGS.name, JPEGS.fingerprint()).folder

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = ["verify", *arguments, "--device", "cpu"]
        code = main(words)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    command = [sys.executable, "-m", "pipeline", "verify", str(folder), "--device", "cpu"]
    honest = subprocess.run(
        [*command, "--sample", "7"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (honest.returncode, honest.stderr) == (0, "")
    assert "jpeg: 7 rows, 7 equal bit by bit, 0 differ" in honest.stdout
    assert "compared 7 of 7 chosen rows" in honest.stdout
    assert [path.name.partition("-")[0] for path in layout.self_tests.iterdir()] == ["frames"]
    (layout.sources / "beta.mp4").unlink()
    partly = run(str(folder), "--sample", "30")
    assert (partly.returncode, partly.stderr) == (1, "")
    assert (
        "compared 20 of 30 chosen rows; 1 videos not compared: 1 files are missing" in partly.stdout
    )
    assert "not compared: beta: its file of sha256" in partly.stdout
    none = run(str(folder), "--sample", "0")
    assert (none.returncode, "--sample must be at least 1, got 0" in none.stderr) == (2, True)
    told = json.loads((folder / "settings.json").read_bytes())
    (folder / "settings.json").write_text(json.dumps({**told, "sampling": "other"}))
    damaged = run(str(folder))
    assert (damaged.returncode, "has the fingerprint" in damaged.stderr) == (1, True)
    wrong = run(str(folder.parent))
    assert (wrong.returncode, "is not a feature folder" in wrong.stderr) == (2, True)
    catalog = run(str(folder.parents[1]))
    assert (catalog.returncode, f"is not a feature folder; give {folder}" in catalog.stderr) == (
        2,
        True,
    )
