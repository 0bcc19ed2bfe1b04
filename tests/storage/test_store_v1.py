"""The store that commit 707d269 built is read by every later version: ids, spans, values, states, catalog."""

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
from storage.audit import audit
from storage.catalog import read_catalog
from storage.records import Array, Ragged
from storage.sidecar import compact
from storage.store import VariantReader

DATA = Path(__file__).parent / "data" / "store_v1"
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
    said = {video_id: [str(one.state), one.reason, one.detail] for video_id, one in reader.verdicts.items()}
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
        video_id: video["part"] for video_id, video in EXPECTED["variants"][variant]["videos"].items()
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
    for shard in reader.sidecars:
        compact(reader.layout, shard, max_part_bytes=10**6)
    _check(FeatureStore(folder, verify=True)[variant], EXPECTED["variants"][variant])


def test_an_audit_finds_nothing_wrong(folder: Path) -> None:
    assert [report for report in audit(folder, deep=True) if not report.is_clean] == []


def test_plain_h5py_reads_a_part() -> None:
    video = EXPECTED["variants"][VARIANTS[0]]["videos"]["tsbegins000"]
    with h5py.File(DATA / "phd2" / "features" / VARIANTS[0] / video["part"]) as part:
        assert part.attrs["format_version"] == 1
        row = list(part["ids"]).index(b"tsbegins000")
        start, end = part["offsets"][row : row + 2]
        assert part["spans"][start:end].tolist() == video["spans"]
