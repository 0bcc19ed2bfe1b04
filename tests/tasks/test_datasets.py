"""The other datasets as a person builds them: a folder of annotations, one command, an account by
split.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tasks
from pipeline.datasets.readers.youtube_highlights import DOMAINS
from pipeline.datasets.registry import DATASETS
from storage.catalog.catalog import read_catalog
from storage.features.store import FeatureStore
from tasks.features import DATASET_TASKS, BuildFeatures
from tests.support.long_videos import video_of
from tests.support.loopback_site import site
from tests.support.luigi_server import run_luigi

CLIPS = [[0.0, 100.0], [50.0, 131.0]]


def command(folder: Path, task: str, *options: str) -> subprocess.CompletedProcess[str]:
    asked = ["--module", "tasks", task, "--data-root", str(folder / "data"), "--data-shards", "1"]
    environment = {"PATH": str(Path(sys.executable).parent)}
    return run_luigi(folder, *asked, *options, environment=environment)


def write(folder: Path, files: dict[str, Any]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def highlights(folder: Path, *ids: str) -> Path:
    """A repository of dogs, two clips each; the last one is gone and was uploaded again."""
    files: dict[str, Any] = {
        f"{domain}/{kind}.json": [] for domain in DOMAINS for kind in ("vlist", "vlist_sel")
    }
    for kind in ("vlist", "vlist_sel"):
        files[f"dog/{kind}.json"] = [[list(ids[:1]), "TraiTightL"], [list(ids[1:]), "TestLooseL"]]
    for video_id in ids:
        files[f"dog/{video_id}/clip.json"] = CLIPS
        files[f"dog/{video_id}/match_label.json"] = [CLIPS, [1, -1]]
        files[f"dog/{video_id}/mturk_label.json"] = [CLIPS, [2.5, 0.0]]
        files[f"dog/{video_id}/info.json"] = ["dog", None, [], 5, "", "", "", None]
    return write(folder, files | {f"missingVideos/{ids[-1]}": "theCopy\n"})


def test_every_published_dataset_has_a_task() -> None:
    assert set(DATASET_TASKS) == {name for name, spec in DATASETS.items() if spec.url} - {
        "phd2"
    } | {"category-sample"}
    for name, task in DATASET_TASKS.items():
        assert issubclass(task, BuildFeatures)
        assert task.get_task_family() == f"Build{DATASETS[name].title}Features"
        assert (
            dict(task.get_params())["catalog"].task_value(task.get_task_family(), "catalog") == name
        )
    assert tasks.BuildFeatures is BuildFeatures


@pytest.mark.parametrize(
    "variant", ["frames", pytest.param("c3d.segments", marks=pytest.mark.slow)]
)
def test_a_repository_of_annotations_becomes_features(tmp_path: Path, variant: str) -> None:
    annotations = highlights(tmp_path / "repository", "one", "-two", "gone")
    with site() as up:
        up.files |= {
            "one": video_of(131, 4.4),
            "-two": video_of(262, 4.4),
            "theCopy": video_of(131, 4.4),
        }
        done = command(
            tmp_path, "BuildYouTubeHighlightsFeatures", "--youtube-highlights-annotations", str(annotations),
            "--download-source", f"{up.address}/{{id}}", "--extract-extractors", variant,
            "--c3d-weights", "random:0", "--c3d-arrays", "fc6", "--frames-frames-per-second", "1",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout + done.stderr
    assert "youtube-highlights: 3 videos, 12 annotations, 1 shards" in told
    assert "vlist_sel/train" in told
    assert "vlist_sel/test" in told
    folder = tmp_path / "data" / "youtube-highlights"
    catalog = read_catalog(folder)
    store = FeatureStore(folder)[variant]
    for video_id in ("one", "-two", "gone"):
        assert catalog.segments.segments[video_id] == ((0.0, 100.0), (50.0, 131.0))
        if variant == "c3d.segments":
            assert "scaled to the file's duration: 1" in told
            assert np.asarray(store[video_id]["segment"]).tolist() == [0, 1]
            np.testing.assert_allclose(
                store[video_id].spans, [(0, 100 * 4.4 / 131), (50 * 4.4 / 131, 4.4)], atol=0.02
            )
    survived = json.loads((folder / "report" / "survival.json").read_text())["splits"]
    assert {name: (row["ids"], row["done"]) for name, row in survived.items()} == {
        "all": (3, 3), "domain/dog": (3, 3), "set_learning_sorted/train": (2, 2), "set_learning_sorted/test": (1, 1),
        **{f"{kind}/{part}": size for kind in ("vlist", "vlist_sel")
           for part, size in {"train": (1, 1), "train_tight": (1, 1), "test": (2, 2), "test_loose": (2, 2)}.items()},
    }  # fmt: skip
    (kept,) = (folder / "sources").glob("*.zip")
    again = command(tmp_path, "BuildCatalog", "--catalog", "youtube-highlights", "--youtube-highlights-annotations",
                    str(kept), "--c3d-weights", "random:0", "--extract-extractors", "frames")  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert read_catalog(folder) == catalog


def test_a_changed_folder_is_read_again(tmp_path: Path) -> None:
    annotations = highlights(tmp_path / "repository", "one", "two")
    options = (
        "BuildCatalog",
        "--catalog",
        "youtube-highlights",
        "--youtube-highlights-annotations",
        str(annotations),
    )
    folder = tmp_path / "data" / "youtube-highlights"
    for labels, expected in (([1, -1], 1.0), ([0, -1], 0.0)):
        write(annotations, {"dog/one/match_label.json": [CLIPS, labels]})
        assert command(tmp_path, *options, "--extract-extractors", "frames").returncode == 0
        marks = [
            row
            for row in read_catalog(folder).annotations
            if row.video_id == "one" and row.annotator == "match"
        ]
        assert marks[0].value == expected
    (annotations / "dog" / "one" / "one.mp4").touch()
    header = (folder / "catalog.json").stat().st_mtime_ns
    assert command(tmp_path, *options, "--extract-extractors", "frames").returncode == 0
    assert (folder / "catalog.json").stat().st_mtime_ns == header


@pytest.mark.parametrize(
    ("task", "faults"),
    [
        (
            "BuildTVSumFeatures",
            [
                "[tvsum] annotations is empty; name the published file (from https://github.com/yales"
            ],
        ),
        (
            "BuildCoSumFeatures",
            ["[cosum] annotations is empty; name the folder of published files, or a ZIP of it"],
        ),
        (
            "BuildActivityNetFeatures",
            ["[activitynet] annotations is empty", "[activitynet] labels is empty"],
        ),
        (
            "BuildSumMeFeatures",
            [
                "[summe] annotations is empty",
                "source: summe is not on YouTube; set source to the folder",
            ],
        ),
        (
            "BuildDHF1KFeatures",
            [
                "[dhf1k] annotations is empty",
                "source: dhf1k is not on YouTube; set source to the folder",
            ],
        ),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(
    tmp_path: Path, task: str, faults: list[str]
) -> None:
    done = command(tmp_path, task, "--extract-extractors", "frames")
    assert done.returncode == 2
    assert all(fault in done.stderr for fault in faults), done.stderr
    assert not (tmp_path / "data").exists()
