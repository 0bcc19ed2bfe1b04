"""`python -m pipeline bench` measures what works here, says why the rest does not, and what to set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import bench
from pipeline.__main__ import FIT, WRONG_USE, main
from pipeline.bench import Rate, told
from tests.pipeline.videos import coded_video


def test_it_measures_and_says_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BACKENDS", ("pyav", "nvdec"))
    video = coded_video(tmp_path / "v.mp4", 30, "-pix_fmt", "yuv420p")
    assert main(["bench", str(video), "--at-once", "1,2", "--seconds", "0.05"]) == FIT
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 2 * 2 + 1
    assert all(float(line.split()[-1].replace(",", "")) > 0 for line in lines if " pyav " in line)
    if not torch.cuda.is_available():
        assert sum("needs an NVIDIA GPU" in line for line in lines) == 4
    assert lines[-1].startswith("fastest on every frame: [decode] backend = ")


def test_a_backend_that_leaves_the_file_to_another_has_no_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "BACKENDS", ("nvdec",))
    video = coded_video(tmp_path / "v.mp4", 5)  # 4:4:4, which NVDEC's backend does not take
    found = list(bench.rates(video, [1], 0.01))
    assert {rate.frames_per_second for rate in found} == {0.0}
    assert all("pyav from frame 0" in rate.problem for rate in found)
    assert not any("fastest" in line for line in told(video, found))


def test_the_fastest_on_every_frame_is_named() -> None:
    found = [Rate("a", 1, "every frame", 10.0), Rate("b", 8, "every frame", 30.0), Rate("a", 8, "2 a second", 90.0)]
    assert list(told(Path("v.mp4"), found))[-1].endswith("backend = b, videos_at_once = 8 or more")


def test_wrong_use_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path / "none.mp4")]) == WRONG_USE
    assert "is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", "v.mp4", "--at-once", "0"])
