"""The seam between decoding and everything after it: events of one video, whoever decodes it and
wherever.

`SubprocessDecoder` is for files from the web: a fresh interpreter decodes, so that a hang or a crash
costs one video. `InlineDecoder` decodes here, for files we trust. Refuses to know extractors,
shards and verdicts' fate.
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
from pipeline.media.probe import DEFAULT_LIMITS, DecodeLimits, Probe
from pipeline.sampling.multi_planner import Due, FrameDue, MultiPlanner
from pipeline.sampling.planner import VideoSampling, YuvSampling
from pipeline.sampling.segment_alignment import PictureTimes


class InlineDecoder:
    """Decodes in this process: a file that hangs or crashes the decoder does so to us."""

    def __init__(
        self,
        backend: str = "pyav",
        limits: DecodeLimits = DEFAULT_LIMITS,
        *,
        beat: Callable[[], None] = lambda: None,
        on_probe: Callable[[Probe], None] = lambda _: None,
    ) -> None:
        """`beat` is called at every packet, `on_probe` once a video, before its first frame."""
        get_backend(backend)
        self.name = backend
        self._limits = limits
        self._beat = beat
        self._on_probe = on_probe

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """All events of one video. Only frames that some window holds are converted, each once."""
        planner = MultiPlanner(samplings)
        planar = frozenset(
            place for place, sampling in enumerate(samplings) if isinstance(sampling, YuvSampling)
        )
        held: deque[DecodedFrame] = deque()
        decoding = self._decoding(video_id, path)
        self._on_probe(decoding.probe)
        if planner.needs_pictures:
            pictures = self._pictures(video_id, path, decoding.probe)
            yield from (AlignmentEvent(*placed) for placed in planner.place(pictures))
        for frame in decoding:
            held.append(frame)
            yield from _events(planner.push(frame.pts_seconds), held, planar)
            while held and held[0].index < planner.first_undecided_frame:
                held.popleft()
        summary = decoding.summary()
        yield from _events(planner.finish(summary.end_seconds), held, planar)
        yield DecodeEnd(decoding.probe, summary, lacking=planner.lacking)

    def _decoding(self, video_id: str, path: Path) -> VideoReader:
        return VideoReader(video_id, path, backend=self.name, limits=self._limits, beat=self._beat)

    def _pictures(self, video_id: str, path: Path, probed: Probe) -> PictureTimes:
        """From the packets; where these do not say it, from one more decoding, which converts no
        picture.
        """
        if (known := picture_times(path, probed, self._beat, self._limits.max_frames)) is not None:
            return known
        counting = self._decoding(video_id, path)
        times = tuple(frame.pts_seconds for frame in counting)
        summary = counting.summary()
        return PictureTimes(times, summary.end_seconds, summary.frames_declared)

    def close(self) -> None:
        """Nothing is kept between videos."""


def _events(due: list[Due], held: deque[DecodedFrame], planar: frozenset[int]) -> Iterator[Event]:
    for one in due:
        if isinstance(one, FrameDue):
            yield from _frame_events(one, held[one.index - held[0].index], planar)
        else:
            yield WindowEvent(one.sampling, one.window)


def _frame_events(due: FrameDue, frame: DecodedFrame, planar: frozenset[int]) -> Iterator[Event]:
    planes = frame.to_planes() if planar.intersection(due.wanted_by) else None
    in_rgb = due.wanted_by
    if planes is not None:
        in_rgb = tuple(place for place in due.wanted_by if place not in planar)
        yield YuvFrameEvent(
            due.index, planes, tuple(place for place in due.wanted_by if place in planar)
        )
    if in_rgb:
        yield FrameEvent(due.index, frame.to_rgb(), in_rgb)
