"""Which way of decoding is fastest on this machine: every backend, one video at a time and several, as a build does it.

Real decode children, frames converted and handed over through shared memory. A backend that cannot be loaded here, or
that leaves the file to another, says so in its place. Refuses to know networks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from models.extractors.spec import EveryFrame, FramesAtRate, Sampling
from pipeline.decode import BACKENDS
from pipeline.decoder import ChildDecoder, DecodeEnd
from pipeline.probe import DEFAULT_LIMITS
from storage.errors import HighlightsError, SystemicFault

SAMPLINGS: dict[str, Sampling] = {"every frame": EveryFrame(), "2 a second": FramesAtRate(2)}


@dataclass(frozen=True)
class Rate:
    """One way of decoding, and how fast it is."""

    backend: str
    at_once: int
    sampling: str
    """A key of `SAMPLINGS`: which frames are converted and handed over. All are decoded."""
    frames_per_second: float
    """Decoded, all videos together; 0 if this way does not work here."""
    problem: str = ""


def rates(video: Path, at_once: Sequence[int], seconds: float) -> Iterator[Rate]:
    """Every backend, number of videos and sampling, for about so many seconds each."""
    for backend in BACKENDS:
        for count in at_once:
            for name in SAMPLINGS:
                try:
                    yield Rate(backend, count, name, _rate(video, backend, count, SAMPLINGS[name], seconds))
                except HighlightsError as error:
                    yield Rate(backend, count, name, 0.0, str(error))


def _rate(video: Path, backend: str, count: int, sampling: Sampling, seconds: float) -> float:
    began = threading.Barrier(count)

    def decode() -> float:
        with ChildDecoder(backend, DEFAULT_LIMITS) as decoder:
            frames = 0
            try:
                _decoded(decoder, video, sampling)  # starts the child
            finally:
                began.wait()
            start = time.perf_counter()
            while time.perf_counter() - start < seconds:
                frames += _decoded(decoder, video, sampling)
            return frames / (time.perf_counter() - start)

    with ThreadPoolExecutor(count) as pool:
        return sum(future.result() for future in [pool.submit(decode) for _ in range(count)])


def _decoded(decoder: ChildDecoder, video: Path, sampling: Sampling) -> int:
    """Frames of one pass. Raises SystemicFault if another backend took over: its speed would be told as this one's."""
    for event in decoder.decode("bench", video, [sampling]):
        if isinstance(event, DecodeEnd):
            if event.summary.salvaged_by:
                raise SystemicFault(f"leaves this file to {event.summary.salvaged_by}")
            return event.summary.frames_decoded
    raise RuntimeError("a decoder ended without saying so")


def told(video: Path, found: Sequence[Rate]) -> Iterator[str]:
    """Lines for a person; the last says what to set."""
    yield f"{video.name}, native frames decoded in a second; converted and handed over as said"
    for rate in found:
        way = f"  {rate.backend:11} {rate.at_once:3} at once, {rate.sampling:11}"
        yield f"{way} {rate.frames_per_second:9,.0f}" if not rate.problem else f"{way} {rate.problem}"
    best = max((rate for rate in found if rate.sampling == "every frame"), key=lambda rate: rate.frames_per_second)
    if best.frames_per_second:
        yield f"fastest on every frame: [decode] backend = {best.backend}, videos_at_once = {best.at_once} or more"
