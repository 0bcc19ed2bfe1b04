"""Clips of earlier frames, from file to row: right frames in order, none kept too long."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, ExtractorSpec, Frame
from models.extractors.base.sampling import EveryFrame, FramesAtRateWithHistory
from pipeline.decoding.events import Decoder
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_video import VideoResult, process_video
from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from tests.support.tiny_extractor import TinySettings, tiny_variant
from tests.support.videos import coded_video, read_code

LENGTH = 8


class Number:
    """What a coded frame says; counted while somebody keeps it."""

    def __init__(self, value: int) -> None:
        self.value = value


@dataclass
class Codes:
    """The number of each frame of a window."""

    alive: weakref.WeakSet[Number] = field(default_factory=weakref.WeakSet)
    most: int = 0

    def prepare(self, frame: Frame) -> Number:
        number = Number(read_code(frame))
        self.alive.add(number)
        self.most = max(self.most, len(self.alive))
        return number

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        return {
            "codes": [np.array([number.value for number in window], np.int64) for window in windows]
        }


def history_variant(frames_per_second: float, windows_per_batch: int = 1) -> Variant:
    spec = ExtractorSpec(
        name="codes",
        numerics_version=1,
        settings_type=TinySettings,
        arrays=lambda _: {"codes": ArraySpec("int64", (LENGTH,))},
        sampling=lambda _: FramesAtRateWithHistory(frames_per_second, LENGTH),
        build=lambda *_: Codes(),
        needs_weights=False,
        windows_per_batch=windows_per_batch,
    )
    return Variant("codes", spec, TinySettings())


def outcome(video: Path, variant: Variant, codes: Codes, decoder: Decoder) -> VideoResult:
    """With a second extractor beside it, whose frames come and go at another pace."""
    beside = tiny_variant("singles", EveryFrame(), 1)
    media = Media(video, "0" * 64, video.stat().st_size)
    return process_video("v", media, [(variant, codes), (beside, beside.build("cpu"))], decoder)[0]


@pytest.mark.parametrize("windows_per_batch", [1, 3])
@pytest.mark.parametrize("child", [False, True], ids=["inline", "child"])
def test_every_row_sees_its_frames_in_order(
    tmp_path: Path, child: bool, windows_per_batch: int
) -> None:
    video = coded_video(tmp_path / "v.mp4", 40)
    variant, codes = history_variant(5, windows_per_batch), Codes()
    decoder = SubprocessDecoder() if child else InlineDecoder()
    track = outcome(video, variant, codes, decoder).track
    decoder.close()
    assert track is not None
    # 10 frames a second, 5 rows a second: frames 0, 2, 4, ...; those below 7 look ahead, backwards
    rows = [range(i + 7, i - 1, -1) if i < 7 else range(i - 7, i + 1) for i in range(0, 40, 2)]
    np.testing.assert_array_equal(track.arrays["codes"], [list(row) for row in rows])
    np.testing.assert_allclose(
        track.spans, [[i / 10, (i + 1) / 10] for i in range(0, 40, 2)], atol=1e-9
    )
    # at the start frames 0 to 13 are needed together; a batch of three rows, 2 frames apart, needs
    # 4 more
    assert codes.most <= 2 * LENGTH - 1 + 2 * (windows_per_batch - 1)


@pytest.mark.parametrize(
    ("frames", "rows"), [(7, None), (8, [0, 7]), (10, [0, 1, 2, 7, 8, 9]), (14, list(range(14)))]
)
def test_short_videos(tmp_path: Path, frames: int, rows: list[int] | None) -> None:
    found = outcome(
        coded_video(tmp_path / "v.mp4", frames), history_variant(10), Codes(), InlineDecoder()
    )
    if rows is None:
        assert found.status.reason == "too_short"
        assert found.track is None
    else:
        assert found.track is not None
        codes = found.track.arrays["codes"]
        assert isinstance(codes, np.ndarray)
        assert codes[:, -1].tolist() == rows
