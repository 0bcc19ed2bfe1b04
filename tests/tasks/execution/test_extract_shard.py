"""How many videos of a shard are in hand at a time: as a person says, or by who computes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from tasks.config.settings import load_settings
from tasks.execution.extract_shard import videos_in_parallel
from tests.conftest import REPOSITORY
from tests.support.sample_builds import command
from tests.tasks.test_old_store import DATA

FRAMES, C3D = (
    Variant(name, EXTRACTORS[name], EXTRACTORS[name].settings_type(), "random:0")
    for name in ("frames", "c3d")
)


@pytest.fixture
def twelve_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "12")  # torch read it when it was imported
    threads = torch.get_num_threads()
    torch.set_num_threads(12)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("twelve_cores")
@pytest.mark.parametrize(
    ("said", "device", "variants", "expected"),
    [
        (0, "cpu", (FRAMES,), 12),
        (0, "cpu", (FRAMES, C3D), 3),
        (0, "cuda", (FRAMES, C3D), 12),
        (5, "cpu", (C3D,), 5),
        (1, "cuda:1", (C3D,), 1),
    ],
)
def test_as_many_as_the_cores_suggest(
    said: int, device: str, variants: tuple[Variant, ...], expected: int
) -> None:
    settings = dataclasses.replace(load_settings("sample"), videos_at_once=said, variants=variants)
    assert videos_in_parallel(settings, device) == expected


def test_one_core_has_one_video_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert (
        videos_in_parallel(dataclasses.replace(load_settings("sample"), variants=(C3D,)), "cpu")
        == 1
    )


def test_frames_alone_import_no_torch(tmp_path: Path) -> None:
    """torch takes seconds to import, and only networks need it."""
    watch = (
        "import atexit, sys; from luigi.cmdline import luigi_run; sys.argv = ['luigi', *sys.argv[1:]];"
        "atexit.register(lambda: print('torch is', 'loaded' if 'torch' in sys.modules else 'not loaded')); luigi_run()"
    )
    built = subprocess.run(
        [
            sys.executable,
            "-c",
            watch,
            *command("BuildPHD2Features", "--data-root", str(tmp_path))[1:],
            *("--phd2-testing", str(DATA / "phd2" / "sources" / "testing.csv")),
            *("--download-source", str(DATA / "media")),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch is not loaded" in built.stdout, built.stdout + built.stderr
    assert "0 done" not in built.stdout
