"""An extractor of another distribution, from the settings to rows, provenance and golden file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import FeatureStore
from tests.conftest import REPOSITORY
from tests.support.plugins import install
from tests.support.videos import ffmpeg

CODE = '''
"""Mean colour of a frame."""

from dataclasses import dataclass

import numpy as np

from models.extractors.base.contract import ArraySpec, ExtractorSpec
from models.extractors.base.sampling import FramesAtRate


@dataclass(frozen=True)
class MeanColourSettings:
    """Settings of `mean_colour`."""

    frames_per_second: float = 1.0
    """Frames per second of video."""


class MeanColour:
    """The extractor."""

    def prepare(self, frame):
        return frame.mean(axis=(0, 1)).astype(np.float32)

    def extract(self, windows):
        return {"mean": [window[-1] for window in windows]}


SPEC = ExtractorSpec(
    name="mean_colour",
    numerics_version=1,
    settings_type=MeanColourSettings,
    arrays=lambda settings: {"mean": ArraySpec("float32", (3,))},
    sampling=lambda settings: FramesAtRate(settings.frames_per_second),
    build=lambda settings, weights, device: MeanColour(),
    needs_weights=False,
)
'''


DATASET = '''
"""Parts of videos that people marked, in a CSV table of one's own."""

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.registry import DatasetSpec, SourceFile
from storage.base.records import Annotation, Link, User, Video
from storage.catalog.catalog import Catalog


def read(sources, *, name, shard_count=None):
    rows = [line.split(",") for line in sources["marks"].decode().split()]
    videos = sorted({row[0] for row in rows})
    catalog = Catalog(
        name=name,
        videos=[Video(video_id) for video_id in videos],
        users=[User("me", "train")],
        links=[Link("me", video_id, "history") for video_id in videos],
        annotations=[Annotation(row[0], "me", float(row[1]), float(row[2])) for row in rows],
        shard_count=shard_count or 1,
        time_unit="seconds",
    )
    return ParsedDataset(catalog, {})


SPEC = DatasetSpec(
    description="my marks",
    citation="none",
    url="",
    files={"marks": SourceFile("marks", "marks.csv", description="video, start, end")},
    read=read,
    on_youtube=False,
)
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    install(
        site, "my-colours", "2.0", "video_highlights.extractors", "mean_colour = vh_colours:SPEC",
        vh_colours=CODE,
    )  # fmt: skip
    return site


def run(folder: Path, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), str(REPOSITORY)])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-m", "video_highlights", *words],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_plugin_is_built_beside_our_own(tmp_path: Path, site: Path) -> None:
    build = ("run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    refused = run(tmp_path, site, *build)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "run `python -m pipeline golden mean_colour`" in refused.stdout + refused.stderr
    golden = run(tmp_path, site, "golden", "mean_colour")
    assert golden.returncode == 0, golden.stderr
    assert (site / "mean_colour.golden.json").is_file()
    done = run(tmp_path, site, *build, "--mean-colour-frames-per-second", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    variant = FeatureStore(tmp_path / "data" / "sample")["mean_colour"]
    assert len(variant) == 11
    assert variant.settings["settings"] == {"frames_per_second": 0.5}
    for made_by in variant.provenance.values():
        plugin = made_by["plugin"]
        assert isinstance(plugin, dict)
        assert (plugin["distribution"], plugin["version"]) == ("my-colours", "2.0")


def test_settings_of_a_plugin_are_checked_like_ours(tmp_path: Path, site: Path) -> None:
    (tmp_path / "workflows.cfg").write_text(
        "[extract]\nextractors = mean_colour\n[mean_colour]\nframes_per_secnd = 1\n"
    )
    done = run(tmp_path, site, "run", "BuildPHD2Features")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "did you mean frames_per_second?" in done.stderr
    absent = run(tmp_path, tmp_path, "run", "BuildPHD2Features")
    assert absent.returncode == 2
    assert "unknown extractor 'mean_colour'" in absent.stderr


def test_a_dataset_of_a_plugin_is_built(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(
        site, "my-marks", "1", "video_highlights.datasets", "mine = vh_marks:SPEC",
        vh_marks=DATASET,
    )  # fmt: skip
    videos = tmp_path / "videos"
    videos.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=3", videos / "first.mp4")
    (tmp_path / "marks.csv").write_text("first,0.5,1.5\nsecond,1,2\n")
    done = run(
        tmp_path, site, "run", "BuildFeatures", "--catalog", "mine", "--mine-marks", "marks.csv",
        "--download-source", str(videos), "--extract-extractors", "frames",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ids = 1 done + 1 unavailable" in done.stdout
    wrong = run(tmp_path, site, "run", "BuildFeatures", "--catalog", "mine", "--mine-marcks", "x")
    assert wrong.returncode == 2
    assert "there is no option --mine-marcks; near are --mine-marks" in wrong.stderr
