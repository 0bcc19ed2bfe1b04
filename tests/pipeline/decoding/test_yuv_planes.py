"""Frames as YUV planes through a real worker: only on request, and with the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.extractors.base.contract import Frame
from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame
from models.extractors.base.yuv import Planes, to_rgb
from pipeline.decoding.events import FrameEvent, WindowEvent, YuvFrameEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_video import process_video
from pipeline.media.media_file import Media
from pipeline.sampling.planner import YuvSampling
from tests.support.tiny_extractor import Tiny, tiny_variant
from tests.support.videos import coded_frame, encode


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [coded_frame(number, 48, 64) for number in range(40)]
    return encode(tmp_path_factory.mktemp("planes") / "v.mp4", frames, "-pix_fmt", "yuv420p")


@pytest.mark.parametrize("child", [False, True])
def test_each_gets_what_it_asked_for(child: bool, video: Path) -> None:
    decoder = SubprocessDecoder() if child else InlineDecoder()
    rgb: dict[int, Frame] = {}
    planes: dict[int, Frame] = {}
    windows = {0: 0, 1: 0}
    for event in decoder.decode("v", video, [ConsecutiveFrames(4, 8), YuvSampling(EveryFrame())]):
        if isinstance(event, FrameEvent):
            assert event.wanted_by == (0,)
            rgb[event.index] = event.rgb.copy()
        elif isinstance(event, YuvFrameEvent):
            assert event.wanted_by == (1,)
            planes[event.index] = to_rgb(event.planes)
        elif isinstance(event, WindowEvent):
            windows[event.sampling] += 1
    decoder.close()
    assert (len(rgb), list(planes), windows) == (20, list(range(40)), {0: 5, 1: 40})
    for index, frame in rgb.items():
        np.testing.assert_array_equal(frame, planes[index])


@pytest.mark.parametrize("form", ["yuv444p", "yuv420p10le"])
def test_where_planes_say_something_else_rgb_comes(form: str, tmp_path: Path) -> None:
    path = encode(
        tmp_path / "v.mp4", [coded_frame(number, 48, 64) for number in range(5)], "-pix_fmt", form
    )
    with SubprocessDecoder() as decoder:
        events = list(decoder.decode("v", path, [YuvSampling(EveryFrame())]))
    assert sum(isinstance(event, FrameEvent) for event in events) == 5
    assert not any(isinstance(event, YuvFrameEvent) for event in events)


class Planar(Tiny):
    """Takes planes, and makes of them what Tiny makes of RGB."""

    planar = True
    seen = 0

    def prepare(self, frame: Frame | Planes) -> NDArray[np.float32]:
        type(self).seen += isinstance(frame, Planes)
        return super().prepare(to_rgb(frame) if isinstance(frame, Planes) else frame)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        return super().extract(windows)


def test_rows_do_not_depend_on_how_frames_were_handed_over(video: Path) -> None:
    variant = tiny_variant("tiny", EveryFrame(), 1)
    media = Media(video, "0" * 64, video.stat().st_size)
    with SubprocessDecoder() as decoder:
        outcomes = process_video(
            "v", media, [(variant, Tiny(1.0)), (variant, Planar(1.0))], decoder
        )
    digests = {outcome.track.digest() for outcome in outcomes if outcome.track}
    assert len(digests) == 1
    assert Planar.seen == 40
