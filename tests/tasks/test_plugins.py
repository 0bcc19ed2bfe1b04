"""An extractor of another distribution, from the settings to rows, provenance and golden file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.extractors.golden.golden_outputs import golden_file
from models.extractors.registry import EXTRACTORS
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
    assert refused.returncode == 2, refused.stdout + refused.stderr
    path = site / "mean_colour.golden.json"
    told = f"[mean_colour] mean_colour has no golden file {path}: run `python -m pipeline golden"
    assert refused.stderr.count(told) == 1, refused.stderr
    assert not (tmp_path / "data").exists()
    golden = run(tmp_path, site, "golden", "mean_colour")
    assert golden.returncode == 0, golden.stderr
    assert path.is_file()
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
    shown = run(tmp_path, site, "settings")
    assert "[mean_colour]\n# Frames per second of video.\nframes_per_second = 1\n" in shown.stdout
    absent = run(tmp_path, tmp_path, "run", "BuildPHD2Features")
    assert absent.returncode == 2
    (fault,) = faults_of(absent)
    assert fault.startswith("[extract] extractors: unknown extractor 'mean_colour'; choose one of ")
    assert fault.endswith("; a package may offer it, which is not installed here: install it")


def faults_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The faults that a refused run lists."""
    assert "Traceback" not in done.stderr, done.stderr
    return re.findall(r"^  - (.*)$", done.stderr, re.MULTILINE)


def test_two_packages_with_one_name_are_one_fault(tmp_path: Path, site: Path) -> None:
    install(
        site, "her-colours", "1", "video_highlights.extractors", "mean_colour = vh_colours:SPEC"
    )
    (tmp_path / "workflows.cfg").write_text(
        "[extract]\nextractors = mean_colour\n[mean_colour]\nframes_per_second = 1\n"
    )
    told = "extractor 'mean_colour' is offered by her-colours and my-colours; uninstall all but one"
    done = run(tmp_path, site, "run", "BuildPHD2Features")
    assert (done.returncode, faults_of(done)) == (2, [told]), done.stderr
    golden = run(tmp_path, site, "golden", "mean_colour")
    assert (golden.returncode, golden.stderr) == (2, f"{told}\n")
    doctor = run(tmp_path, site, "doctor")
    assert doctor.returncode == 1, doctor.stderr
    assert told in doctor.stdout


@pytest.mark.parametrize(
    ("points", "before", "after", "told"),
    [
        ("mean_colour = vh_colours:SPECS", "", "", "cannot be imported (AttributeError"),
        ("mean_colour = vh_colours:MeanColour", "", "", "is a type; the entry point must name a"),
        ("mean_color = vh_colours:SPEC", "", "", "but its ExtractorSpec has name='mean_colour'"),
        (
            "mean_colour = vh_colours:SPEC",
            "float = 1.0",
            "dict = None",
            "frames_per_second has the type dict; settings are int, float",
        ),
        (
            "mean_colour = vh_colours:SPEC",
            "float = 1.0",
            "float",
            "frames_per_second has no default",
        ),
    ],
    ids=["wrong attribute", "no spec", "two names", "type", "no default"],
)
def test_an_entry_point_that_cannot_be_used_is_one_fault(
    tmp_path: Path, points: str, before: str, after: str, told: str
) -> None:
    site, name = tmp_path / "site", points.partition(" ")[0]
    code = MEAN_COLOUR.replace(before, after) if before else MEAN_COLOUR
    install(site, "my-colours", "2", "video_highlights.extractors", points, vh_colours=code)
    (tmp_path / "workflows.cfg").write_text(
        f"[extract]\nextractors = {name}\n[{name}]\nframes_per_second = 1\n"
    )
    done = run(tmp_path, site, "run", "BuildPHD2Features")
    assert done.returncode == 2, done.stdout + done.stderr
    (fault,) = faults_of(done)
    assert told in fault


def test_a_setting_that_only_the_sampling_refuses_is_a_fault(tmp_path: Path, site: Path) -> None:
    option = "--mean-colour-frames-per-second"
    build = ("run", "BuildPHD2Features", "--extract-extractors", "mean_colour", option)
    assert run(tmp_path, site, "golden", "mean_colour").returncode == 0
    done = run(tmp_path, site, *build, "-1")
    assert (done.returncode, faults_of(done)) == (
        2,
        ["[mean_colour] frames_per_second must be above 0; got -1.0"],
    )


