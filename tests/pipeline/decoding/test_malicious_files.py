"""Fifty odd and malicious videos through a real worker: each ends with its expected status."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.events import DecodeEnd, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.decode_settings import DecodeLimits
from storage.base.errors import VideoError
from tests.support.backend_conformance import by_ffmpeg
from tests.support.malicious_files import CORPUS

LIMITS = DecodeLimits(max_pixels=4096 * 4096, max_seconds=3600, stall_seconds=20)


@pytest.fixture(scope="module")
def child() -> Iterator[SubprocessDecoder]:
    with SubprocessDecoder(limits=LIMITS) as decoder:
        yield decoder


def test_there_are_enough() -> None:
    assert len(CORPUS) >= 40


@pytest.mark.parametrize("name", CORPUS)
def test_each_ends_in_its_declared_state(
    name: str, child: SubprocessDecoder, tmp_path: Path
) -> None:
    hostile, path = CORPUS[name], tmp_path / name
    hostile.make(path)
    if hostile.ends != "done":
        with pytest.raises(VideoError) as caught:
            list(child.decode("v", path, [EveryFrame()]))
        assert caught.value.status.reason == hostile.ends, caught.value
        return
    events = list(child.decode("v", path, [EveryFrame()]))
    end, rows = events[-1], sum(isinstance(event, WindowEvent) for event in events)
    assert isinstance(end, DecodeEnd)
    summary = end.summary
    assert summary.frames_decoded == rows
    assert rows + summary.frames_dropped == (
        len(by_ffmpeg(path)) if hostile.rows < 0 else hostile.rows
    )
    if hostile.lost is not None:
        assert summary.frames_lost == hostile.lost
    if (
        summary.frames_declared is not None
    ):  # no silent loss: what the header promised is here, dropped, or lost
        assert rows + summary.frames_dropped + summary.frames_lost == max(
            rows, summary.frames_declared
        )


def test_half_a_matroska_file_says_what_is_not_covered(
    child: SubprocessDecoder, tmp_path: Path
) -> None:
    CORPUS["half.mkv"].make(tmp_path / "half.mkv")
    *_, end = child.decode("v", tmp_path / "half.mkv", [EveryFrame()])
    assert isinstance(end, DecodeEnd)
    assert end.summary.frames_declared is None
    ((start, until),) = end.summary.gaps_seconds
    assert start == end.summary.end_seconds
    assert until == pytest.approx(10.0, abs=0.01)
