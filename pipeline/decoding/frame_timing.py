"""Frame times in, one by one: which frames have a usable time, and which stretches of a damaged
video have no picture.

`FrameTiming` is arithmetic on numbers; `picture_times` reads when pictures are shown, without decoding
them. A gap is told to half a frame once something was found broken, and to half a second before:
some demuxers skip damage without a word. How long a picture lasts, containers tell in different
ways: an mp4 until the next one, be it two minutes; a webm as its frame rate has it. So a gap in a
whole stream is measured by the times of pictures alone, and the same film has the same gaps in
every container. A picture that truly stood still for longer looks the same: a gap is a fact to
record, never a reason to refuse. Refuses to know decoders.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import av.error

from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally, video_packets
from pipeline.media.container.streams import open_container, video_stream_at
from pipeline.media.probe import Probe
from pipeline.sampling.segment_alignment import PictureTimes

MAX_GAPS = 64
"""Gaps listed for one video; further ones are counted."""
LATE_FRAMES = 0.5
"""In a damaged stream, a frame later than the one before it ends, by more of that one's durations,
leaves a gap.
"""
SLACK_SECONDS = 0.5
"""In any stream, so long a stretch without a picture is a gap. A header's start and end may lie as
far from the pictures: they may speak of the sound, and are rounded.
"""
SHORTEST_SECONDS = 1e-3
"""A lone picture of which nothing says how long it is shown."""
STEPS_KEPT = 9
"""Of so many steps before a picture the middle one is usual; of an even number, the shorter of the
middle two.
"""
COARSE_TICKS = 2.0
"""Where a frame lasts fewer ticks of the clock than this, rounding may give several frames one time
stamp.
"""
MAX_FRAMES_PER_TIMESTAMP = 16
"""Most frames that are believed to share a time stamp for that reason."""

Span = tuple[float, float]


class FrameTiming:
    """Times of one video's frames, in the order they come."""

    def __init__(self) -> None:
        self.frames = 0
        """Frames admitted."""
        self.frames_dropped = 0
        self.first_seconds: float | None = None
        self.last: DecodedFrame | None = None
        self.step_seconds: float | None = None
        """From the last frame but one to the last; across a gap, what is usual."""
        self.inner_gaps_seconds = 0.0
        """All gaps between frames, listed or not."""
        self.gaps_unlisted = 0
        self._gaps: list[Span] = []
        self._steps: deque[float] = deque(maxlen=STEPS_KEPT)
        self._first_step: tuple[DecodedFrame, float] | None = None
        """The first frame, and when the second one is shown: what is usual is not known before the
        next step.
        """

    def admit(self, frame: DecodedFrame, damaged: bool) -> bool:
        """Whether the frame has a time after all before it. `damaged`: whether anything was found
        broken so far.
        """
        last = self.last
        if not math.isfinite(frame.pts_seconds) or (
            last is not None and frame.pts_seconds <= last.pts_seconds
        ):
            self.frames_dropped += 1
            return False
        if last is None:
            self.first_seconds = frame.pts_seconds
        else:
            self._note_step(last, frame.pts_seconds, damaged)
        self.last = frame
        self.frames += 1
        return True

    def _note_step(self, last: DecodedFrame, until_seconds: float, damaged: bool) -> None:
        step = until_seconds - last.pts_seconds
        if self.frames == 1 and not damaged:
            self._first_step = (last, until_seconds)
        elif self._first_step is not None:
            (first, shown_until), self._first_step = self._first_step, None
            self._note_gap(
                first, shown_until, min(step, shown_until - first.pts_seconds), SLACK_SECONDS
            )
        self.step_seconds = step
        usual = sorted(self._steps)[(len(self._steps) - 1) // 2] if self._steps else step
        if damaged and last.duration_seconds is not None:
            # Where pictures are missing, steps say less than what the stream says of this one.
            usual = min(usual, last.duration_seconds)
        if self._note_gap(
            last, until_seconds, usual, LATE_FRAMES * usual if damaged else SLACK_SECONDS
        ):
            self.step_seconds = usual
        self._steps.append(step)

    def _note_gap(
        self, last: DecodedFrame, until_seconds: float, lasts: float, slack: float
    ) -> bool:
        from_seconds = last.pts_seconds + lasts
        if until_seconds - from_seconds <= slack:
            return False
        self.inner_gaps_seconds += until_seconds - from_seconds
        self._list((from_seconds, until_seconds))
        return True

    def _list(self, gap: Span) -> None:
        if len(self._gaps) < MAX_GAPS:
            self._gaps.append(gap)
        else:
            self.gaps_unlisted += 1

    def gaps(self, probe: Probe, end_seconds: float, *, lossy: bool) -> tuple[Span, ...]:
        """Gaps between frames, and before and behind all of them where the header promises more.

        With `lossy`, frames are known to be missing, and the header is believed to half a frame;
        without, to `SLACK_SECONDS`: a cut file of a kind that counts no frames shows nowhere else.
        """
        first = end_seconds if self.first_seconds is None else self.first_seconds
        slack = LATE_FRAMES * (self.step_seconds or SLACK_SECONDS) if lossy else SLACK_SECONDS
        start = first if probe.header_start_seconds is None else probe.header_start_seconds
        end = end_seconds if probe.header_seconds is None else start + probe.header_seconds
        before = [(start, first)] if first - start > slack else []
        behind = [(end_seconds, end)] if end - end_seconds > slack else []
        return (*before, *self._gaps, *behind)


def picture_times(
    path: Path, probed: Probe, beat: Callable[[], None], max_frames: int
) -> PictureTimes | None:
    """When every picture of a file is shown, from its packets; None where they do not say.

    That is so in AVI, which keeps decoding times alone; where a packet has no time, two have the
    same, or there are more than `max_frames`. Past damage nothing is read: what is behind it, the
    header's count still promises.
    """
    if probed.container == "avi":
        return None
    ticks: list[tuple[int, int]] = []
    discarded = 0
    try:
        with open_container(path, probed.container) as container:
            for packet in video_packets(
                container, video_stream_at(container, probed.stream_index), Tally(heartbeat=beat)
            ):
                discarded += packet.is_discard
                if len(ticks) > max_frames or (packet.pts is None and not packet.is_discard):
                    return None
                if packet.pts is not None and not packet.is_discard:
                    ticks.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError:
        pass  # the packets so far are the pictures that there are
    ticks.sort()
    clock = probed.clock
    times = tuple(
        spread_equal_times([clock.at(pts) for pts, _ in ticks], coarse_tick_seconds(probed))
    )
    if not times or len(set(times)) < len(times):
        return None
    lasts = ticks[-1][1] or (ticks[-1][0] - ticks[-2][0] if len(ticks) > 1 else 0)
    end_seconds = clock.at(ticks[-1][0] + lasts) if lasts else times[-1] + _one_frame(probed)
    declared = None if probed.header_frames is None else max(0, probed.header_frames - discarded)
    return PictureTimes(times, end_seconds, declared)


def coarse_tick_seconds(probed: Probe) -> float | None:
    """The clock's tick in seconds where it is too coarse for the frame rate: frames may share a
    time stamp.

    None everywhere else: there, a time that repeats is none to believe.
    """
    tick, rate = float(probed.clock.tick), probed.header_frames_per_second
    return tick if rate and rate * tick * COARSE_TICKS > 1 else None


def spread_equal_times(times: Sequence[float], tick: float | None) -> Iterator[float]:
    """Times that never fall, with those that are equal spread over the one tick in which all these
    frames are shown.
    """
    start = 0
    while start < len(times):
        end = start + 1
        while (
            tick is not None
            and end < len(times)
            and times[end] == times[start]
            and end - start < MAX_FRAMES_PER_TIMESTAMP
        ):
            end += 1
        yield from _spread(times[start], end - start, tick)
        start = end


def spread_equal_frames(
    frames: Iterable[DecodedFrame], tick: float | None
) -> Iterator[DecodedFrame]:
    """The same of frames: those that share a time stamp are held until the next one, at most
    `MAX_FRAMES_PER_TIMESTAMP`.
    """
    if tick is None:
        yield from frames
        return
    held: list[DecodedFrame] = []
    for frame in frames:
        if held and (
            frame.pts_seconds != held[0].pts_seconds or len(held) == MAX_FRAMES_PER_TIMESTAMP
        ):
            yield from _respaced(held, tick)
            held = []
        held.append(frame)
    yield from _respaced(held, tick)


def _respaced(held: Sequence[DecodedFrame], tick: float) -> Iterator[DecodedFrame]:
    if len(held) < 2:
        yield from held
        return
    for frame, pts_seconds in zip(held, _spread(held[0].pts_seconds, len(held), tick), strict=True):
        yield replace(frame, pts_seconds=pts_seconds)


def _spread(first: float, count: int, tick: float | None) -> list[float]:
    return [first + number / count * (tick or 0.0) for number in range(count)]


def _one_frame(probed: Probe) -> float:
    return (
        1 / probed.header_frames_per_second if probed.header_frames_per_second else SHORTEST_SECONDS
    )
