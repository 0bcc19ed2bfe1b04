"""Ticks of a stream → seconds since the container's own start: the time that players show, and that
every row carries.

A container's clock need not begin at 0: transport streams begin 1.4 s after it, live recordings
hours. Players count from the container's start, which is the earliest beginning of its streams;
`ffprobe` prints it as the format's `start_time`, and ffmpeg subtracts it. A picture that begins two
seconds after its sound is thus shown at 2 s. This is the only module that computes the origin;
where a container does not say when it starts, ticks count from 0, as in ffmpeg. `python -m
pipeline.media.container.clock FILE` prints the start of a file of which nothing is believed: a
program of its own, because a demuxer that meets a hostile file may hang or die. Refuses to know
packets and pictures.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import av.container

from pipeline.media.container.container_formats import sniff
from pipeline.media.container.streams import open_container

MAX_MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Clock:
    """The clock of one stream of one file."""

    tick: Fraction
    """Seconds of one tick, above 0."""
    origin: Fraction = Fraction(0)
    """What the stream's clock shows, in seconds, when the container starts."""

    def at(self, ticks: int) -> float:
        """The instant `ticks` in seconds since the container's start; rounded once, so that all
        backends are equal.
        """
        per_tick, origin, per_second = self._whole
        return (ticks * per_tick - origin) / per_second

    @cached_property
    def _whole(self) -> tuple[int, int, int]:
        """A tick, the origin and a second in one common unit, for dividing whole numbers is ten
        times as fast.
        """
        (tick, per_tick), (origin, per_origin) = (
            self.tick.as_integer_ratio(),
            self.origin.as_integer_ratio(),
        )
        return tick * per_origin, origin * per_tick, per_tick * per_origin

    def lasts(self, ticks: int) -> float:
        """A duration in seconds."""
        return ticks * self.tick.numerator / self.tick.denominator

    @property
    def origin_seconds(self) -> float:
        """The origin, rounded once."""
        return self.origin.numerator / self.origin.denominator


def container_start(container: av.container.InputContainer) -> Fraction | None:
    """When the container starts, in seconds on its streams' own clocks; None where FFmpeg cannot
    tell.

    FFmpeg rounds it to microseconds. It is the start of one of the streams, whose own ticks are
    exact: with these, the first picture of a transport stream lies at 0 and not a third of a
    microsecond before.
    """
    if container.start_time is None:
        return None
    rounded = Fraction(container.start_time, av.time_base)
    starts = [
        stream.start_time * stream.time_base
        for stream in container.streams
        if stream.start_time is not None and stream.time_base is not None
    ]
    same = [start for start in starts if abs(start - rounded) < Fraction(1, av.time_base)]
    return min(same, default=rounded)


def main() -> None:
    """Print `[numerator, denominator]` of the start in seconds, or null. Limits are set first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    path = Path(sys.argv[1])
    container = sniff(path)
    if container is None:
        sys.exit("no container we open")
    with open_container(path, container) as opened:
        start = container_start(opened)
    sys.stdout.write(json.dumps(None if start is None else start.as_integer_ratio()))


if __name__ == "__main__":
    main()
