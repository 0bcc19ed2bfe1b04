"""A store of an earlier release, whose parts have no checksums, and the command that gives it
some.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.__main__ import main
from storage.base.errors import IntegrityError
from storage.base.paths import Layout
from storage.features.store import UnsealedParts, VariantReader
from storage.files.file_lock import lease
from storage.maintenance.audit import FindingKind, audit
from tests.conftest import REPOSITORY

OLD_STORE = REPOSITORY / "tests" / "storage" / "data" / "store_v1" / "phd2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD_STORE, tmp_path / "phd2"))


def read_all(folder: Path) -> dict[str, str]:
    store = FeatureStore(folder)
    return {
        f"{name}/{i}": store[name][i].track().digest()
        for name in store.variants()
        for i in store[name]
    }


def test_one_warning_for_each_unsealed_variant_and_none_afterwards(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        before = read_all(folder)
        assert read_all(folder) == before
    assert [one.category for one in told] == [UnsealedParts] * len(FeatureStore(folder).variants())
    assert f"python -m storage seal {folder}" in str(told[0].message)
    reports = audit(folder, deep=True)
    assert all(report.is_clean for report in reports)
    assert {finding.kind for report in reports for finding in report.findings} >= {
        FindingKind.UNSEALED
    }
    assert main(["seal", str(folder)]) == 0
    assert "parts checked whole, and given checksums" in capsys.readouterr().out
    assert read_all(folder) == before
    assert main(["seal", str(folder)]) == 0
    assert capsys.readouterr().out == ""
    assert FindingKind.UNSEALED not in {
        finding.kind for report in audit(folder, deep=True) for finding in report.findings
    }


def test_unchecked_reading_warns_of_nothing(folder: Path) -> None:
    store = FeatureStore(folder, check=False)
    assert all(len(store[name][i].track().spans) for name in store.variants() for i in store[name])


def test_a_damaged_old_part_is_not_sealed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted((folder / "features").glob("frames-*/shard_001.p000.h5"))[0]
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert main(["seal", str(folder)]) == 5
    assert f"{path}: was altered" in capsys.readouterr().err
    assert main(["audit", "--repair", str(folder)]) == 0
    assert main(["seal", str(folder)]) == 0


def test_sealing_waits_for_nobody(folder: Path) -> None:
    with lease(Layout(folder.parent, folder.name).lease(0)):
        assert main(["seal", str(folder)]) == 4


def test_new_parts_beside_old_ones_are_checked(folder: Path) -> None:
    """A part that was sealed is checked, whatever the others of its variant are."""
    main(["seal", str(folder)])
    variant = FeatureStore(folder)["frames"]
    video_id = variant.ids[0]
    path = variant.layout.folder / variant.entry(video_id).part
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not what was written"):
        VariantReader(variant.layout)[video_id].track()
