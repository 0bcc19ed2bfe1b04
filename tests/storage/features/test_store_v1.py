"""The store that commit 707d269 built is read by every later version: ids, spans, values, states,
catalog.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from storage import FeatureStore
from storage.base.errors import SettingsError
from storage.base.records import CONTAINER_START, STREAM_CLOCK, Array, FeatureTrack, Ragged
from storage.base.video_status import DONE
from storage.catalog.catalog import read_catalog
from storage.features.commit import commit
from storage.features.compaction import compact
from storage.features.manifest import ManifestEntry
from storage.features.part_reader import PartReader
from storage.features.store import VariantReader
from storage.features.time_origin import common_origin, refuse_to_extend
from storage.maintenance.audit import audit
from storage.maintenance.repair import repair
from storage.maintenance.sealing import seal_store
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore::storage.features.store.UnsealedParts")

DATA = REPOSITORY / "tests" / "storage" / "data" / "store_v1"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_bytes())
"""Written by 707d269 itself, which read its own store."""
VARIANTS = tuple(EXPECTED["variants"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "phd2", tmp_path / "phd2")


def _said(array: Array | Ragged) -> dict[str, object]:
    values = array.values if isinstance(array, Ragged) else array
    said: dict[str, object] = {"dtype": str(values.dtype), "shape": list(values.shape)}
    said["sha256"] = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return {**said, "lengths": array.lengths.tolist()} if isinstance(array, Ragged) else said


def _check(reader: VariantReader, expected: dict[str, Any]) -> None:
    assert reader.settings == expected["settings"]
    assert reader.digest() == expected["digest"]
    said = {
        video_id: [str(one.state), one.reason, one.detail]
        for video_id, one in reader.statuses.items()
    }
    assert said == expected["verdicts"]
    assert list(reader.ids) == sorted(expected["videos"])
    for video_id, video in expected["videos"].items():
        assert reader[video_id].spans.tolist() == video["spans"]
        track = reader[video_id].track()
        assert track.digest() == video["digest"]
        assert {name: _said(array) for name, array in track.arrays.items()} == video["arrays"]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_spans_values_and_states(folder: Path, variant: str, verify: bool) -> None:
    reader = FeatureStore(folder, verify=verify)[variant]
    _check(reader, EXPECTED["variants"][variant])
    assert {video_id: reader.entry(video_id).part for video_id in reader.ids} == {
        video_id: video["part"]
        for video_id, video in EXPECTED["variants"][variant]["videos"].items()
    }


def test_the_catalog(folder: Path) -> None:
    catalog, expected = read_catalog(folder), EXPECTED["catalog"]
    assert catalog.name == expected["name"]
    assert sorted(video.video_id for video in catalog.videos) == expected["videos"]
    said = [[one.video_id, one.annotator, one.start, one.end] for one in catalog.annotations]
    assert said == expected["annotations"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_compacting_changes_no_number(folder: Path, variant: str) -> None:
    reader = FeatureStore(folder)[variant]
    for shard in reader.manifests:
        compact(reader.layout, shard, max_part_bytes=10**6)
    _check(FeatureStore(folder, verify=True)[variant], EXPECTED["variants"][variant])

    reader = FeatureStore(folder)[variant]
    assert {manifest.time_origin for manifest in reader.manifests.values()} == {STREAM_CLOCK}
    assert reader.time_origins == {STREAM_CLOCK}
    parts = [
        PartReader(reader.layout.folder / part.file)
        for one in reader.manifests.values()
        for part in one.parts
    ]
    assert {part.header.time_origin for part in parts} == {STREAM_CLOCK}


def test_nothing_is_added_to_it(folder: Path) -> None:
    """Its clocks are the streams' own: a build, a retry or an extension would mix them with
    players' seconds.
    """
    reader = FeatureStore(folder)["frames"]
    assert FeatureStore(folder).time_origins() == dict.fromkeys(VARIANTS, frozenset([STREAM_CLOCK]))
    before = {
        path.name: path.read_bytes()
        for path in sorted(reader.layout.folder.iterdir())
        if path.is_file()
    }
    track = FeatureTrack(
        "soundonly00",
        np.array([[0.0, 0.5]]),
        {"jpeg": Ragged(np.zeros(3, np.uint8), np.array([3]))},
    )
    with pytest.raises(SettingsError, match="python -m pipeline rebase"):
        commit(
            reader.layout,
            "phd2",
            0,
            entries={"soundonly00": ManifestEntry(DONE)},
            tracks=[track],
            max_part_bytes=1000,
            provenance={},
        )
    with pytest.raises(SettingsError, match=r"frames-c6e2b5b7062c.*on each stream's own clock"):
        refuse_to_extend(folder, FeatureStore(folder).time_origins())
    assert before == {
        path.name: path.read_bytes()
        for path in sorted(reader.layout.folder.iterdir())
        if path.is_file()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_lost_manifest_is_made_anew_with_the_origin_of_its_parts(
    folder: Path, variant: str
) -> None:
    reader = FeatureStore(folder)[variant]
    for shard in reader.manifests:
        reader.layout.manifest(shard).unlink()
    repair(folder, deep=True)
    found = FeatureStore(folder)[variant]
    assert found.time_origins == {STREAM_CLOCK}
    assert found.digest() == EXPECTED["variants"][variant]["digest"]


def test_sealing_it_keeps_its_origin_and_its_rows(folder: Path) -> None:
    assert sum("checked whole, and given checksums" in line for line in seal_store(folder)) == 4
    store = FeatureStore(folder)
    assert set(store.time_origins().values()) == {frozenset([STREAM_CLOCK])}
    for variant in VARIANTS:
        _check(store[variant], EXPECTED["variants"][variant])
    assert [report for report in audit(folder, deep=True) if not report.is_clean] == []


def test_one_training_never_mixes_two_origins() -> None:
    same = {
        "one": frozenset([STREAM_CLOCK]),
        "two": frozenset([STREAM_CLOCK]),
        "empty": frozenset[str](),
    }
    assert common_origin(same, "training") == STREAM_CLOCK
    assert common_origin({"empty": frozenset[str]()}, "training") == CONTAINER_START
    with pytest.raises(SettingsError, match="training cannot mix times"):
        common_origin({**same, "new": frozenset([CONTAINER_START])}, "training")


def test_an_audit_finds_nothing_wrong(folder: Path) -> None:
    assert [report for report in audit(folder, deep=True) if not report.is_clean] == []


def test_plain_h5py_reads_a_part() -> None:
    video = EXPECTED["variants"][VARIANTS[0]]["videos"]["tsbegins000"]
    with h5py.File(DATA / "phd2" / "features" / VARIANTS[0] / video["part"]) as part:
        assert part.attrs["format_version"] == 1
        row = list(part["ids"]).index(b"tsbegins000")
        start, end = part["offsets"][row : row + 2]
        assert part["spans"][start:end].tolist() == video["spans"]
