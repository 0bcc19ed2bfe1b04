"""Finds which frames of a video have a usable time, and where a damaged video shows no picture.

`FrameTiming` is arithmetic on the times of decoded frames. `picture_times` reads from the packets
when pictures are shown, without decoding them.

A gap is measured to half a frame once anything was found broken, and to half a second before that,
because some demuxers skip damage without reporting it. Containers disagree on how long a picture
lasts: an mp4 stores the time until the next one, even if that is two minutes; a webm follows its
frame rate. In an undamaged stream, gaps are therefore measured from picture times alone, so the
same film has the same gaps in every container. A picture that really stood still for longer looks
the same: a gap is recorded, and never a reason to reject a video.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import av.error

from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally, video_packets
from pipeline.media.container.streams import open_container, video_stream_at
from pipeline.media.probe import Probe
from pipeline.sampling.segment_alignment import PictureTimes

MAX_GAPS = 64
"""Gaps listed for one video; further ones are only counted."""
LATE_FRAMES = 0.5
"""In a damaged stream, a frame that comes this many frame durations too late leaves a gap."""
SLACK_SECONDS = 0.5
"""In any stream, a stretch this long without a picture is a gap.

A header's start and end may be this far from the pictures: they may describe the sound, and are
rounded.
"""
SHORTEST_SECONDS = 1e-3
"""Duration of a single picture for which neither the stream nor the header states one."""
RECENT_STEPS = 9
"""The usual step between frames is the median of this many; of an even number, the lower median."""
COARSE_TICKS = 2.0
"""If a frame lasts fewer clock ticks than this, rounding may give several frames one timestamp."""
MAX_FRAMES_PER_TIMESTAMP = 16
"""At most this many frames with equal timestamps are explained by rounding."""

Span = tuple[float, float]


class FrameTiming:
    """Checks the times of one video's frames in decoding order, and collects its gaps."""

    def __init__(self) -> None:
        self.frames = 0
        """Frames accepted."""
        self.frames_dropped = 0
        self.first_seconds: float | None = None
        self.last: DecodedFrame | None = None
        self.step_seconds: float | None = None
        """Between the last two frames; across a gap, the usual step."""
        self.inner_gaps_seconds = 0.0
        """Total length of all gaps between frames, listed or not."""
        self.gaps_unlisted = 0
        self._gaps: list[Span] = []
        self._steps: deque[float] = deque(maxlen=RECENT_STEPS)
        self._first_step: tuple[DecodedFrame, float] | None = None
        """The first frame and the time of the second, until a further step shows what is usual."""

    def accept(self, frame: DecodedFrame, damaged: bool) -> bool:
        """Whether the frame's time is later than all before it; otherwise it counts as dropped.

        `damaged`: whether anything in the file was found broken so far.
        """
        last = self.last
        is_later = last is None or frame.pts_seconds > last.pts_seconds
        # Infinity would be later than every frame to come.
        if not math.isfinite(frame.pts_seconds) or not is_later:
            self.frames_dropped += 1
            return False
        if last is None:
            self.first_seconds = frame.pts_seconds
        else:
            self._add_step(last, frame.pts_seconds, damaged)
        self.last = frame
        self.frames += 1
        return True

    def _add_step(self, last: DecodedFrame, next_seconds: float, damaged: bool) -> None:
        step = next_seconds - last.pts_seconds
        if self.frames == 1 and not damaged:
            # One step alone cannot show what is usual: the next one decides about it.
            self._first_step = (last, next_seconds)
        elif self._first_step is not None:
            self._decide_first_step(step)
        usual = self._usual_step(step)
        if damaged and last.duration_seconds is not None:
            # Where pictures are missing, the stream's own duration is more reliable than steps.
            usual = min(usual, last.duration_seconds)
        slack = LATE_FRAMES * usual if damaged else SLACK_SECONDS
        is_gap = self._add_gap(last.pts_seconds + usual, next_seconds, slack)
        self.step_seconds = usual if is_gap else step
        self._steps.append(step)

    def _decide_first_step(self, second_step: float) -> None:
        """Record the first step as a gap if it is much longer than the second."""
        if self._first_step is None:
            return
        first, next_seconds = self._first_step
        self._first_step = None
        first_step = next_seconds - first.pts_seconds
        shown_until = first.pts_seconds + min(second_step, first_step)
        self._add_gap(shown_until, next_seconds, SLACK_SECONDS)

    def _usual_step(self, newest: float) -> float:
        if not self._steps:
            return newest
        return sorted(self._steps)[(len(self._steps) - 1) // 2]

    def _add_gap(self, from_seconds: float, until_seconds: float, slack: float) -> bool:
        """Record a gap if it is longer than `slack`; returns whether it is."""
        length = until_seconds - from_seconds
        if length <= slack:
            return False
        self.inner_gaps_seconds += length
        if len(self._gaps) < MAX_GAPS:
            self._gaps.append((from_seconds, until_seconds))
        else:
            self.gaps_unlisted += 1
        return True

    def gaps(self, probe: Probe, end_seconds: float, *, lossy: bool) -> tuple[Span, ...]:
        """Gaps between frames, and before the first and after the last if the header promises more.

        With `lossy`, frames are known to be missing, and the header is trusted to half a frame.
        Otherwise it is trusted to `SLACK_SECONDS`: in a container that counts no frames, nothing
        else shows that a file was cut.
        """
        slack = SLACK_SECONDS
        if lossy:
            slack = LATE_FRAMES * (self.step_seconds or SLACK_SECONDS)
        first = end_seconds if self.first_seconds is None else self.first_seconds
        start, end = first, end_seconds
        if probe.header_start_seconds is not None:
            start = probe.header_start_seconds
        if probe.header_seconds is not None:
            end = start + probe.header_seconds
        # Where a file was cut, there is no frame behind the gap: only the header shows it.
        gaps = list(self._gaps)
        if first - start > slack:
            gaps.insert(0, (start, first))
        if end - end_seconds > slack:
            gaps.append((end_seconds, end))
        return tuple(gaps)


@dataclass
class _PacketTimes:
    """Times of a stream's packets, in ticks of its clock."""

    shown: list[tuple[int, int]] = field(default_factory=list)
    """Presentation time and duration of every packet that is shown; a duration of 0 is unknown."""
    discarded: int = 0
    """Packets that an edit list hides."""


def picture_times(
    path: Path, probed: Probe, heartbeat: Callable[[], None], max_frames: int
) -> PictureTimes | None:
    """When every picture of a file is shown, read from its packets; None if they do not say.

    They do not say in AVI, which stores decoding times only; nor where a packet has no time, where
    two have the same time, or where there are more than `max_frames`. Nothing is read past damage:
    the header's frame count still covers what comes after it.
    """
    if probed.container == "avi":
        return None
    packets = _read_packet_times(path, probed, heartbeat, max_frames)
    if packets is None:
        return None
    # Packets come in decoding order. With B-frames, pictures are shown in another order.
    packets.shown.sort()
    timestamps = [probed.clock.at(pts) for pts, _ in packets.shown]
    times = tuple(spread_equal_times(timestamps, coarse_tick_seconds(probed)))
    has_repeats = len(set(times)) < len(times)
    if not times or has_repeats:
        return None
    declared = None
    if probed.header_frames is not None:
        declared = max(0, probed.header_frames - packets.discarded)
    return PictureTimes(times, _end_of_last(packets.shown, times[-1], probed), declared)


def _read_packet_times(
    path: Path, probed: Probe, heartbeat: Callable[[], None], max_frames: int
) -> _PacketTimes | None:
    """Times of all packets up to the first damage; None if they are too many or lack a time."""
    times = _PacketTimes()
    try:
        with open_container(path, probed.container) as container:
            stream = video_stream_at(container, probed.stream_index)
            for packet in video_packets(container, stream, Tally(heartbeat=heartbeat)):
                # A file with endless packets must not fill the memory.
                if len(times.shown) > max_frames:
                    return None
                if packet.is_discard:
                    times.discarded += 1
                elif packet.pts is None:
                    return None
                else:
                    times.shown.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError:
        pass  # the packets before the damage are the pictures that can be shown
    return times


def _end_of_last(shown: Sequence[tuple[int, int]], last_seconds: float, probed: Probe) -> float:
    """When the last picture ends: by its duration, the step before it, or the frame rate."""
    last_pts, duration = shown[-1]
    if not duration and len(shown) > 1:
        duration = last_pts - shown[-2][0]
    if duration:
        return probed.clock.at(last_pts + duration)
    return last_seconds + _frame_seconds(probed)


def coarse_tick_seconds(probed: Probe) -> float | None:
    """The clock's tick where it is too coarse for the frame rate, so that frames share timestamps.

    None everywhere else: a time that repeats there is an error.
    """
    tick, rate = float(probed.clock.tick), probed.header_frames_per_second
    return tick if rate and rate * tick * COARSE_TICKS > 1 else None


def spread_equal_times(times: Sequence[float], tick: float | None) -> Iterator[float]:
    """The times, with equal neighbours spread evenly over the tick in which they are all shown."""
    if tick is None:
        yield from times
        return
    start = 0
    while start < len(times):
        end = start + 1
        # More equal times than rounding explains stay equal; the caller then rejects them.
        limit = min(len(times), start + MAX_FRAMES_PER_TIMESTAMP)
        while end < limit and times[end] == times[start]:
            end += 1
        yield from _spread_over_tick(times[start], end - start, tick)
        start = end


def spread_equal_frames(
    frames: Iterable[DecodedFrame], tick: float | None
) -> Iterator[DecodedFrame]:
    """As `spread_equal_times`, for a stream of frames.

    Frames with equal timestamps are held until the next one, at most `MAX_FRAMES_PER_TIMESTAMP`.
    """
    if tick is None:
        yield from frames
        return
    held: list[DecodedFrame] = []
    for frame in frames:
        is_full = len(held) == MAX_FRAMES_PER_TIMESTAMP
        if held and (is_full or frame.pts_seconds != held[0].pts_seconds):
            yield from _spread_frames(held, tick)
            held = []
        held.append(frame)
    yield from _spread_frames(held, tick)


def _spread_frames(held: Sequence[DecodedFrame], tick: float) -> Iterator[DecodedFrame]:
    if len(held) < 2:
        yield from held
        return
    times = _spread_over_tick(held[0].pts_seconds, len(held), tick)
    for frame, pts_seconds in zip(held, times, strict=True):
        yield replace(frame, pts_seconds=pts_seconds)


def _spread_over_tick(first: float, count: int, tick: float) -> list[float]:
    return [first + number / count * tick for number in range(count)]


def _frame_seconds(probed: Probe) -> float:
    rate = probed.header_frames_per_second
    return 1 / rate if rate else SHORTEST_SECONDS
