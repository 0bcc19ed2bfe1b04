"""The built wheel in an environment of its own, run from a folder that has packages of our
names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.commands import EXTRAS, missing_library
from tests.conftest import REPOSITORY
from tests.support.videos import coded_video

NAMES = ("models", "pipeline", "storage", "tasks", "trainer")
QUICK = ("--extract-extractors", "frames", "--frames-frames-per-second", "1")
LUIGI = "import sys; from luigi.cmdline import luigi_run; luigi_run(sys.argv[1:])"


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and a working folder of somebody else's project."""

    environment: Path
    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder; what it prints is kept."""
        program, *arguments = command
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "wheel")]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = (root / "wheel").glob("*.whl")
    environment = root / "environment"
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    # Dependencies come from this environment; its own editable install is not processed there.
    (packages / "zz_dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    script = environment / "bin" / "video-highlights"
    script.write_text(
        f"#!{environment}/bin/python\nimport sys\nfrom video_highlights import main\n"
        "sys.exit(main())\n"
    )
    script.chmod(0o755)
    folder = root / "project"
    for name in ("models", "tasks"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text('raise RuntimeError("this is not ours")\n')
    return Installed(environment, folder)


def test_the_wheel_adds_one_module_and_one_folder(installed: Installed) -> None:
    (packages,) = installed.environment.glob("lib/python*/site-packages")
    found = {path.name for path in packages.iterdir() if "dist-info" not in path.name}
    expected = {"video_highlights.py", "video_highlights.pth", "video_highlights_packages"}
    assert found - {"zz_dependencies.pth", "__pycache__"} == expected
    ours = {path.name for path in (packages / "video_highlights_packages").iterdir()}
    assert ours == set(NAMES)


def test_help_names_every_command_and_task(installed: Installed) -> None:
    done = installed.run("video-highlights", "--help")
    assert done.returncode == 0, done.stderr
    for word in ("audit", "doctor", "fit", "BuildPHD2Features", "ReproduceTable"):
        assert f"  {word}" in done.stdout


def test_the_sample_is_built_and_its_store_opened(installed: Installed) -> None:
    done = installed.run("video-highlights", "run", "BuildPHD2Features", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 ids = 11 done" in done.stdout
    code = "from storage import FeatureStore; print(len(FeatureStore('data/sample')['frames']))"
    opened = installed.run("python", "-c", code)
    assert (opened.returncode, opened.stdout.strip()) == (0, "11"), opened.stderr
    digest = installed.run("video-highlights", "digest", "data/sample")
    assert (digest.returncode, len(digest.stdout.split())) == (0, 2), digest.stderr
    again = installed.run("python", "-m", "storage", "digest", "data/sample")
    assert again.stdout == digest.stdout


def test_luigi_finds_our_tasks_in_any_other_folder(installed: Installed, tmp_path: Path) -> None:
    elsewhere = Installed(installed.environment, tmp_path)
    done = elsewhere.run("python", "-P", "-c", LUIGI, "--module", "tasks", "BuildCatalog", "--help")
    assert "--catalog" in done.stdout, done.stderr


def test_an_unknown_command_is_refused_with_the_nearest(installed: Installed) -> None:
    done = installed.run("video-highlights", "audti")
    assert done.returncode == 2
    assert "did you mean 'audit'" in done.stderr


def test_a_missing_library_is_named_with_the_extra_that_has_it(
    installed: Installed, tmp_path: Path
) -> None:
    missing = 'raise ModuleNotFoundError("No module named \'av\'", name="av")\n'
    (tmp_path / "av.py").write_text(missing)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import video_highlights as v; v.main()"
    )
    done = installed.run("python", "-c", code, "bench", "clip.mp4")
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "av is not installed: run pip install '.[features]' in your checkout of video-highlights\n"
    )


def test_reading_a_store_needs_the_core_only(installed: Installed) -> None:
    code = (
        "import sys, storage; storage.FeatureStore;"
        "names = {name.partition('.')[0] for name in sys.modules};"
        "print(sorted(names & {'torch', 'luigi', 'av', 'cv2', 'matplotlib', 'dask', 'yt_dlp'}))"
    )
    assert installed.run("python", "-c", code).stdout.strip() == "[]"


def test_features_of_a_file_are_extracted_in_an_installation(
    installed: Installed, tmp_path: Path
) -> None:
    coded_video(tmp_path / "clip.mp4", 24)
    code = (
        "from pipeline import extract_features;"
        "print(extract_features('clip.mp4', ['frames'])['frames'].rows)"
    )
    done = Installed(installed.environment, tmp_path).run("python", "-c", code)
    assert done.stdout.strip() == "5", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_folder_of_videos_needs_no_ytdlp(installed: Installed) -> None:
    code = "import sys, pipeline.download.fetch; print('yt_dlp' in sys.modules)"
    assert installed.run("python", "-c", code).stdout.strip() == "False"


def test_every_extra_installs_the_libraries_that_messages_name() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    distributions = {
        "cv2": "opencv-python-headless", "ffmpeg": "ffmpeg-python", "PIL": "pillow",
        "imageio_ffmpeg": "imageio-ffmpeg", "yt_dlp": "yt-dlp", "sklearn": "scikit-learn",
        "dask_jobqueue": "dask-jobqueue",
    }  # fmt: skip
    for library, extra in EXTRAS.items():
        listed = project["optional-dependencies"][extra]
        distribution = distributions.get(library, library)
        assert any(re.match(rf"{distribution}\b", line) for line in listed), (library, extra)


def test_a_missing_module_of_ours_stays_a_bug() -> None:
    assert missing_library(ModuleNotFoundError("no", name="pipeline.gone")) == ""
    assert "'.[train]'" in missing_library(ModuleNotFoundError("no", name="sklearn.svm"))
