"""Where the time of a build goes, video by video: a ledger that every thread of a shard writes
into.

A thread that leads a video waits for files (`wait_download`), for frames (`wait_decode`) and for
networks (`wait_compute`), shrinks frames (`prepare`) and writes (`write`): with `other` these add
up to its time (`wall`), or to that of all such threads, where several videos are in hand at once.
Beside it, files are fetched (`download`), a child decodes (`decode`, in CPU seconds), windows are
copied to a GPU (`copy`) and lanes compute (`compute`). `prepare`, `copy` and `compute` are kept per
variant, as `compute:c3d`. Refuses to know what is done in the time.
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
from storage.files.checksummed_json import seal, unseal

T = TypeVar("T")
Seconds = dict[str, float]
"""What → seconds; `video` is how long the video is, `media_bytes` and `feature_bytes:c3d` are
sizes, and `clock` is how long a shard took, however many threads were at work.
"""

VIDEO_THREAD_STEPS = ("wait_download", "wait_decode", "prepare", "wait_compute", "write", "other")
BACKGROUND_STEPS = ("download", "decode", "copy", "compute")
WHOLE_SHARD = ""
"""Stands for an id where time is not one video's."""


class Times:
    """Adds up. Used by many threads at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[str, Seconds] = {}

    def add(self, video_id: str, what: str, seconds: float) -> None:
        """So much more."""
        with self._lock:
            of_video = self._spent.setdefault(video_id, {})
            of_video[what] = of_video.get(what, 0.0) + seconds

    @contextmanager
    def measure(self, video_id: str, what: str) -> Iterator[None]:
        """The time inside, whatever ends it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(video_id, what, time.perf_counter() - began)

    def measure_waits(
        self, items: Iterable[T], what: str, id_of: Callable[[T], str]
    ) -> Generator[T, None, None]:
        """The same items; the time each let us wait is booked on `id_of` it, that of the end on the
        shard.

        Keep no other hold on `items`: what they keep busy is let go of when this iteration is left.
        """
        spent: Seconds = {}  # booked at the end: an item may be one of a million frames
        began = time.perf_counter()
        waits = True
        try:
            for item in items:
                video_id = id_of(item)
                spent[video_id] = spent.get(video_id, 0.0) + time.perf_counter() - began
                waits = False
                yield item
                waits = True
                began = time.perf_counter()
        finally:
            if waits:
                self.add(WHOLE_SHARD, what, time.perf_counter() - began)
            for video_id, seconds in spent.items():
                self.add(video_id, what, seconds)

    def measure_compute(self, compute: Compute, video_id: str, variant: str) -> Compute:
        """The same `compute`; books how long it blocked, and what its work took wherever that was
        done.
        """

        def record_time(what: str, seconds: float) -> None:
            self.add(video_id, f"{what}:{variant}", seconds)

        def computed(work: ComputeRequest) -> Future[Rows]:
            with self.measure(video_id, "wait_compute"):
                return compute(replace(work, record_time=record_time))

        return computed

    def by_video(self) -> dict[str, Seconds]:
        """Video id → what it took; `WHOLE_SHARD` among them."""
        with self._lock:
            return {video_id: dict(spent) for video_id, spent in sorted(self._spent.items())}


def sum_times(every: Iterable[Mapping[str, float]]) -> Seconds:
    """Totals by what."""
    total: Seconds = {}
    for spent in every:
        for what, seconds in spent.items():
            total[what] = total.get(what, 0.0) + seconds
    return dict(sorted(total.items()))


def with_other(total: Mapping[str, float]) -> Seconds:
    """The same with `other`: what is left of `wall` when all that the leading thread is known to
    have done is taken.
    """
    known = sum(
        seconds for what, seconds in total.items() if what.partition(":")[0] in VIDEO_THREAD_STEPS
    )
    return {**total, "other": max(0.0, total.get("wall", 0.0) - known)}


def save_times(path: Path, times: Times) -> None:
    """Add this ledger to the one at `path`, if there is one: a shard may be begun more than once in
    a run.
    """
    known, mine = read_times(path), times.by_video()
    rounded: dict[str, JSON] = {
        video_id: {what: round(seconds, 6) for what, seconds in sum_times(both).items()}
        for video_id in known.keys() | mine.keys()
        if (both := [known.get(video_id, {}), mine.get(video_id, {})])
    }
    publish(path, seal({"videos": rounded}), replace=True)


def read_times(path: Path) -> dict[str, Seconds]:
    """Video id → what it took; empty if nothing is kept. Raises IntegrityError if it was
    altered.
    """
    try:
        videos = unseal(path, path.read_bytes())["videos"]
    except FileNotFoundError:
        return {}
    except KeyError as error:
        raise IntegrityError(path, "is no ledger of times") from error
    if not isinstance(videos, dict):
        raise IntegrityError(path, "is no ledger of times")
    return {
        video_id: {
            what: float(seconds)
            for what, seconds in spent.items()
            if isinstance(seconds, int | float)
        }
        for video_id, spent in videos.items()
        if isinstance(spent, dict)
    }
