"""RGB out of planes, by NumPy and by torch, is FFmpeg's to the bit: noise of every matrix and
range, real frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.extractors.base import inference
from models.extractors.base.precision import OutputError
from models.extractors.base.yuv import Planes, to_rgb
from models.extractors.c3d import spec as c3d
from models.extractors.c3d.settings import C3DSettings
from models.extractors.golden.output_error import output_errors
from models.extractors.tased import spec as tased
from models.extractors.tased.settings import TasedSettings
from models.extractors.yolov5 import spec as yolov5
from models.extractors.yolov5.settings import YOLOv5Settings
from pipeline.decoding.backends.pyav import Converter, PlanesReader
from pipeline.decoding.video_reader import VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS

AS_STORED = (1, 0, 0, 1)


def noise(height: int, width: int, colorspace: int, color_range: int) -> av.VideoFrame:
    """Every value from 0 to 255 in every plane, also those that no encoder writes."""
    rng = np.random.default_rng(height)
    picture = av.VideoFrame(width, height, "yuv420p")
    for plane, (rows, columns) in zip(
        picture.planes, ((height, width), *[(height // 2, width // 2)] * 2), strict=True
    ):
        padded = np.zeros((rows, plane.line_size), np.uint8)
        padded[:, :columns] = rng.integers(0, 256, (rows, columns), np.uint8)
        plane.update(padded.tobytes())
    picture.colorspace, picture.color_range = colorspace, color_range
    return picture


def by_torch(planes: Planes) -> NDArray[Any]:
    rgb = inference.planes_to_rgb(torch.from_numpy(planes.pixels)[None], planes.factors)
    return rgb[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 5, 6])
@pytest.mark.parametrize(("height", "width"), [(240, 320), (240, 426), (38, 18), (2, 2)])
def test_noise(height: int, width: int, colorspace: int, color_range: int) -> None:
    picture = noise(height, width, colorspace, color_range)
    planes = PlanesReader(Converter(), AS_STORED)(picture)
    assert planes is not None, (
        "this FFmpeg converts by other arithmetic: nothing is handed over as planes here"
    )
    expected = Converter()(picture)
    np.testing.assert_array_equal(to_rgb(planes), expected)
    np.testing.assert_array_equal(by_torch(planes), expected)


@pytest.mark.parametrize("video", ["v_GGSY1Qvo990.mp4", "flipping_a_pancake.mkv"])
def test_real_frames(video: str, shared_data: Path) -> None:
    path = shared_data / "videos" / video
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    count = 0
    for frame in decoding:
        if frame.index % 10 == 0:
            planes = frame.to_planes()
            assert planes is not None
            assert planes.shape == (frame.height, frame.width, 3)
            np.testing.assert_array_equal(to_rgb(planes), frame.to_rgb())
            np.testing.assert_array_equal(by_torch(planes), frame.to_rgb())
            count += 1
    assert count > 30


def test_what_has_no_exact_planes_has_none() -> None:
    planar = PlanesReader(Converter(), AS_STORED)
    assert planar(noise(48, 64, 9, 1)) is None  # BT.2020
    assert PlanesReader(Converter(), (0, 1, -1, 0))(noise(48, 64, 2, 1)) is None  # on its side
    for form in ("yuv422p", "yuv444p", "yuv420p10le", "gray"):
        assert planar(av.VideoFrame(64, 48, form)) is None
    assert planar(av.VideoFrame(63, 48, "yuv420p")) is None


def test_an_ffmpeg_that_computes_otherwise_is_noticed_at_its_first_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PlanesReader, "exact", {})

    class Brighter(Converter):
        def __call__(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
            rgb = super().__call__(picture)
            rgb[0, 0, 0] ^= 1
            return rgb

    planar = PlanesReader(Brighter(), AS_STORED)
    assert [planar(noise(48, 64, 2, 1)) for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        (yolov5.SPEC, YOLOv5Settings(size="n", input_pixels=160, resize="fast")),
        pytest.param(c3d.SPEC, C3DSettings(resize="fast"), marks=pytest.mark.slow),
        pytest.param(tased.SPEC, TasedSettings(resize="fast"), marks=pytest.mark.slow),
    ],
    ids=["yolov5", "c3d", "tased"],
)
def test_an_extractor_gives_the_same_rows_of_planes_and_of_rgb(spec: Any, settings: Any) -> None:
    extractor = spec.build(settings, "random:0", "cpu")
    length = {"c3d": 16, "tased": 32}.get(spec.name, 1)
    planar = PlanesReader(Converter(), AS_STORED)
    pictures = [noise(120 + 2 * number, 160, 2, 1) for number in range(2)]
    clip, same = [], []
    for number in range(length):
        planes = planar(pictures[number * 2 // length % 2])
        assert planes is not None
        clip.append(extractor.prepare(planes))
        same.append(extractor.prepare(to_rgb(planes)))
    found, expected = extractor.extract([clip]), extractor.extract([same])
    for array, drift in output_errors(expected, found).items():
        assert drift == OutputError(0.0, 0.0), array


@pytest.mark.parametrize(
    ("device", "fast", "wanted"),
    [("cpu", True, False), ("cuda", True, True), ("cuda", False, False)],
)
def test_planes_are_wanted_where_a_gpu_resizes(device: str, fast: bool, wanted: bool) -> None:
    assert inference.prefers_planes(device, resizes_on_device=fast) is wanted
