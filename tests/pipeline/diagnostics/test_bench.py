"""The bench measures what it says, and its advice follows from the numbers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame, FramesAtRate
from models.extractors.registry import EXTRACTORS
from pipeline.__main__ import main
from pipeline.cli.bench import BackendSpeed, advice
from pipeline.diagnostics.bench.decoding import (
    BackendFailed,
    decode_all,
    measure_backend,
    warm_up_video,
)
from pipeline.diagnostics.bench.networks import offered_precisions, windows_per_second


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second at 25 frames a second."""
    path = tmp_path_factory.mktemp("bench") / "clip.mp4"
    warm_up_video(path)
    return path


def found(per_core_second: float) -> BackendSpeed:
    """A backend with 10 seconds of video per second for every 250 frames per core-second."""
    return BackendSpeed(per_core_second, 1.0, 60.0, {1: per_core_second}, frames_per_second=25.0)


def test_decoders_side_by_side_are_counted_together(clip: Path) -> None:
    assert decode_all("pyav", clip, 1).frames_decoded == 25
    one = measure_backend("pyav", clip, 1, clip, decoders=2)
    assert one.frames == 50
    assert one.video_seconds == pytest.approx(2.0)
    assert one.per_core_second > 0
    assert one.per_second > 0


def test_a_decoder_that_fails_is_not_measured(tmp_path: Path, clip: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(BackendFailed, match="not_a_video"):
        measure_backend("pyav", broken, 1, clip)


def test_the_default_stays_unless_another_is_clearly_faster() -> None:
    assert "backend = pyav" in "\n".join(
        advice({"pyav": found(1000), "decord": found(1050)}, {}, {})
    )
    assert "backend = decord" in "\n".join(
        advice({"pyav": found(1000), "decord": found(1200)}, {}, {})
    )
    assert "backend = decord" in "\n".join(advice({"decord": found(10)}, {}, {}))


def test_what_counts_is_many_at_once_by_the_clock() -> None:
    frugal = replace(found(1200), parallel_rates={1: 1200.0, 2: 1250.0})
    quick = replace(found(1000), parallel_rates={1: 1000.0, 2: 1900.0})
    assert "backend = decord" in "\n".join(advice({"pyav": frugal, "decord": quick}, {}, {}))
    assert "backend = pyav" in "\n".join(advice({"pyav": quick, "decord": frugal}, {}, {}))


def test_who_waits_for_whom_follows_from_both_rates() -> None:
    """A decoder gives 40 seconds of video per second; networks of 200 and 300 together take 120."""
    told = "\n".join(
        advice(
            {"pyav": found(1000)}, {"c3d": 200.0, "yolov5": 300.0}, {"c3d": ["# precision = bf16"]}
        )
    )
    assert "gives 40 seconds of film" in told
    assert "take 120: 3 decoders keep them busy" in told
    assert "[c3d]\n# precision = bf16" in told


def test_windows_of_a_second_of_film() -> None:
    assert windows_per_second(ConsecutiveFrames(16, 8), 24.0) == 3
    assert windows_per_second(FramesAtRate(2), 24.0) == 2
    assert windows_per_second(FramesAtRate(50), 24.0) == 24
    assert windows_per_second(EveryFrame(), 24.0) == 24


def test_only_precisions_that_are_offered_are_measured() -> None:
    assert offered_precisions(EXTRACTORS["c3d"]) == ("fp32", "bf16")
    assert offered_precisions(EXTRACTORS["keypoint_rcnn"]) == ("fp32",)


def test_the_command_ends_in_settings(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["bench", str(clip), "--backends", "pyav", "--extractors", "frames", "--rounds", "1"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("pyav ")
    assert lines[-2:] == ["[decode]", "backend = pyav"]


def test_all_faults_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        sys.exit(
            main(
                [
                    "bench",
                    "nowhere.mp4",
                    "--backends",
                    "vlc",
                    "--extractors",
                    "c4d",
                    "--rounds",
                    "0",
                ]
            )
        )
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 4
