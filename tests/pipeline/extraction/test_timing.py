"""Build times: nothing is counted twice or lost, and measuring changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.compute.cpu_executor import ComputeRequest, RowExecutor, compute_inline
from pipeline.extraction.timing import (
    VIDEO_THREAD_STEPS,
    WHOLE_SHARD,
    Times,
    read_times,
    save_times,
    sum_times,
    with_other,
)
from storage.base.errors import IntegrityError
from tests.support.tiny_extractor import Tiny

NAP_SECONDS = 0.05


def test_waiting_is_booked_on_what_came_and_work_between_is_not() -> None:
    def slow() -> Iterator[str]:
        for name in ("a", "b"):
            time.sleep(NAP_SECONDS)
            yield name

    times = Times()
    for _ in times.measure_waits(slow(), "wait_decode", str):
        time.sleep(4 * NAP_SECONDS)
    spent = times.by_video()
    assert NAP_SECONDS <= spent["a"]["wait_decode"] < 4 * NAP_SECONDS
    assert NAP_SECONDS <= spent["b"]["wait_decode"] < 4 * NAP_SECONDS
    assert spent[WHOLE_SHARD]["wait_decode"] < NAP_SECONDS


def test_what_is_waited_for_is_let_go_when_the_iteration_is_left() -> None:
    closed: list[str] = []

    def held() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append("held")

    def leave() -> None:
        for _ in Times().measure_waits(held(), "wait_decode", str):
            raise RuntimeError("left")

    with pytest.raises(RuntimeError, match="left") as caught:
        leave()
    assert closed == ["held"]
    assert caught.value.__traceback__ is not None  # its frames are still alive


def test_time_before_a_failure_counts() -> None:
    def fails() -> Iterator[str]:
        time.sleep(NAP_SECONDS)
        raise ValueError("no more")
        yield ""

    times = Times()
    with pytest.raises(ValueError, match="no more"):
        list(times.measure_waits(fails(), "wait_download", str))
    assert times.by_video()[WHOLE_SHARD]["wait_download"] >= NAP_SECONDS


class Slow(Tiny):
    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        time.sleep(NAP_SECONDS)
        return super().extract(windows)


def test_work_is_booked_where_it_is_done_and_blocking_where_it_blocks() -> None:
    times = Times()
    work = ComputeRequest(Slow(1.0), [[np.ones(3)]])
    with RowExecutor("cpu") as executor:
        rows = times.measure_compute(executor.compute, "a", "c3d")(work).result()
    spent = times.by_video()["a"]
    assert spent["compute:c3d"] >= NAP_SECONDS > spent["wait_compute"]
    np.testing.assert_equal(times.measure_compute(compute_inline, "a", "c3d")(work).result(), rows)


def test_many_threads_lose_nothing() -> None:
    times = Times()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4000):
            pool.submit(times.add, "a", "write", 0.5)
    assert times.by_video() == {"a": {"write": 2000.0}}


def test_a_ledger_grows_with_each_attempt_and_tells_of_changes(tmp_path: Path) -> None:
    path = tmp_path / "times" / "shard_000.json"
    assert read_times(path) == {}
    for _ in range(2):
        times = Times()
        times.add("a", "write", 1.25)
        times.add(WHOLE_SHARD, "wall", 2.0)
        save_times(path, times)
    assert read_times(path) == {WHOLE_SHARD: {"wall": 4.0}, "a": {"write": 2.5}}
    path.write_bytes(path.read_bytes().replace(b"2.5", b"9.5"))
    with pytest.raises(IntegrityError):
        read_times(path)


def test_the_leading_thread_adds_up() -> None:
    total = with_other(
        sum_times([{"wall": 10.0}, {"wait_decode": 2.0, "prepare:c3d": 1.0, "compute:c3d": 50.0}])
    )
    assert total["other"] == 7.0
    assert (
        sum(
            seconds
            for what, seconds in total.items()
            if what.partition(":")[0] in VIDEO_THREAD_STEPS
        )
        == total["wall"]
    )
