"""The embedded sample through the real command, killed on the way: what everybody sees first."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.features.store import FeatureStore
from tests.support.luigi_server import run_luigi
from tests.support.videos import FFMPEG

Spans = NDArray[np.float64]
SEED = int(os.environ.get("SEED", "20260721"))
WORDS = ["--module", "tasks", "BuildPHD2Features", "--extract-extractors", "c3d, frames"]
WORDS += ["--c3d-arrays", "pool5", "--c3d-stride-frames"]
FAST = [*WORDS, "140", "--frames-frames-per-second", "0"]
"""One clip a video, since a clip costs half a second; and a picture of every frame."""
SLOW_STRIDE = 48
SLOW = [*WORDS, str(SLOW_STRIDE)]
"""A third of the clips there are."""
ENVIRONMENT = {"PATH": str(Path(sys.executable).parent)}


def start(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("luigi")), *words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def digests(folder: Path) -> dict[str, str]:
    store = FeatureStore(folder / "data" / "sample")
    return {name: store[name].digest() for name in store.variants()}


def build(folder: Path, words: list[str]) -> tuple[Path, str, float]:
    """Where the sample was built, what the command said, and how many seconds it took."""
    started = time.monotonic()
    running = start(folder, words)
    output = running.communicate()[0]
    assert running.returncode == 0, output
    return folder, output, time.monotonic() - started


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    return build(tmp_path_factory.mktemp("sample"), FAST)


@pytest.fixture(scope="module")
def built_with_clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    return build(tmp_path_factory.mktemp("clips"), SLOW)


def test_the_first_line_says_what_is_built_and_the_last_where_it_is(
    built: tuple[Path, str, float],
) -> None:
    folder, output, _ = built
    lines = output.splitlines()
    assert "building the embedded sample" in lines[0]
    assert "12 ids = 10 done + 1 unavailable + 1 rejected + 0 pending + 0 quarantined" in output
    assert "random:0 weights: good for trying the pipeline, not for results" in output
    assert (folder / "data" / "sample" / "report" / "features.png").stat().st_size > 100_000
    account = json.loads((folder / "data" / "sample" / "report" / "account.json").read_bytes())
    assert {sum(variant["states"].values()) for variant in account["variants"].values()} == {12}


def shown_at(video: Path) -> list[float]:
    """When ffmpeg itself shows each frame of a video."""
    command = [
        FFMPEG,
        "-hide_banner",
        "-i",
        str(video),
        "-vf",
        "showinfo",
        "-fps_mode",
        "passthrough",
        "-f",
        "null",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(time) for time in re.findall(r"pts_time:\s*([-0-9.e]+)", done.stderr)]


def is_uneven(times: list[float]) -> bool:
    return bool(np.ptp(np.diff(times)) > 0.01)


def clip_starts_and_ends(times: list[float], spans: Spans, stride: int) -> Spans:
    """What `(clips, 2)` spans should be: clip k covers frames [stride k, stride k + 16)."""
    starts = times[::stride][: len(spans)]
    # The clip that holds the last frame ends when that frame does, which no time says.
    ends = [
        times[stride * k + 16] if stride * k + 16 < len(times) else spans[k, 1]
        for k in range(len(spans))
    ]
    return np.stack([starts, ends], axis=1)


def test_row_times_are_the_streams_own_in_every_video(built: tuple[Path, str, float]) -> None:
    """Every frame has the time at which ffmpeg shows it, and clips begin and end at frames; one
    video's frames are unevenly spaced.
    """
    store = FeatureStore(built[0] / "data" / "sample")
    clips, frames = store["c3d"], store["frames"]
    uneven = []
    for video_id in frames.ids:
        times = shown_at(built[0] / "data" / "sample" / "sources" / f"{video_id}.mp4")
        spans = frames[video_id].spans
        np.testing.assert_allclose(spans[:, 0], times, rtol=0, atol=1e-3, err_msg=video_id)
        np.testing.assert_allclose(spans[:-1, 1], times[1:], rtol=0, atol=1e-3, err_msg=video_id)
        if video_id in clips:
            spans = clips[video_id].spans
            expected = clip_starts_and_ends(times, spans, 140)
            np.testing.assert_allclose(spans, expected, rtol=0, atol=1e-3, err_msg=video_id)
        uneven += [video_id] * is_uneven(times)
    assert len(uneven) == 1, "the sample has exactly one video with a variable frame rate"


@pytest.mark.slow
def test_clip_times_are_the_streams_own_in_every_video(
    built_with_clips: tuple[Path, str, float],
) -> None:
    folder, _, _ = built_with_clips
    reader = FeatureStore(folder / "data" / "sample")["c3d"]
    for video_id in reader.ids:
        times = shown_at(folder / "data" / "sample" / "sources" / f"{video_id}.mp4")
        spans = reader[video_id].spans
        assert len(spans) > 1
        expected = clip_starts_and_ends(times, spans, SLOW_STRIDE)
        np.testing.assert_allclose(spans, expected, rtol=0, atol=1e-3, err_msg=video_id)


def videos_whose(folder: Path, wanted: Callable[[Any], bool]) -> list[str]:
    """Done videos whose recorded facts are such."""
    reader = FeatureStore(folder / "data" / "sample")["frames"]
    entries = {
        video_id: entry
        for manifest in reader.manifests.values()
        for video_id, entry in manifest.entries.items()
    }
    return [
        video_id for video_id, entry in entries.items() if entry.is_done and wanted(entry.facts)
    ]


def test_the_rotated_video_is_upright_and_the_damaged_one_says_so(
    built: tuple[Path, str, float],
) -> None:
    folder, output, _ = built
    rotated = videos_whose(folder, lambda facts: facts["probe"]["display_matrix"] != [1, 0, 0, 1])
    damaged = videos_whose(
        folder, lambda facts: facts["decode"]["frames_decoded"] < facts["decode"]["frames_declared"]
    )
    assert len(rotated) == len(damaged) == 1
    assert f"{damaged[0]}: " in output, "the account names what was lost"


def account_of(output: str) -> list[str]:
    """The account at a run's end, without the times that only a run which did something tells."""
    lines = output[output.index("\nsample: 12 videos, 5 users") :].splitlines()
    started = [
        number for number, line in enumerate(lines) if line.startswith("where the time went")
    ]
    if not started:
        return lines
    ended = next(number for number, line in enumerate(lines) if line.startswith("  times    "))
    return lines[: started[0]] + lines[ended + 1 :]


def test_a_second_run_is_done_in_seconds(built: tuple[Path, str, float]) -> None:
    folder, first, _ = built
    before = {path: path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file()}
    done = run_luigi(folder, *FAST, environment=ENVIRONMENT, networks=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert account_of(done.stdout) == account_of(first)
    assert "where the time went" not in output, "a run that did nothing has no times to tell"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_five_kills_of_the_command_lose_nothing(
    built_with_clips: tuple[Path, str, float], tmp_path: Path
) -> None:
    folder, _, seconds = built_with_clips
    rng = random.Random(SEED)
    for _ in range(5):
        running = start(tmp_path, SLOW)
        time.sleep(rng.uniform(0.3, 0.5) * seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    running = start(tmp_path, SLOW)
    output = running.communicate()[0]
    assert running.returncode == 0, output
    assert digests(tmp_path) == digests(folder), f"with SEED={SEED}"
    left = [
        path
        for path in (tmp_path / "data").rglob("*")
        if "spool" in path.parts or path.name.startswith(".")
    ]
    assert [path for path in left if path.is_file()] == []
