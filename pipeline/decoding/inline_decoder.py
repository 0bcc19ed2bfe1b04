"""Decodes a trusted file in this process, and yields its frames and windows as events.

A file that hangs or crashes the decoder does so to this process. Files from the web go through
`pipeline.decoding.worker.subprocess_decoder.SubprocessDecoder`, which yields the same events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.decoding.events import (
    AlignmentEvent,
    DecodeEnd,
    Event,
    FrameEvent,
    WindowEvent,
    YuvFrameEvent,
)
from pipeline.decoding.frame_timing import picture_times
from pipeline.decoding.video_reader import VideoReader, get_backend
from pipeline.media.decode_settings import DEFAULT_LIMITS, DecodeLimits
from pipeline.media.probe import Probe
from pipeline.sampling.multi_planner import Due, FrameDue, MultiPlanner
from pipeline.sampling.planner import VideoSampling, YuvSampling
from pipeline.sampling.segment_alignment import PictureTimes


class InlineDecoder:
    """Decodes videos one after the other in the calling thread."""

    def __init__(
        self,
        backend: str = "pyav",
        limits: DecodeLimits = DEFAULT_LIMITS,
        *,
        heartbeat: Callable[[], None] = lambda: None,
        on_probe: Callable[[Probe], None] = lambda _: None,
    ) -> None:
        """`heartbeat` is called at every packet, `on_probe` once a video before its first frame."""
        get_backend(backend)  # an unknown name is an error here, not at the first video
        self.name = backend
        self._limits = limits
        self._heartbeat = heartbeat
        self._on_probe = on_probe

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """All events of one video. Only frames of some window are converted, each of them once."""
        planner = MultiPlanner(samplings)
        yuv_positions = frozenset(
            position
            for position, sampling in enumerate(samplings)
            if isinstance(sampling, YuvSampling)
        )
        held: deque[DecodedFrame] = deque()
        reader = self._open(video_id, path)
        # The parent of a decode worker allows longer videos more time.
        self._on_probe(reader.probe)
        if planner.needs_pictures:
            pictures = self._picture_times(video_id, path, reader.probe)
            for position, alignment in planner.align(pictures):
                yield AlignmentEvent(position, alignment)
        for frame in reader:
            held.append(frame)
            yield from _events(planner.push(frame.pts_seconds), held, yuv_positions)
            # Only frames that a window may still want are kept in memory.
            while held and held[0].index < planner.first_undecided_frame:
                held.popleft()
        summary = reader.summary()
        yield from _events(planner.finish(summary.end_seconds), held, yuv_positions)
        yield DecodeEnd(reader.probe, summary, rows_lacking=planner.rows_lacking)

    def _open(self, video_id: str, path: Path) -> VideoReader:
        return VideoReader(
            video_id, path, backend=self.name, limits=self._limits, heartbeat=self._heartbeat
        )

    def _picture_times(self, video_id: str, path: Path, probed: Probe) -> PictureTimes:
        """From the packets; where they do not say, from one more pass that converts no frame."""
        pictures = picture_times(path, probed, self._heartbeat, self._limits.max_frames)
        if pictures is not None:
            return pictures
        reader = self._open(video_id, path)
        times = tuple(frame.pts_seconds for frame in reader)
        summary = reader.summary()
        return PictureTimes(times, summary.end_seconds, summary.frames_declared)

    def close(self) -> None:
        """Does nothing: no state is kept between videos."""


def _events(
    due: list[Due], held: deque[DecodedFrame], yuv_positions: frozenset[int]
) -> Iterator[Event]:
    for item in due:
        if isinstance(item, FrameDue):
            # Held frames are consecutive, so an index is a distance from the first.
            frame = held[item.index - held[0].index]
            yield from _frame_events(item, frame, yuv_positions)
        else:
            yield WindowEvent(item.sampling, item.window)


def _frame_events(
    due: FrameDue, frame: DecodedFrame, yuv_positions: frozenset[int]
) -> Iterator[Event]:
    """The frame as planes for samplings that accept them, as RGB for the others."""
    accept_yuv = tuple(position for position in due.wanted_by if position in yuv_positions)
    planes = frame.to_planes() if accept_yuv else None
    if planes is None:
        # Of some frames, planes do not say exactly what RGB is.
        yield FrameEvent(due.index, frame.to_rgb(), due.wanted_by)
        return
    need_rgb = tuple(position for position in due.wanted_by if position not in yuv_positions)
    yield YuvFrameEvent(due.index, planes, accept_yuv)
    if need_rgb:
        yield FrameEvent(due.index, frame.to_rgb(), need_rgb)
