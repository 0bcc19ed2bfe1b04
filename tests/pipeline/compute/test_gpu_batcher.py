"""GPU batches, with a CPU as the device: several videos, row order, lack of memory, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.compute import gpu_batcher
from pipeline.compute.cpu_executor import ComputeRequest, Rows
from pipeline.compute.gpu_batcher import GPU_THREADS, WAITING_BATCHES, GpuBatcher, known_batch_size
from storage.base.errors import SystemicFault


class Device:
    """An extractor whose device holds a limited number of windows; doubles their first number."""

    def __init__(self, holds: int = 1_000, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.holds, self.error = holds, error
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.breaks_at = -1.0
        self._lock = threading.Lock()
        self._held = 0
        self.most_held = 0

    def prepare(self, frame: NDArray[np.uint8]) -> Any:
        return frame

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        self.go.wait(10)
        with self._lock:
            self.sizes.append(len(windows))
            self._held += len(windows)
            self.most_held = max(self.most_held, self._held)
            fits = self._held <= self.holds
        try:
            time.sleep(0.001)
            if not fits:
                raise self.error("CUDA out of memory. Tried to allocate 20 GiB")
            if any(window[0] == self.breaks_at for window in windows):
                raise RuntimeError("the network broke")
            both = np.array([[window[0], 2 * window[0]] for window in windows], np.float32)
            return {"first": list(both[:, 0]), "twice": list(both[:, 1])}
        finally:
            with self._lock:
                self._held -= len(windows)


def asked(
    batcher: GpuBatcher, device: Device, values: Sequence[float], max_batch: int = 8
) -> list[Future[Rows]]:
    return [batcher.compute(ComputeRequest(device, [[value]], max_batch)) for value in values]


def answers(futures: Sequence[Future[Rows]]) -> list[float]:
    return [float(row) for future in futures for row in future.result(10)["twice"]]


def fed_by_many(
    batcher: GpuBatcher, device: Device, videos: int, windows: int, max_batch: int = 8
) -> dict[int, list[float]]:
    """What each of many videos, fed side by side, got back."""
    found: dict[int, list[float]] = {}

    def video(number: int) -> None:
        found[number] = answers(
            asked(batcher, device, [number * 1000 + k for k in range(windows)], max_batch)
        )

    threads = [threading.Thread(target=video, args=(number,)) for number in range(videos)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def expected(videos: int, windows: int) -> dict[int, list[float]]:
    return {number: [2.0 * (number * 1000 + k) for k in range(windows)] for number in range(videos)}


def test_videos_share_batches_and_each_gets_its_own_rows_in_order() -> None:
    device = Device()
    with GpuBatcher("cpu") as batcher:
        device.go.clear()
        waiting = threading.Timer(0.1, device.go.set)
        waiting.start()
        assert fed_by_many(batcher, device, 6, 40) == expected(6, 40)
    assert max(device.sizes) == 8, "windows of several videos never filled a batch"
    assert sum(device.sizes) == 240
    assert set(device.sizes) <= {1, 2, 4, 8}, "a GPU should meet few shapes"


def test_a_slow_device_gets_full_batches() -> None:
    device = Device()
    with GpuBatcher("cpu") as batcher:
        fed_by_many(batcher, device, 8, 64)
    assert np.mean(device.sizes) > 4


@pytest.mark.parametrize("holds", [1, 3, 5, 7])
def test_memory_that_runs_out_halves_the_batch_and_is_remembered(holds: int) -> None:
    device = Device(holds)
    with GpuBatcher("cpu") as batcher:
        assert fed_by_many(batcher, device, 4, 40) == expected(4, 40)
    fits = 1 << (holds.bit_length() - 1)
    assert known_batch_size(device, 8) <= fits
    device.sizes.clear()
    with GpuBatcher("cpu") as batcher:  # of the next shard
        assert fed_by_many(batcher, device, 4, 40) == expected(4, 40)
    assert max(device.sizes) <= fits


def test_what_is_remembered_is_of_one_extractor() -> None:
    device, other = Device(holds=2), Device()
    with GpuBatcher("cpu") as batcher:
        fed_by_many(batcher, device, 2, 16)
        fed_by_many(batcher, other, 2, 16)
    assert known_batch_size(device, 8) <= 2
    assert known_batch_size(other, 8) == 8


@pytest.mark.parametrize(
    "words", ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"]
)
def test_what_cudas_libraries_say_counts_too(words: str) -> None:
    class Library(RuntimeError):
        def __init__(self, _: str) -> None:
            super().__init__(words)

    device = Device(2, Library)
    with GpuBatcher("cpu") as batcher:
        assert fed_by_many(batcher, device, 2, 20) == expected(2, 20)


def test_no_memory_for_a_single_window_is_a_fault_of_the_machine() -> None:
    device = Device(holds=0)
    with (
        GpuBatcher("cpu") as batcher,
        pytest.raises(SystemicFault, match="no memory for one window of Device"),
    ):
        answers(asked(batcher, device, [1.0]))


def test_an_error_reaches_whoever_had_a_window_in_that_batch_and_nobody_after() -> None:
    device = Device()
    device.breaks_at = 3.0
    with GpuBatcher("cpu") as batcher:
        futures = asked(batcher, device, [float(k) for k in range(16)])
        broken = [future.exception(10) is not None for future in futures]
        assert broken[3]
        assert answers(asked(batcher, device, [50.0, 51.0])) == [100.0, 102.0]
    assert any(
        "the network broke" in str(future.exception()) for future in futures if future.exception()
    )


def test_who_brings_more_than_the_backlog_waits() -> None:
    device, brought = Device(), []
    device.go.clear()
    with GpuBatcher("cpu") as batcher:

        def bring() -> None:
            for value in range(100):
                asked(batcher, device, [float(value)], max_batch=4)
                brought.append(value)

        bringing = threading.Thread(target=bring)
        bringing.start()
        time.sleep(0.2)
        assert len(brought) <= WAITING_BATCHES * 4 + GPU_THREADS * 4
        device.go.set()
        bringing.join(10)
    assert len(brought) == 100


def test_what_nobody_wants_any_more_is_not_computed() -> None:
    device = Device()
    device.go.clear()
    with GpuBatcher("cpu") as batcher:
        futures = asked(batcher, device, [float(k) for k in range(6)], max_batch=4)
        left = [future for future in futures[1:] if future.cancel()]
        device.go.set()
        assert answers(futures[:1]) == [0.0]
    assert left
    assert sum(device.sizes) == len(futures) - len(left)


def test_several_extractors_share_a_device() -> None:
    one, other = Device(), Device(holds=2)
    with GpuBatcher("cpu") as batcher:
        found: dict[str, dict[int, list[float]]] = {}
        work = {"one": one, "other": other}
        threads = [
            threading.Thread(
                target=lambda n=name, d=device: found.update({n: fed_by_many(batcher, d, 3, 20)})
            )
            for name, device in work.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == {"one": expected(3, 20), "other": expected(3, 20)}


def test_rows_hold_on_to_no_other_videos_rows() -> None:
    class Views(Device):
        def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
            return {"twice": list(np.zeros((len(windows), 1000), np.float32))}

    with GpuBatcher("cpu") as batcher:
        rows = [future.result(10)["twice"][0] for future in asked(batcher, Views(), [0.0] * 8)]
    assert all(row.base is None for row in rows)


def test_time_is_booked_by_share() -> None:
    device, spent = Device(), []
    with GpuBatcher("cpu") as batcher:
        work = ComputeRequest(
            device, [[1.0], [2.0]], 8, lambda what, seconds: spent.append((what, seconds))
        )
        batcher.compute(work).result(10)
    assert dict(spent)["compute"] >= 0.001
    assert dict(spent)["copy"] == 0


def test_nothing_is_begun_after_the_end() -> None:
    batcher = GpuBatcher("cpu")
    with batcher:
        pass
    with pytest.raises(RuntimeError, match="is closed"):
        asked(batcher, Device(), [1.0])


class NoStream:
    """A GPU that gives no stream, once somebody waits for it."""

    def __init__(self, waited: threading.Event) -> None:
        self.waited = waited

    def __enter__(self) -> None:
        self.waited.wait(10)
        raise ValueError("no such device")

    def __exit__(self, *_: object) -> None:
        """Never entered."""


def test_a_thread_that_breaks_by_itself_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = threading.Event()
    monkeypatch.setattr(gpu_batcher, "_own_stream", lambda _: NoStream(waited))
    device, brought, refused = Device(), list[Future[Rows]](), list[BaseException]()

    def bring() -> None:
        try:
            for value in range(100):
                brought.extend(asked(batcher, device, [float(value)], max_batch=4))
        except RuntimeError as error:
            refused.append(error)

    with GpuBatcher("cpu") as batcher:
        bringing = threading.Thread(target=bring)
        bringing.start()
        time.sleep(0.1)  # by now it waits for room
        waited.set()
        bringing.join(5)
        assert not bringing.is_alive()
        assert brought
        assert [str(future.exception(5)) for future in brought] == ["no such device"] * len(brought)
        assert ["no such device" in str(error) for error in refused] == [True]
        with pytest.raises(RuntimeError, match="no such device"):
            asked(batcher, device, [1.0])
