"""Frame times in, one by one: which frames have a usable time, and which stretches of a damaged video have no picture.

`Coverage` is arithmetic on numbers; `picture_times` reads when pictures are shown, without decoding them. A gap is told
to half a frame once something was found broken, and to half a second before: some demuxers skip damage without a word.
Where a container keeps no durations (matroska, mpegts), a picture that truly stood still for longer looks the same: a
gap is a fact to record, never a reason to refuse. Refuses to know decoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import av.error

from pipeline.backends.frame import DecodedFrame
from pipeline.media.packets import Tally, film_packets
from pipeline.media.probe import Probe
from pipeline.media.streams import film_of, open_container
from pipeline.segments import Pictures

MAX_GAPS = 64
"""Gaps listed for one video; further ones are counted."""
LATE_FRAMES = 0.5
"""In a damaged stream, a frame later than the one before it ends, by more of that one's durations, leaves a gap."""
SLACK_SECONDS = 0.5
"""In any stream, so long a stretch without a picture is a gap. A header's start and end may lie as far from the
pictures: they may speak of the sound, and are rounded."""
SHORTEST_SECONDS = 1e-3
"""A lone picture of which nothing says how long it is shown."""

Span = tuple[float, float]


class Coverage:
    """Times of one video's frames, in the order they come."""

    def __init__(self) -> None:
        self.frames = 0
        """Frames admitted."""
        self.frames_dropped = 0
        self.first_seconds: float | None = None
        self.last: DecodedFrame | None = None
        self.step_seconds: float | None = None
        """From the last frame but one to the last."""
        self.inner_gaps_seconds = 0.0
        """All gaps between frames, listed or not."""
        self.gaps_unlisted = 0
        self._gaps: list[Span] = []

    def admit(self, frame: DecodedFrame, damaged: bool) -> bool:
        """Whether the frame has a time after all before it. `damaged`: whether anything was found broken so far."""
        last = self.last
        if not math.isfinite(frame.pts_seconds) or (last is not None and frame.pts_seconds <= last.pts_seconds):
            self.frames_dropped += 1
            return False
        if last is None:
            self.first_seconds = frame.pts_seconds
        else:
            self.step_seconds = frame.pts_seconds - last.pts_seconds
            self._note_gap(last, frame.pts_seconds, damaged)
        self.last = frame
        self.frames += 1
        return True

    def _note_gap(self, last: DecodedFrame, until_seconds: float, damaged: bool) -> None:
        if last.duration_seconds is None:
            return
        from_seconds = last.pts_seconds + last.duration_seconds
        if until_seconds - from_seconds > (LATE_FRAMES * last.duration_seconds if damaged else SLACK_SECONDS):
            self.inner_gaps_seconds += until_seconds - from_seconds
            self._list((from_seconds, until_seconds))

    def _list(self, gap: Span) -> None:
        if len(self._gaps) < MAX_GAPS:
            self._gaps.append(gap)
        else:
            self.gaps_unlisted += 1

    def gaps(self, probe: Probe, end_seconds: float, *, lossy: bool) -> tuple[Span, ...]:
        """Gaps between frames, and before and behind all of them where the header promises more.

        With `lossy`, frames are known to be missing, and the header is believed to half a frame; without, to
        `SLACK_SECONDS`: a cut file of a kind that counts no frames shows nowhere else.
        """
        first = end_seconds if self.first_seconds is None else self.first_seconds
        slack = LATE_FRAMES * (self.step_seconds or SLACK_SECONDS) if lossy else SLACK_SECONDS
        start = first if probe.header_start_seconds is None else probe.header_start_seconds
        end = end_seconds if probe.header_seconds is None else start + probe.header_seconds
        before = [(start, first)] if first - start > slack else []
        behind = [(end_seconds, end)] if end - end_seconds > slack else []
        return (*before, *self._gaps, *behind)


def picture_times(path: Path, probed: Probe, beat: Callable[[], None], max_frames: int) -> Pictures | None:
    """When every picture of a file is shown, from its packets; None where they do not say.

    That is so where a packet has no time, two have the same, or there are more than `max_frames`. Past damage nothing
    is read: what is behind it, the header's count still promises.
    """
    ticks: list[tuple[int, int]] = []
    discarded = 0
    try:
        with open_container(path, probed.container) as container:
            for packet in film_packets(container, film_of(container, probed.stream_index), Tally(beat=beat)):
                discarded += packet.is_discard
                if len(ticks) > max_frames or (packet.pts is None and not packet.is_discard):
                    return None
                if packet.pts is not None and not packet.is_discard:
                    ticks.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError:
        pass  # the packets so far are the pictures that there are
    ticks.sort()
    clock = probed.clock
    times = tuple(clock.at(pts) for pts, _ in ticks)
    if not times or len(set(times)) < len(times):
        return None
    lasts = ticks[-1][1] or (ticks[-1][0] - ticks[-2][0] if len(ticks) > 1 else 0)
    end_seconds = clock.at(ticks[-1][0] + lasts) if lasts else times[-1] + _one_frame(probed)
    declared = None if probed.header_frames is None else max(0, probed.header_frames - discarded)
    return Pictures(times, end_seconds, declared)


def _one_frame(probed: Probe) -> float:
    return 1 / probed.header_frames_per_second if probed.header_frames_per_second else SHORTEST_SECONDS
