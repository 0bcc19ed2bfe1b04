"""Decodes videos in a subprocess: the parent's side.

A file that hangs or crashes the decoder ends only that subprocess. This is the decoder for files
from the web.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.yuv import Planes
from pipeline.child_processes.exit_status import fault_if_stopped
from pipeline.child_processes.sandbox import SandboxLayers
from pipeline.decoding.events import (
    AlignmentEvent,
    DecodeEnd,
    Event,
    FrameEvent,
    WindowEvent,
    YuvFrameEvent,
)
from pipeline.decoding.video_reader import DecodeSummary, get_backend
from pipeline.decoding.worker.messages import Message
from pipeline.decoding.worker.worker_process import DecoderProcess, NotStarted, WorkerDied
from pipeline.media.container.picture_facts import PictureFacts
from pipeline.media.container.streams import OtherStream
from pipeline.media.decode_settings import DEFAULT_LIMITS, DecodeLimits
from pipeline.media.probe import Probe
from pipeline.sampling.multi_planner import MultiPlanner
from pipeline.sampling.planner import VideoSampling, Window
from pipeline.sampling.segment_alignment import SegmentAlignment
from storage.base.errors import SystemicFault, VideoError
from storage.base.video_status import failure_status


class SubprocessDecoder:
    """Decodes in a worker process that is kept from video to video.

    The worker is replaced when it dies, hangs, or has decoded many videos. Works in daemonic
    processes, in threads (one at a time), and after a fork: a forked process starts its own worker.
    """

    def __init__(
        self,
        backend: str = "pyav",
        limits: DecodeLimits = DEFAULT_LIMITS,
        recycle_after_videos: int = 200,
    ) -> None:
        get_backend(backend)
        if recycle_after_videos < 1:
            raise ValueError(f"recycle_after_videos must be at least 1, got {recycle_after_videos}")
        self.name = backend
        self._limits = limits
        self._recycle_after_videos = recycle_after_videos
        self._worker: DecoderProcess | None = None
        self._videos = 0
        self._in_use = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, if one is running."""
        return None if self._worker is None else self._worker.pid

    @property
    def layers(self) -> SandboxLayers | None:
        """The sandbox layers of the worker; None if none is running."""
        return None if self._worker is None else self._worker.layers

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Generator[Event, None, None]:
        """All events of one video. Leaving the iteration early ends the worker.

        If a new worker dies in its first video, the video gets a failure status. If it dies later,
        an earlier video may have harmed it: a new worker takes over, and the events continue where
        they stopped. The same happens, once, if the worker was killed or stopped from outside.

        Raises VideoError with the statuses of `VideoReader`, and hang, crash or memory;
        SystemicFault if no worker can start, or if stop signals ended it twice.
        """
        # An unknown sampling is a mistake of the caller: it must not look like a crash of a worker.
        MultiPlanner(samplings)
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError(
                "this decoder is busy with another video: end that iteration, or make a second "
                "decoder"
            )
        try:
            yield from self._decode_with_retries(video_id, path, samplings)
        finally:
            if self._worker is not None and not self._worker.idle:
                self.close()
            self._in_use.release()

    def _decode_with_retries(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        event_count = 0
        was_disturbed = False
        while True:
            worker = self._ready_worker()
            try:
                worker.ask(video_id, path, samplings, self.name)
                # A new worker repeats all events; those that were yielded already are skipped.
                for event in islice(_receive_events(video_id, worker), event_count, None):
                    yield event
                    event_count += 1
            except WorkerDied as death:
                is_first_video = self._videos == 1
                self.close()
                if death.from_outside and not was_disturbed:
                    was_disturbed = True
                elif is_first_video:
                    fault = fault_if_stopped(death.status)
                    raise fault or _video_error(video_id, death) from death
            else:
                return

    def _ready_worker(self) -> DecoderProcess:
        if self._worker is not None:
            # Libraries may leak memory with every video.
            is_old = self._videos >= self._recycle_after_videos
            if is_old or not self._worker.alive:
                self.close()
        if self._worker is None:
            self._worker = _start_worker(self._limits)
            self._videos = 0
        self._videos += 1
        return self._worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, if one is running."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def _start_worker(limits: DecodeLimits) -> DecoderProcess:
    """A new worker, started once more if the first was killed or stopped from outside meanwhile."""
    try:
        return DecoderProcess(limits)
    except NotStarted as error:
        if not error.from_outside:
            raise
    return DecoderProcess(limits)


def _video_error(video_id: str, death: WorkerDied) -> VideoError:
    error = VideoError(video_id, failure_status(death.reason, death.detail))
    error.add_note(death.last_words)
    return error


def _receive_events(video_id: str, worker: DecoderProcess) -> Iterator[Event]:
    formats: list[_FrameFormat] = []
    while True:
        message = worker.answer()
        kind = message["kind"]
        if kind == "events":
            yield from _decode_messages(worker, message["events"], formats)
        elif kind == "placement":
            alignment = SegmentAlignment(**message["placement"])
            yield AlignmentEvent(message["sampling"], alignment)
        elif kind == "end":
            probed, summary = _probe(message["probe"]), _summary(message["summary"])
            yield DecodeEnd(probed, summary, message["cpu_seconds"], tuple(message["lacking"]))
            return
        elif kind == "verdict":
            raise VideoError(video_id, failure_status(message["reason"], message["detail"]))
        else:
            raise SystemicFault(message["problem"])


@dataclass(frozen=True)
class _FrameFormat:
    """What many frames of a video have in common."""

    slots: int
    """How many such frames fit in the shared memory."""
    shape: tuple[int, ...]
    matrix: str | None
    """Colour matrix of YUV planes; None for RGB."""
    full_range: bool


def _decode_messages(
    worker: DecoderProcess, events: list[Any], formats: list[_FrameFormat]
) -> Iterator[Event]:
    """The events of one message.

    A format is sent before its first frame. Frames refer to it by its position in `formats`, which
    grows in the order in which formats arrive.
    """
    for kind, *fields in events:
        if kind == "frame":
            format_number, index, wanted_by, offset = fields
            frame_format = formats[format_number]
            pixels = worker.pixels(frame_format.shape, offset)
            yield _frame_event(frame_format, pixels, index, tuple(wanted_by))
            # Whoever got the event is done with its pixels: the worker may overwrite them.
            worker.free_frame(frame_format.slots)
        elif kind == "window":
            sampling, indices, *span_and_segment = fields
            yield WindowEvent(sampling, Window(tuple(indices), *span_and_segment))
        else:
            slots, shape, *colours = fields
            formats.append(_FrameFormat(slots, tuple(shape), *colours))


def _frame_event(
    frame_format: _FrameFormat, pixels: NDArray[np.uint8], index: int, wanted_by: tuple[int, ...]
) -> FrameEvent | YuvFrameEvent:
    if frame_format.matrix is None:
        return FrameEvent(index, pixels, wanted_by)
    planes = Planes(pixels, frame_format.matrix, frame_format.full_range)
    return YuvFrameEvent(index, planes, wanted_by)


def _summary(fields: Message) -> DecodeSummary:
    gaps = tuple((start, end) for start, end in fields["gaps_seconds"])
    return DecodeSummary(**{**fields, "gaps_seconds": gaps})


def _probe(fields: Message) -> Probe:
    pairs = {name: tuple(fields[name]) for name in ("display_matrix", "time_base", "clock_origin")}
    others = tuple(OtherStream(**other) for other in fields["other_streams"])
    picture = _picture(fields["picture"])
    return Probe(**{**fields, **pairs, "other_streams": others, "picture": picture})


def _picture(fields: Message | None) -> PictureFacts | None:
    if fields is None:
        return None
    ratio = fields["sample_aspect_ratio"]
    # JSON has no tuples: a pair arrives as a list.
    pair = None if ratio is None else tuple(ratio)
    return PictureFacts(**{**fields, "sample_aspect_ratio": pair})
