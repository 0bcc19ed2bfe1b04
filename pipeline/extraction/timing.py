"""Measures where the time of a build goes, video by video.

A thread that processes videos waits for files (`wait_download`), frames (`wait_decode`) and
networks (`wait_compute`), resizes frames (`prepare`) and writes (`write`). Together with `other`
these add up to its time (`wall`); with several threads, to the sum of theirs. In the background,
files are downloaded (`download`), a child decodes (`decode`, in CPU seconds), windows are copied to
a GPU (`copy`) and networks compute (`compute`). `prepare`, `copy` and `compute` are kept per
variant, as `compute:c3d`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipeline.compute.cpu_executor import Compute, ComputeRequest, Rows
from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed, seal

T = TypeVar("T")
Seconds = dict[str, float]
"""Step → seconds.

Some keys are no steps: `video` is the duration of the video, `media_bytes` and `feature_bytes:c3d`
are sizes, and `clock` is the elapsed time of a shard, regardless of the number of threads.
"""

VIDEO_THREAD_STEPS = ("wait_download", "wait_decode", "prepare", "wait_compute", "write", "other")
BACKGROUND_STEPS = ("download", "decode", "copy", "compute")
WHOLE_SHARD = ""
"""Stands for a video id where time belongs to the shard as a whole."""


class Times:
    """Sums up seconds per video and step. Many threads may use it at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, Seconds] = {}

    def add(self, video_id: str, step: str, seconds: float) -> None:
        """Add to the time of one step of one video."""
        with self._lock:
            of_video = self._spent.setdefault(video_id, {})
            of_video[step] = of_video.get(step, 0.0) + seconds

    @contextmanager
    def measure(self, video_id: str, step: str) -> Iterator[None]:
        """Add the time spent inside, even if it ends with an error."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(video_id, step, time.perf_counter() - began)

    def measure_waits(
        self, items: Iterable[T], step: str, id_of: Callable[[T], str]
    ) -> Generator[T, None, None]:
        """Yield the same items; add the time that each took to arrive to the video `id_of` it.

        The wait for the end counts for the shard. Keep no other reference to `items`: leaving this
        iteration must release what they hold.
        """
        spent: Seconds = {}  # added once at the end: an item may be one of a million frames
        began = time.perf_counter()
        is_waiting = True
        try:
            for item in items:
                video_id = id_of(item)
                spent[video_id] = spent.get(video_id, 0.0) + time.perf_counter() - began
                is_waiting = False
                yield item
                is_waiting = True
                began = time.perf_counter()
        finally:
            if is_waiting:
                self.add(WHOLE_SHARD, step, time.perf_counter() - began)
            for video_id, seconds in spent.items():
                self.add(video_id, step, seconds)

    def measure_compute(self, compute: Compute, video_id: str, variant: str) -> Compute:
        """The same `compute`, measured: how long it blocked, and the time that its work took."""

        # Rows are computed in other threads, which report their time through the request.
        def record_time(step: str, seconds: float) -> None:
            self.add(video_id, f"{step}:{variant}", seconds)

        def measured(work: ComputeRequest) -> Future[Rows]:
            with self.measure(video_id, "wait_compute"):
                return compute(replace(work, record_time=record_time))

        return measured

    def by_video(self) -> dict[str, Seconds]:
        """Video id → seconds per step; with `WHOLE_SHARD`."""
        with self._lock:
            return {video_id: dict(spent) for video_id, spent in sorted(self._spent.items())}


def sum_times(videos: Iterable[Mapping[str, float]]) -> Seconds:
    """The sum of all, per step."""
    total: Seconds = {}
    for spent in videos:
        for step, seconds in spent.items():
            total[step] = total.get(step, 0.0) + seconds
    return dict(sorted(total.items()))


def with_other(total: Mapping[str, float]) -> Seconds:
    """The same with `other`: what remains of `wall` after all measured steps of the thread."""
    measured = sum(
        seconds for step, seconds in total.items() if step.partition(":")[0] in VIDEO_THREAD_STEPS
    )
    return {**total, "other": max(0.0, total.get("wall", 0.0) - measured)}


def save_times(path: Path, times: Times) -> None:
    """Add these times to the file at `path`: a run may begin a shard more than once."""
    earlier, now = read_times(path), times.by_video()
    videos: dict[str, JSON] = {}
    for video_id in earlier.keys() | now.keys():
        total = sum_times([earlier.get(video_id, {}), now.get(video_id, {})])
        # Microseconds are enough, and keep the file small.
        videos[video_id] = {step: round(seconds, 6) for step, seconds in total.items()}
    publish(path, seal({"videos": videos}), replace=True)


def read_times(path: Path) -> dict[str, Seconds]:
    """Video id → seconds per step; empty if there is no file. Raises IntegrityError if damaged."""
    try:
        videos = read_sealed(path)["videos"]
    except FileNotFoundError:
        return {}
    except KeyError as error:
        raise IntegrityError(path, "is not a file of build times") from error
    if not isinstance(videos, dict):
        raise IntegrityError(path, "is not a file of build times")
    return {
        video_id: _numbers_only(spent)
        for video_id, spent in videos.items()
        if isinstance(spent, dict)
    }


def _numbers_only(spent: Mapping[str, JSON]) -> Seconds:
    return {
        step: float(seconds) for step, seconds in spent.items() if isinstance(seconds, int | float)
    }
