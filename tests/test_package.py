"""The built wheel in an environment of its own, run from a folder that has packages of our
names.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from storage.base.extras import EXTRAS, missing_library
from tests.conftest import REPOSITORY
from tests.support.environments import Installed, build_wheel, make_environment
from tests.support.faulty_server import MP4
from tests.support.videos import coded_video

NAMES = ("models", "pipeline", "storage", "tasks", "trainer")
QUICK = ("--extract-extractors", "frames", "--frames-frames-per-second", "1")
LUIGI = "import sys; from luigi.cmdline import luigi_run; luigi_run(sys.argv[1:])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    made = make_environment(tmp_path_factory.mktemp("package"), wheel, None)
    for name in ("models", "tasks"):
        (made.folder / name).mkdir()
        (made.folder / name / "__init__.py").write_text('raise RuntimeError("this is not ours")\n')
    return made


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return make_environment(tmp_path_factory.mktemp("core"), wheel, ())


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """The extra [features] alone: no yt-dlp, no Dask, no ultralytics, no decord, no training."""
    return make_environment(tmp_path_factory.mktemp("features"), wheel, ("features",))


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return make_environment(tmp_path_factory.mktemp("train"), wheel, ("train",))


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


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("video-highlights", "train", "phd_ca", "."), "train"),
        (("video-highlights", "score", "model", "."), "train"),
        (("video-highlights", "features", "."), "features"),
        (("video-highlights", "doctor"), "features"),
        (("python", "-m", "pipeline", "doctor"), "features"),
        (("python", "-m", "tasks", "settings"), "features"),
        (("python", "-m", "trainer", "fit", "phd_ca", "."), "train"),
    ],
)
def test_the_core_alone_says_what_to_install(
    core: Installed, command: tuple[str, ...], extra: str
) -> None:
    done = core.run(*command)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(
        rf"\w+ is not installed: run pip install '\.\[{extra}\]' in your checkout of "
        r"video-highlights\n",
        done.stderr,
    ), done.stderr


def test_the_core_alone_shows_help_and_reads_a_store(core: Installed) -> None:
    assert "audit" in core.run("video-highlights", "--help").stdout
    done = core.run("python", "-c", "from storage import FeatureStore; print(FeatureStore('.'))")
    assert "empty" in done.stdout, done.stderr


def test_features_alone_build_a_folder_of_videos(features: Installed) -> None:
    films = features.folder / "films"
    films.mkdir()
    (films / "one.mp4").write_bytes(MP4)
    assert features.run("video-highlights", "doctor", "--videos", "films").returncode == 0
    done = features.run("video-highlights", "features", "films", "--extractors", "frames")
    assert done.returncode == 0, done.stderr
    assert "1 ids = 1 done" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("luigi", "--module", "tasks", "BuildPHD2Features", "--cluster-kind", "local"), "cluster"),
        (
            ("luigi", "--module", "tasks", "BuildPHD2Features", "--decode-backend", "decord"),
            "decord",
        ),
        (
            (
                "luigi",
                "--module",
                "tasks",
                "TrainModel",
                "--catalog",
                "sample",
                "--recipe",
                "svm_d",
            ),
            "train",
        ),
        (("video-highlights", "train", "svm_d", "."), "train"),
    ],
)
def test_features_alone_say_what_else_needs(
    features: Installed, command: tuple[str, ...], extra: str
) -> None:
    done = features.run(*command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"pip install '.[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_site_without_its_downloader_is_a_failed_check(features: Installed) -> None:
    done = features.run("video-highlights", "doctor")
    assert done.returncode == 1, done.stderr
    assert "pip install '.[download]'" in done.stdout


@pytest.mark.slow
def test_train_alone_trains_and_scores(train: Installed) -> None:
    plant = ("--train-users", "4", "--test-users", "2", "--max-videos", "3")
    done = train.run("video-highlights", "plant", "data/planted", *plant)
    assert done.returncode == 0, done.stderr
    options = ("--small", "--set", "training.epochs=1")
    done = train.run("video-highlights", "train", "phd_ca", "data/planted", *options)
    assert done.returncode == 0, done.stderr
    (model,) = (train.folder / "data" / "planted" / "runs").rglob("model.safetensors")
    assert train.run("video-highlights", "score", str(model), "data/planted").returncode == 0
