"""Converts ticks of a stream to seconds since the container's start, the time that players show.

A container's clock need not begin at 0: transport streams begin 1.4 s after it, live recordings
hours. Players count from the container's start, which is the earliest beginning of its streams;
`ffprobe` prints it as the format's `start_time`, and ffmpeg subtracts it. A picture that begins two
seconds after its sound is thus shown at 2 s. Only this module computes the origin. If a container
does not say when it starts, ticks count from 0, as in ffmpeg.

`python -m pipeline.media.container.clock FILE` prints the start of a file that is not trusted: a
program of its own, because a demuxer may hang or crash on a hostile file.
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
import av.stream

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
        """The time of `ticks` in seconds since the container's start.

        It is rounded once, so that all backends give equal times.
        """
        per_tick, origin, per_second = self._common_units
        return (ticks * per_tick - origin) / per_second

    @cached_property
    def _common_units(self) -> tuple[int, int, int]:
        """A tick, the origin and a second in one common unit.

        Whole numbers: dividing them is ten times as fast as fractions.
        """
        tick, per_tick = self.tick.as_integer_ratio()
        origin, per_origin = self.origin.as_integer_ratio()
        return tick * per_origin, origin * per_tick, per_tick * per_origin

    def lasts(self, ticks: int) -> float:
        """A duration in seconds."""
        return ticks * self.tick.numerator / self.tick.denominator

    @property
    def origin_seconds(self) -> float:
        """The origin, rounded once."""
        return self.origin.numerator / self.origin.denominator


def container_start(container: av.container.InputContainer) -> Fraction | None:
    """When the container starts, in seconds on its streams' clocks; None if FFmpeg does not
    know.
    """
    if container.start_time is None:
        return None
    # FFmpeg rounds it to microseconds. It is the start of one of the streams, whose own ticks are
    # exact: with these, the first picture of a transport stream lies at 0, and not a third of a
    # microsecond before.
    rounded = Fraction(container.start_time, av.time_base)
    starts = [start for start in map(_start_of, container.streams) if start is not None]
    # FFmpeg's own rounding may be off by less than one unit.
    microsecond = Fraction(1, av.time_base)
    same = [start for start in starts if abs(start - rounded) < microsecond]
    return min(same, default=rounded)


def _start_of(stream: av.stream.Stream) -> Fraction | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return stream.start_time * stream.time_base


def main() -> None:
    """Print `[numerator, denominator]` of the start in seconds, or null. Limits are set first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A hostile header may ask for any amount of memory.
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    path = Path(sys.argv[1])
    container = sniff(path)
    if container is None:
        sys.exit("not a container that we open")
    with open_container(path, container) as opened:
        start = container_start(opened)
    sys.stdout.write(json.dumps(None if start is None else start.as_integer_ratio()))


if __name__ == "__main__":
    main()