def test_an_extractor_that_raises_is_named_once_and_marks_no_video(
    tmp_path: Path, site: Path
) -> None:
    build = ("run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    assert run(tmp_path, site, "golden", "mean_colour").returncode == 0
    # It fails for frames of other sizes than the golden clip's only.
    broken = MEAN_COLOUR.replace("return frame", "1 / (len(frame) == 180)\n        return frame")
    (site / "vh_colours.py").write_text(broken)
    done = run(tmp_path, site, *build)
    assert done.returncode == 6, done.stdout + done.stderr
    assert done.stderr.count("Traceback") == 1, done.stderr
    line = 1 + broken[: broken.index("1 / (len")].count("\n")
    for told in (
        "extractor mean_colour of my-colours 2.0 failed in prepare, at video ",
        f"ZeroDivisionError: division by zero, in {site / 'vh_colours.py'}:{line}. ",
        "No video was marked, and finished videos are kept. Correct my-colours 2.0, or take ",
    ):
        assert told in done.stderr, done.stderr
    (site / "vh_colours.py").write_text(MEAN_COLOUR)
    again = run(tmp_path, site, *build)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "12 ids = 11 done + 1 unavailable" in again.stdout


def test_a_run_without_a_finite_row_does_not_end_as_done(tmp_path: Path, site: Path) -> None:
    build = ("run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    assert run(tmp_path, site, "golden", "mean_colour").returncode == 0
    (site / "vh_colours.py").write_text(
        MEAN_COLOUR.replace("astype(np.float32)", "astype(np.float32) / (len(frame) == 180)")
    )
    done = run(tmp_path, site, *build)
    assert done.returncode == 6, done.stdout + done.stderr
    assert (
        "has no video: all 11 that could be tried failed for one reason, non_finite" in done.stdout
    )
    assert "every video that gave rows was rejected" in done.stderr
    (site / "vh_colours.py").write_text(MEAN_COLOUR)
    again = run(tmp_path, site, *build, "--retry", "non_finite")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_store_names_the_package_that_verifies_it(tmp_path: Path, site: Path) -> None:
    assert run(tmp_path, site, "golden", "mean_colour").returncode == 0
    done = run(tmp_path, site, "run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "data" / "sample" / "features").glob("mean_colour-*")
    verified = run(tmp_path, site, "verify", str(folder), "--sample", "3")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    absent = run(tmp_path, tmp_path, "verify", str(folder), "--sample", "3")
    assert absent.returncode == 2, absent.stderr
    assert "this code has no such extractor; install my-colours 2.0" in absent.stderr


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


NAME = "vh_extractor_of_the_guide"
"""A name that is free: a reader of the guide may have added its own example to this checkout."""
POINTS = f"{NAME} = vh_resnet:SPEC"


def guide_code() -> str:
    """The complete extractor of the guide, under a free name."""
    return code_of(GUIDE).replace('name="resnet18"', f'name="{NAME}"')


def test_the_extractor_of_the_guide_has_golden_outputs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "my-features", "1", "video_highlights.extractors", POINTS, vh_resnet=guide_code())
    done = run(tmp_path, site, "golden", NAME)
    assert done.returncode == 0, done.stderr
    golden = json.loads((site / f"{NAME}.golden.json").read_text())
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
            'return {"pool": ',
            'return {"pooled": ',
            "gives the arrays pooled, its spec says",
        ),
    ],
)
def test_an_extractor_that_breaks_its_spec_gets_no_golden_file(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    site = tmp_path / "site"
    code = guide_code().replace(before, after)
    install(site, "my-features", "1", "video_highlights.extractors", POINTS, vh_resnet=code)
    done = run(tmp_path, site, "golden", NAME)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (site / f"{NAME}.golden.json").exists()


def test_a_package_with_a_built_in_name_leaves_the_golden_file_alone(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "rude", "1", "video_highlights.extractors", "frames = vh_colours:SPEC")
    known = golden_file(EXTRACTORS["frames"])
    before = known.read_bytes(), known.stat().st_mtime_ns
    done = run(tmp_path, site, "golden", "frames")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "extractor 'frames' is built in, and rude offers the same name" in done.stderr
    assert (known.read_bytes(), known.stat().st_mtime_ns) == before


def test_the_code_of_the_guide_passes_the_checks_of_this_repository(tmp_path: Path) -> None:
    module = tmp_path / "models" / "extractors" / "resnet18" / "spec.py"
    module.parent.mkdir(parents=True)
    module.write_text(code_of(GUIDE))
    config = str(REPOSITORY / "pyproject.toml")
    for command in (("check",), ("format", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", config, str(module)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_settings_that_are_not_frozen_are_named(tmp_path: Path) -> None:
    site = tmp_path / "site"
    code = MEAN_COLOUR.replace("@dataclass(frozen=True)", "@dataclass")
    points = "mean_colour = vh_colours:SPEC"
    install(site, "my-colours", "2", "video_highlights.extractors", points, vh_colours=code)
    done = run(tmp_path, site, "run", "BuildPHD2Features", "--extract-extractors", "mean_colour")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "MeanColourSettings must be a frozen dataclass" in done.stderr
    assert "Traceback" not in done.stderr
