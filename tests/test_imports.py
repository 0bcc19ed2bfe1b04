"""Which libraries a command imports: help, faults and runs with nothing to do need few of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.decoding.video_reader import BACKENDS
from pipeline.media.decode_settings import BACKEND_NAMES
from tests.conftest import REPOSITORY
from tests.support.sample_builds import QUICK, build_in_fork

HEAVY = frozenset(
    {"av", "cv2", "dask", "distributed", "ffmpeg", "h5py", "matplotlib", "pandas", "PIL", "scipy"}
    | {"sklearn", "torch", "torchvision", "ultralytics", "yt_dlp"}
)
"""Libraries that take 20 ms to seconds to import. numpy is not among them: rows are its arrays."""
RUN = """
import json, sys
try:
    from luigi.cmdline import luigi_run
    luigi_run(["--module", "tasks", *sys.argv[1:]])
except SystemExit as end:
    code = end.code
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print("\\n" + json.dumps([code or 0, loaded]))
"""
BUILD = ("BuildFeatures", "--catalog", "sample", *QUICK)


def run(folder: Path, *words: str) -> tuple[int, set[str], str]:
    """Exit code of `luigi --module tasks WORDS`, the heavy libraries it imported, what it said."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    return code, set(HEAVY) & set(loaded), done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = build_in_fork(tmp_path_factory.mktemp("sample"))
    assert sample.exit_code == 0, sample.output
    return sample.folder


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("--help",), 0, "--help-all"),
        (("BuildPHD2Features", "--help"), 0, "--plan"),
        (("HighlightVideo", "--help"), 0, "--reel"),
        (("BuildPHD2Feature",), 2, "near are BuildPHD2Features"),
        ((*BUILD, "--frames-hieght-pixels", "3"), 2, "near are --frames-height-pixels"),
        ((*BUILD, "--decode-backend", "vlc"), 2, "must be one of pyav"),
    ],
)
def test_help_and_faults_import_no_heavy_library(
    tmp_path: Path, words: tuple[str, ...], exit_code: int, said: str
) -> None:
    code, heavy, output = run(tmp_path, *words)
    assert code == exit_code, output
    assert said in output
    assert heavy == set()


@pytest.mark.parametrize(
    ("option", "said"), [("--plan", "plan: 0 videos in 0 shards"), ("", "12 ids = 11 done")]
)
def test_a_run_with_nothing_to_do_imports_no_heavy_library(
    built: Path, option: str, said: str
) -> None:
    code, heavy, output = run(built, *BUILD, *filter(None, [option]))
    assert code == 0, output
    assert said in output
    assert heavy == set()


def test_the_names_of_decoders_are_those_of_their_functions() -> None:
    assert tuple(BACKENDS) == BACKEND_NAMES
