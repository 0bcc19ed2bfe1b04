"""An extractor of another distribution, from the settings to rows, provenance and golden file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from storage import FeatureStore
from tests.conftest import REPOSITORY
from tests.support.plugins import MEAN_COLOUR, install
from tests.support.videos import ffmpeg

DATASET_GUIDE = (REPOSITORY / "docs" / "how-to" / "add-a-dataset.md").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    install(
        site, "my-colours", "2.0", "video_highlights.extractors", "mean_colour = vh_colours:SPEC",
        vh_colours=MEAN_COLOUR,
    )  # fmt: skip
    return site


def code_of(guide: str) -> str:
    """The complete example of a guide."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return str(code)


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


def test_the_dataset_of_the_guide_is_built(tmp_path: Path) -> None:
    site = tmp_path / "site"
    points = "mine = vh_marks:SPEC"
    code = code_of(DATASET_GUIDE)
    install(site, "my-marks", "1", "video_highlights.datasets", points, vh_marks=code)
    videos = tmp_path / "videos"
    videos.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=3", videos / "first.mp4")
    marks = tmp_path / "marks.csv"
    marks.write_text("video,user,split,start,end\nfirst,a,train,0.5,1.5\nsecond,a,train,1,2\n")
    build = (
        "run", "BuildFeatures", "--catalog", "mine", "--mine-marks", "marks.csv",
        "--download-source", str(videos), "--extract-extractors", "frames",
    )  # fmt: skip
    done = run(tmp_path, site, *build)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ids = 1 done + 1 unavailable" in done.stdout
    wrong = run(tmp_path, site, "run", "BuildFeatures", "--catalog", "mine", "--mine-marcks", "x")
    assert wrong.returncode == 2
    assert "there is no option --mine-marcks; near are --mine-marks" in wrong.stderr
    # Another version of the reader reads the same file anew.
    (site / "vh_marks.py").write_text(code.replace('"history") for', '"target") for'))
    again = run(tmp_path, site, *build)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "history" not in (tmp_path / "data" / "mine" / "links.csv").read_text()
    marks.write_text("video,user,split,start,end\nfirst,a,train,soon,1.5\n")
    broken = run(tmp_path, site, *build)
    assert broken.returncode == 2, broken.stdout + broken.stderr
    message = broken.stdout + broken.stderr
    assert "this dataset cannot be read" in message
    assert "line 2 of marks: could not convert string to float: 'soon'" in message


GUIDE = (REPOSITORY / "docs" / "how-to" / "add-an-extractor.md").read_text()


def guide_code() -> str:
    """The complete extractor of the guide."""
    return code_of(GUIDE)


def test_the_extractor_of_the_guide_has_golden_outputs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    points = "resnet18 = vh_resnet:SPEC"
    install(site, "my-features", "1", "video_highlights.extractors", points, vh_resnet=guide_code())
    done = run(tmp_path, site, "golden", "resnet18")
    assert done.returncode == 0, done.stderr
    golden = json.loads((site / "resnet18.golden.json").read_text())
    assert golden["arrays"]["pool"]["shape"] == [512]
    assert golden["arrays"]["pool"]["norm"] > 0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            '"float32", (512,)',
            '"float32", (500,)',
            "a row has the shape (512,), its ArraySpec says",
        ),
        (
            'return {"pool": rows}',
            'return {"pooled": rows}',
            "gives the arrays pooled, its spec says",
        ),
    ],
)
def test_an_extractor_that_breaks_its_spec_gets_no_golden_file(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    site = tmp_path / "site"
    points = "resnet18 = vh_resnet:SPEC"
    code = guide_code().replace(before, after)
    install(site, "my-features", "1", "video_highlights.extractors", points, vh_resnet=code)
    done = run(tmp_path, site, "golden", "resnet18")
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (site / "resnet18.golden.json").exists()


def test_settings_that_are_not_frozen_are_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    code = MEAN_COLOUR.replace("@dataclass(frozen=True)", "@dataclass")
    points = "mean_colour = vh_colours:SPEC"
    install(site, "my-colours", "2", "video_highlights.extractors", points, vh_colours=code)
    done = run(tmp_path, site, "run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "MeanColourSettings must be a frozen dataclass" in done.stderr
    assert "Traceback" not in done.stderr
