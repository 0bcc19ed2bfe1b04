"""`status` counts what running builds left, and says the same to Prometheus."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.diagnostics.status import catalog_progress, format_progress, prometheus_text
from storage.base.paths import Layout
from storage.base.records import FeatureTrack
from storage.base.video_status import DONE, State, failure_status
from storage.catalog.catalog import read_catalog
from storage.features import spool
from storage.features.manifest import ManifestEntry
from storage.files.file_lock import lease
from tests.support.feature_samples import make_store

NOW = 1_000_000.0


def track(video_id: str) -> FeatureTrack:
    return FeatureTrack(video_id, np.array([[0.0, 1.0]]), {"pool5": np.zeros((1, 6), np.float16)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished store of 12 videos in two shards: 9 done, 3 failed."""
    return make_store(tmp_path).folder.parents[1]


def lines(folder: Path) -> str:
    return "\n".join(format_progress(catalog_progress(folder, NOW)))


def test_a_finished_catalog(folder: Path) -> None:
    progress = catalog_progress(folder, NOW)
    (variant,) = progress.variants
    assert variant.states[State.DONE] == 9
    assert (variant.remaining, progress.remaining, progress.seconds_left) == (0, 0, 0.0)
    assert "every video has a status" in lines(folder)


def test_a_catalog_without_a_build(tmp_path: Path) -> None:
    folder = make_store(tmp_path).folder.parents[1]
    for path in sorted((folder / "features").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    progress = catalog_progress(folder, NOW)
    assert (progress.variants, progress.remaining, progress.seconds_left) == ((), 12, None)
    assert "no variant has been started" in lines(folder)
    assert "time left unknown" in lines(folder)


def test_videos_in_the_spool_of_an_unfinished_shard_count(folder: Path) -> None:
    layout = Layout(folder.parent, folder.name)
    (name,) = (path.name for path in (folder / "features").iterdir())
    variant = layout.variant(*name.rsplit("-", 1))
    for path in variant.folder.glob("shard_001*"):
        path.unlink()
    variant.index_file.unlink(missing_ok=True)
    before = catalog_progress(folder, NOW).variants[0]
    catalog_ids = read_catalog(folder).shard_ids(1)
    assert before.remaining == len(catalog_ids)
    spool.put(variant.spool(1), catalog_ids[0], ManifestEntry(DONE), track(catalog_ids[0]))
    failed = ManifestEntry(failure_status("private"))
    spool.put(variant.spool(1), catalog_ids[1], failed, None)
    after = catalog_progress(folder, NOW).variants[0]
    assert after.remaining == before.remaining - 2
    assert after.states[State.UNAVAILABLE] == before.states[State.UNAVAILABLE] + 1


def test_the_rate_is_that_of_the_last_hour(folder: Path) -> None:
    layout = Layout(folder.parent, folder.name)
    for shard, ages in {0: (10, 3000), 1: (3601, 90_000)}.items():
        media = layout.media_folder(shard)
        media.mkdir(parents=True)
        for number, age in enumerate(ages):
            record = media / f"v_{number}.json"
            record.write_text("{}")
            os.utime(record, (NOW - age, NOW - age))
        (media / "v_0.mp4").write_bytes(b"")
        os.utime(media, (NOW, NOW))
    assert catalog_progress(folder, NOW).videos_per_hour == 2


def test_a_held_shard_names_its_holder(folder: Path) -> None:
    layout = Layout(folder.parent, folder.name)
    with lease(layout.lease(1)):
        progress = catalog_progress(folder, NOW)
        assert list(progress.held) == [1]
        assert f"shard 001 is held by process {os.getpid()} on " in lines(folder)
    assert catalog_progress(folder, NOW).held == {}


def test_prometheus_reads_every_line(folder: Path) -> None:
    text = prometheus_text(catalog_progress(folder, NOW))
    assert text.endswith("\n")
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name.startswith("video_highlights_")
            assert name.endswith("}")
            float(value)
    assert 'state="done"} 9' in text


def test_the_command_writes_both(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = tmp_path / "metrics.prom"
    assert main(["status", str(folder), "--prometheus", str(metrics)]) == 0
    assert "12 videos, 2 shards" in capsys.readouterr().out
    assert metrics.read_text().startswith("# HELP")


def test_a_folder_without_a_catalog_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) != 0
    assert "no catalog" in capsys.readouterr().err
