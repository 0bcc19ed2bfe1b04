"""Frame times in, one by one: which frames have a usable time, and which stretches of a damaged video have no picture.

Arithmetic on numbers. A gap is told to half a frame once something was found broken, and to half a second before: some
demuxers skip damage without a word. Where a container keeps no durations (matroska, mpegts), a picture that truly stood
still for longer looks the same: a gap is a fact to record, never a reason to refuse. Refuses to know files.
"""

from __future__ import annotations

import math

from pipeline.backends.frame import DecodedFrame
from pipeline.probe import Probe

MAX_GAPS = 64
"""Gaps listed for one video; further ones are counted."""
LATE_FRAMES = 0.5
"""In a damaged stream, a frame later than the one before it ends, by more of that one's durations, leaves a gap."""
SLACK_SECONDS = 0.5
"""In any stream, so long a stretch without a picture is a gap. A header's start and end may lie as far from the
pictures: they may speak of the sound, and are rounded."""

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
