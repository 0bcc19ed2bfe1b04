"""Lanes compute side by side, bound what waits, hand errors on, and change no bit of a track."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.extractors.base.sampling import EveryFrame
from pipeline.compute.cpu_executor import REQUESTS_PER_THREAD, RowExecutor
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.extraction.process_video import process_video
from pipeline.media.media_file import Media
from tests.support.tiny_extractor import Tiny, tiny_variant
from tests.support.videos import coded_video


@pytest.fixture(params=[1, 2, 3])
def lanes(request: pytest.FixtureRequest) -> Iterator[RowExecutor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with RowExecutor("cpu") as lanes:
        yield lanes
    torch.set_num_threads(threads)


def test_each_lane_computes_on_one_thread_and_the_rest_of_the_process_as_before(
    lanes: RowExecutor,
) -> None:
    together = threading.Barrier(lanes.thread_count)

    def threads() -> int:
        together.wait(10)  # nobody answers before every lane is at it
        return torch.get_num_threads()

    assert [one.result() for one in [lanes.submit(threads) for _ in range(lanes.thread_count)]] == [
        1
    ] * lanes.thread_count
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [torch.get_num_threads()] == [lanes.thread_count]


def test_a_gpu_has_one_lane() -> None:
    with RowExecutor("cuda:0") as lanes:
        assert lanes.thread_count == 1


def test_who_brings_more_than_the_backlog_waits(lanes: RowExecutor) -> None:
    go, brought = threading.Event(), []

    def bring() -> None:
        for number in range(10):
            lanes.submit(go.wait, 10)
            brought.append(number)

    bringing = threading.Thread(target=bring)
    bringing.start()
    time.sleep(0.1)
    assert len(brought) == min(REQUESTS_PER_THREAD * lanes.thread_count, 10)
    go.set()
    bringing.join(10)
    assert len(brought) == 10


class Slow(Tiny):
    """Takes long for early rows, so that later ones are done first; may fail, and counts what it
    computed.
    """

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__(1.0)
        self.count, self.fails_at = 0, fails_at

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        self.count += 1
        if self.count == self.fails_at:
            raise RuntimeError("the network broke")
        time.sleep(0.01 / self.count)
        return super().extract(windows)


def media(path: Path) -> Media:
    return Media(path, "0" * 64, path.stat().st_size)


def test_a_track_is_the_same_with_and_without_lanes(tmp_path: Path, lanes: RowExecutor) -> None:
    video, variant = coded_video(tmp_path / "v.mp4", 20), tiny_variant("tiny", EveryFrame(), 1)
    plain = process_video("v", media(video), [(variant, Tiny(1.0))], InlineDecoder())[0].track
    beside = process_video(
        "v", media(video), [(variant, Slow()), (variant, Tiny(1.0))], InlineDecoder(), lanes.compute
    )
    assert plain is not None
    assert [outcome.track.digest() for outcome in beside if outcome.track] == [plain.digest()] * 2


def test_an_error_of_a_network_reaches_the_caller(tmp_path: Path, lanes: RowExecutor) -> None:
    video, variant = coded_video(tmp_path / "v.mp4", 20), tiny_variant("tiny", EveryFrame(), 1)
    with pytest.raises(RuntimeError, match="the network broke"):
        process_video(
            "v", media(video), [(variant, Slow(fails_at=7))], InlineDecoder(), lanes.compute
        )


def test_of_a_video_that_fails_nothing_is_computed_afterwards(
    tmp_path: Path, lanes: RowExecutor
) -> None:
    video, variant, slow = (
        coded_video(tmp_path / "v.mp4", 40),
        tiny_variant("tiny", EveryFrame(), 1),
        Slow(),
    )
    video.write_bytes(b"no video")
    outcome = process_video("v", media(video), [(variant, slow)], InlineDecoder(), lanes.compute)[0]
    assert outcome.track is None
    computed = slow.count
    time.sleep(0.05)
    assert slow.count == computed
    np.testing.assert_equal(lanes.submit(lambda: 3).result(), 3)
