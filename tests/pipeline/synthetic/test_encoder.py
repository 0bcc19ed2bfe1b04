"""Files come out the same every time, with the times, the turn and the frames that were asked
for.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.synthetic.encoder import (
    CONSTANT_RATE,
    VARIABLE_RATE,
    FrameClock,
    encode_mp4,
    set_rotation,
)
from storage.base.errors import SystemicFault
from tests.support.videos import cli_frames


def ramp(count: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Frames bright at the top left and dark elsewhere, each a little brighter than the one
    before.
    """
    frames = np.full((count, height, width, 3), 30, np.uint8)
    frames[:, : height // 2, : width // 2] = (100 + np.arange(count) % 100)[:, None, None, None]
    return frames


def decoded_times(path: Path) -> NDArray[np.float64]:
    with av.open(str(path)) as container:
        return np.array([frame.time for frame in container.decode(video=0)])


# Gaps of frame N of SLOWING: 60 + floor((N+1)²/4) - floor(N²/4) = 60, 61, 61, 62, 62 ... ticks of
# 1/1200 s.
def test_clocks() -> None:
    assert CONSTANT_RATE.times_seconds(1.0) == pytest.approx(np.arange(12) / 12)
    assert VARIABLE_RATE.times_seconds(0.26) * 1200 == pytest.approx([0, 60, 121, 182, 244, 306])
    assert FrameClock(gap_ticks=600).times_seconds(1.0).tolist() == [
        0.0,
        0.5,
    ]  # 1.0 is outside [0, 1)


@pytest.mark.parametrize("clock", [CONSTANT_RATE, VARIABLE_RATE], ids=["steady", "slowing"])
def test_every_frame_is_shown_when_its_clock_says(tmp_path: Path, clock: FrameClock) -> None:
    times = clock.times_seconds(6.0)
    (tmp_path / "video.mp4").write_bytes(encode_mp4(ramp(len(times)), clock))
    assert decoded_times(tmp_path / "video.mp4") == pytest.approx(times, abs=1e-9)


def test_the_same_frames_give_the_same_bytes() -> None:
    assert encode_mp4(ramp(30), VARIABLE_RATE) == encode_mp4(ramp(30), VARIABLE_RATE)


def test_pictures_survive_about_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(encode_mp4(ramp(12), CONSTANT_RATE))
    assert np.abs(cli_frames(tmp_path / "video.mp4", 48, 64).astype(int) - ramp(12)).mean() < 3


def test_a_turned_video_is_stored_lying_and_shown_upright(tmp_path: Path) -> None:
    upright = ramp(12)
    lying = np.rot90(upright, k=-1, axes=(1, 2))
    (tmp_path / "video.mp4").write_bytes(
        set_rotation(encode_mp4(lying, CONSTANT_RATE), degrees_counterclockwise=90)
    )
    with av.open(str(tmp_path / "video.mp4")) as container:
        stored = next(container.decode(video=0))
    assert (stored.width, stored.height, stored.rotation) == (48, 64, 90)
    shown = cli_frames(tmp_path / "video.mp4", 48, 64)  # ffmpeg obeys the order to turn
    assert np.abs(shown.astype(int) - upright).mean() < 3


def test_ffmpegs_complaint_is_passed_on() -> None:
    with pytest.raises(SystemicFault, match=r"while making the sample: .*not divisible by 2"):
        encode_mp4(ramp(2, width=63), CONSTANT_RATE)
