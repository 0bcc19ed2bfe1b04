"""NVDEC gives PyAV's pictures at PyAV's times, also from a real child; where there is none it says
so.

Encodes with PyAV alone, so that it runs on a machine that has a GPU and little else. `VIDEO=file`
adds a real one.
"""

from __future__ import annotations

import os
from pathlib import Path

import av
import av.video.stream
import numpy as np
import pytest
import torch

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.events import DecodeEnd, FrameEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.decode_settings import DEFAULT_LIMITS
from storage.base.errors import SystemicFault

FRAMES = 60
CODECS = {
    "libx264": {"bf": "2", "g": "30"},
    "libx265": {"x265-params": "log-level=error"},
    "libvpx-vp9": {},
}


def encoded(path: Path, codec: str, height: int = 240, width: int = 320) -> Path:
    """Drifting noise: every block of every picture is coded."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2 * height, 2 * width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=CODECS[codec])
        assert isinstance(stream, av.video.stream.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FRAMES):
            picture = np.ascontiguousarray(
                noise[number : number + height, 2 * number : 2 * number + width]
            )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def same(path: Path) -> None:
    """Frame by frame; and NVDEC did it, not PyAV in its place."""
    ours, theirs = (
        VideoReader("v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None)
        for backend in ("nvdec", "pyav")
    )
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        assert (one.pts_seconds, one.duration_seconds) == (
            other.pts_seconds,
            other.duration_seconds,
        )
        np.testing.assert_array_equal(one.to_rgb(), other.to_rgb())
        count += 1
    assert count > 0
    assert ours.summary() == theirs.summary()


@pytest.mark.gpu
@pytest.mark.parametrize("codec", CODECS)
def test_the_pictures_are_pyavs_to_the_bit(codec: str, tmp_path: Path) -> None:
    same(encoded(tmp_path / "v.mkv", codec))


@pytest.mark.gpu
def test_a_real_video_too() -> None:
    video = os.environ.get("VIDEO", "")
    if not video:
        pytest.skip("LOUD SKIP: VIDEO names no file; no real video was decoded")
    same(Path(video))


@pytest.mark.gpu
def test_a_child_that_gave_up_all_it_can_still_reaches_it(tmp_path: Path) -> None:
    path = encoded(tmp_path / "v.mkv", "libx264")
    with SubprocessDecoder("nvdec") as child:
        *events, end = child.decode("v", path, [EveryFrame()])
    assert isinstance(end, DecodeEnd)
    assert (end.summary.frames_decoded, end.summary.salvaged_by) == (FRAMES, "")
    assert sum(isinstance(event, FrameEvent) for event in events) == FRAMES


def test_without_a_gpu_it_says_what_it_needs(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("LOUD SKIP: there is a GPU here")
    path = encoded(tmp_path / "v.mkv", "libx264")
    with pytest.raises(SystemicFault, match="needs an NVIDIA GPU"):
        list(InlineDecoder("nvdec").decode("v", path, [EveryFrame()]))
    with (
        SubprocessDecoder("nvdec") as child,
        pytest.raises(SystemicFault, match="needs an NVIDIA GPU"),
    ):
        list(child.decode("v", path, [EveryFrame()]))
