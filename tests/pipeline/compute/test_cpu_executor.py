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
from storage.base.errors import ExtractorFailed
from tests.support.tiny_extractor import Tiny, tiny_variant
from tests.support.videos import coded_video


@pytest.fixture(params=[1, 2, 3])
def executor(request: pytest.FixtureRequest) -> Iterator[RowExecutor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with RowExecutor("cpu") as executor:
        yield executor
    torch.set_num_threads(threads)


def test_each_row_is_computed_on_one_thread_and_the_rest_of_the_process_as_before(
    executor: RowExecutor,
) -> None:
    together = threading.Barrier(executor.thread_count)

    def threads() -> int:
        together.wait(10)  # nobody answers before every thread is at it
        return torch.get_num_threads()

    assert [
        one.result() for one in [executor.submit(threads) for _ in range(executor.thread_count)]
    ] == [1] * executor.thread_count
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [torch.get_num_threads()] == [executor.thread_count]


def test_a_gpu_has_one_thread() -> None:
    with RowExecutor("cuda:0") as executor:
        assert executor.thread_count == 1


def test_who_brings_more_than_the_backlog_waits(executor: RowExecutor) -> None:
    go, brought = threading.Event(), []

    def bring() -> None:
        for number in range(10):
            executor.submit(go.wait, 10)
            brought.append(number)

    bringing = threading.Thread(target=bring)
    bringing.start()
    time.sleep(0.1)
    assert len(brought) == min(REQUESTS_PER_THREAD * executor.thread_count, 10)
    go.set()
    bringing.join(10)
    assert len(brought) == 10


class Slow(Tiny):
    """Is slow on early rows, so that later ones end first; may fail, and counts its calls."""

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


def test_a_track_is_the_same_with_and_without_an_executor(
    tmp_path: Path, executor: RowExecutor
) -> None:
    video, variant = coded_video(tmp_path / "v.mp4", 20), tiny_variant("tiny", EveryFrame(), 1)
    plain = process_video("v", media(video), [(variant, Tiny(1.0))], InlineDecoder())[0].track
    beside = process_video(
        "v",
        media(video),
        [(variant, Slow()), (variant, Tiny(1.0))],
        InlineDecoder(),
        executor.compute,
    )
    assert plain is not None
    assert [outcome.track.digest() for outcome in beside if outcome.track] == [plain.digest()] * 2


def test_an_error_of_a_network_reaches_the_caller(tmp_path: Path, executor: RowExecutor) -> None:
    video, variant = coded_video(tmp_path / "v.mp4", 20), tiny_variant("tiny", EveryFrame(), 1)
    with pytest.raises(ExtractorFailed, match="tiny failed in extract, at video v: RuntimeError"):
        process_video(
            "v", media(video), [(variant, Slow(fails_at=7))], InlineDecoder(), executor.compute
        )


def test_of_a_video_that_fails_nothing_is_computed_afterwards(
    tmp_path: Path, executor: RowExecutor
) -> None:
    video, variant, slow = (
        coded_video(tmp_path / "v.mp4", 40),
        tiny_variant("tiny", EveryFrame(), 1),
        Slow(),
    )
    video.write_bytes(b"no video")
    outcome = process_video(
        "v", media(video), [(variant, slow)], InlineDecoder(), executor.compute
    )[0]
    assert outcome.track is None
    computed = slow.count
    time.sleep(0.05)
    assert slow.count == computed
    np.testing.assert_equal(executor.submit(lambda: 3).result(), 3)
