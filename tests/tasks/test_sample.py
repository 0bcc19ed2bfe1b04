"""The embedded sample through the real command, killed on the way: what everybody sees first."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.__main__ import main
from storage.features.store import FeatureStore
from tests.support.luigi_server import C3D, run_luigi
from tests.support.videos import FFMPEG

SEED = int(os.environ.get("SEED", "20260721"))
WORDS = ["--module", "tasks", "BuildPHD2Features"]
FRAMES = [*WORDS, "--extract-extractors", "frames", "--frames-frames-per-second", "0"]
"""A picture of every frame, and no network: a clip of c3d costs half a second."""
WITH_CLIPS = [*WORDS, "--extract-extractors", "c3d, frames", "--c3d-arrays", "pool5"]
STRIDE = 48
ALL_CLIPS = [*WITH_CLIPS, "--c3d-stride-frames", str(STRIDE)]
"""A third of the clips there are, of all videos."""
SHORT_VIDEO, ITS_SHARD = "6NLUYwGWFwX", "1"
FEW_CLIPS = [*WITH_CLIPS, "--c3d-stride-frames", "140", "--frames-frames-per-second", "0"]
FEW_CLIPS += ["--shards", ITS_SHARD]
"""One clip of each video in the shard with a video that is too short for one."""
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
    return build(tmp_path_factory.mktemp("sample"), FRAMES)


@pytest.fixture(scope="module")
def few_clips(
    built: tuple[Path, str, float], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """One shard of the same sample, with clips beside the frames."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(built[0], folder, dirs_exist_ok=True)
    done = run_luigi(folder, *FEW_CLIPS, environment=ENVIRONMENT, preload=C3D)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def all_clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    return build(tmp_path_factory.mktemp("clips"), ALL_CLIPS)


def test_the_first_line_says_what_is_built_and_the_last_where_it_is(
    built: tuple[Path, str, float],
) -> None:
    folder, output, _ = built
    lines = output.splitlines()
    assert "building the embedded sample" in lines[0]
    assert "12 ids = 11 done + 1 unavailable + 0 rejected + 0 pending + 0 quarantined" in output
    assert "store    data/sample" in lines
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


def test_frame_times_are_the_streams_own_in_every_video(built: tuple[Path, str, float]) -> None:
    """Every frame has the time at which ffmpeg shows it, also where frames are unevenly spaced."""
    frames = FeatureStore(built[0] / "data" / "sample")["frames"]
    uneven = []
    for video_id in frames.ids:
        times = shown_at(built[0] / "data" / "sample" / "sources" / f"{video_id}.mp4")
        spans = frames[video_id].spans
        np.testing.assert_allclose(spans[:, 0], times, rtol=0, atol=1e-3, err_msg=video_id)
        np.testing.assert_allclose(spans[:-1, 1], times[1:], rtol=0, atol=1e-3, err_msg=video_id)
        uneven += [video_id] * is_uneven(times)
    assert len(uneven) == 1, "the sample has exactly one video with a variable frame rate"


def test_clips_join_the_frames_and_a_video_may_be_too_short_for_one(
    few_clips: tuple[Path, str],
) -> None:
    folder, output = few_clips
    assert f"rejected:too_short  {SHORT_VIDEO}" in output
    assert "random:0 weights: good for trying the pipeline, not for results" in output
    assert (folder / "data" / "sample" / "report" / "features.png").stat().st_size > 30_000
    store = FeatureStore(folder / "data" / "sample")
    assert len(store["c3d"].ids) >= 2
    for video_id in store["c3d"].ids:
        ((start, end),) = store["c3d"][video_id].spans
        times = store["frames"][video_id].spans[:, 0]
        assert (start, end) == (times[0], times[16]), video_id


@pytest.mark.slow
def test_clip_times_are_the_streams_own_in_every_video(
    all_clips: tuple[Path, str, float],
) -> None:
    """Clip k covers frames [48 k, 48 k + 16) as ffmpeg dates them."""
    folder, output, _ = all_clips
    assert "12 ids = 10 done + 1 unavailable + 1 rejected + 0 pending + 0 quarantined" in output
    assert (folder / "data" / "sample" / "report" / "features.png").stat().st_size > 100_000
    reader = FeatureStore(folder / "data" / "sample")["c3d"]
    for video_id in reader.ids:
        times = shown_at(folder / "data" / "sample" / "sources" / f"{video_id}.mp4")
        spans = reader[video_id].spans
        starts = times[::STRIDE][: len(spans)]
        # The clip that holds the last frame ends when that frame does, which no time says.
        ends = [
            times[STRIDE * k + 16] if STRIDE * k + 16 < len(times) else spans[k, 1]
            for k in range(len(spans))
        ]
        np.testing.assert_allclose(
            spans, np.stack([starts, ends], axis=1), rtol=0, atol=1e-3, err_msg=video_id
        )


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
    done = run_luigi(folder, *FRAMES, environment=ENVIRONMENT)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert account_of(done.stdout) == account_of(first)
    assert "where the time went" not in output, "a run that did nothing has no times to tell"
    assert {path: path.read_bytes() for path in before} == before


def test_the_picture_is_drawn_again_only_if_what_it_shows_has_changed(
    few_clips: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copytree(few_clips[0], tmp_path, dirs_exist_ok=True)
    store = tmp_path / "data" / "sample"
    picture = store / "report" / "features.png"
    drawn, written_ns = picture.read_bytes(), picture.stat().st_mtime_ns

    def build_again() -> None:
        done = run_luigi(tmp_path, *FEW_CLIPS, environment=ENVIRONMENT)
        assert done.returncode == 0, done.stdout + done.stderr

    (store / "catalog.json").touch()  # a copy of a store has other times
    build_again()
    assert picture.stat().st_mtime_ns == written_ns
    picture.unlink()
    build_again()
    assert picture.read_bytes() == drawn
    shown = FeatureStore(store)["c3d"].ids[0]
    assert main(["forget", str(store), shown]) == 0
    assert not picture.exists()
    build_again()
    assert picture.read_bytes() not in (b"", drawn), "without the video that was taken down"


@pytest.mark.slow
def test_five_kills_of_the_command_lose_nothing(
    all_clips: tuple[Path, str, float], tmp_path: Path
) -> None:
    folder, _, seconds = all_clips
    rng = random.Random(SEED)
    for _ in range(5):
        running = start(tmp_path, ALL_CLIPS)
        time.sleep(rng.uniform(0.3, 0.5) * seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    running = start(tmp_path, ALL_CLIPS)
    output = running.communicate()[0]
    assert running.returncode == 0, output
    assert digests(tmp_path) == digests(folder), f"with SEED={SEED}"
    left = [
        path
        for path in (tmp_path / "data").rglob("*")
        if "spool" in path.parts or path.name.startswith(".")
    ]
    assert [path for path in left if path.is_file()] == []
