"""The pictures extractor: sizes, and what a JPEG of a frame shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models.extractors.base.sampling import EveryFrame, FramesAtRate
from models.extractors.jpeg_frames.extractor import JpegFrames
from models.extractors.jpeg_frames.settings import FramesSettings
from models.extractors.registry import EXTRACTORS


def shown(
    jpeg: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "kept"),
    [
        (240, 320, (128, 171)),
        (720, 1280, (128, 228)),
        (90, 160, (90, 160)),
        (568, 320, (128, 72)),
        (2000, 1, (128, 1)),
    ],
)
def test_size_keeps_the_aspect_and_never_grows(
    height: int, width: int, kept: tuple[int, int]
) -> None:
    frame = np.zeros((height, width, 3), dtype=np.uint8)
    assert shown(JpegFrames(FramesSettings()).prepare(frame)).shape == (*kept, 3)


def test_colours_survive_in_rgb_order() -> None:
    frame = np.empty((64, 64, 3), dtype=np.uint8)
    frame[:] = (200, 30, 90)
    error = shown(JpegFrames(FramesSettings()).prepare(frame)).astype(int) - frame
    assert abs(error).max() <= 3


def test_a_row_is_one_jpeg() -> None:
    jpegs = JpegFrames(FramesSettings())
    prepared = [jpegs.prepare(np.full((32, 32, 3), value, dtype=np.uint8)) for value in (0, 255)]
    rows = jpegs.extract([[one] for one in prepared])["jpeg"]
    assert [shown(row).mean() for row in rows] == [0, 255]


def test_sampling_follows_the_setting() -> None:
    spec = EXTRACTORS["frames"]
    assert spec.sampling(FramesSettings(frames_per_second=2.5)) == FramesAtRate(2.5)
    assert spec.sampling(FramesSettings(frames_per_second=0)) == EveryFrame()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frames_per_second": -1}, "at least 0; got -1"),
        ({"height_pixels": 8}, "16 to 4320; got 8"),
        ({"jpeg_quality": 0}, "1 to 100; got 0"),
    ],
)
def test_settings_say_what_is_wrong(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        FramesSettings(**settings)  # type: ignore[arg-type]
