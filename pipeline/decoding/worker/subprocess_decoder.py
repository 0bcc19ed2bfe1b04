"""A decoder whose work is done by a subprocess: the parent's side."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

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
from pipeline.media.probe import DEFAULT_LIMITS, DecodeLimits, Probe
from pipeline.sampling.multi_planner import MultiPlanner
from pipeline.sampling.planner import VideoSampling, Window
from pipeline.sampling.segment_alignment import SegmentAlignment
from storage.base.errors import SystemicFault, VideoError
from storage.base.video_status import failure_status


class SubprocessDecoder:
    """Decodes in a child process that is kept from video to video, and replaced when it dies, hangs
    or grows old.

    Works in daemonic processes, in threads (one at a time) and after a fork: a forked process
    starts its own child.
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
        self._child: DecoderProcess | None = None
        self._videos = 0
        self._busy = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process number of the child, if one lives."""
        return None if self._child is None else self._child.pid

    @property
    def layers(self) -> SandboxLayers | None:
        """What the child gave up before its first file; None before there is one."""
        return None if self._child is None else self._child.layers

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Generator[Event, None, None]:
        """All events of one video. Leaving the iteration early ends the child.

        A child that is lost in its first video says something of that video. One lost later may
        have been harmed by an earlier one: the video gets a fresh child, and its events go on where
        they broke off. So it does, once, when somebody else killed or stopped the child.

        Raises VideoError with the statuses of `VideoReader`, and hang or crash; SystemicFault if no
        child can start, or an order to stop ended it twice.
        """
        MultiPlanner(
            samplings
        )  # an unknown sampling is the caller's mistake: say so here, not as a crash of the child
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(
                "this decoder is busy with another video: end that iteration, or make a second decoder"
            )
        told = 0
        was_disturbed = False
        try:
            while True:
                child = self._ready_child()
                try:
                    for event in islice(self._asked(child, video_id, path, samplings), told, None):
                        yield event
                        told += 1
                except WorkerDied as lost:
                    is_fresh = self._videos == 1
                    self.close()
                    if lost.from_outside and not was_disturbed:
                        was_disturbed = True
                    elif is_fresh:
                        raise fault_if_stopped(lost.status) or _blame(video_id, lost) from lost
                else:
                    return
        finally:
            if self._child is not None and not self._child.idle:
                self.close()
            self._busy.release()

    def _asked(
        self, child: DecoderProcess, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        child.ask(video_id, path, samplings, self.name)
        yield from self._answers(video_id, child)

    def _ready_child(self) -> DecoderProcess:
        if self._child is not None and (
            self._videos >= self._recycle_after_videos or not self._child.alive
        ):
            self.close()
        if self._child is None:
            self._child, self._videos = _started(self._limits), 0
        self._videos += 1
        return self._child

    def _answers(self, video_id: str, child: DecoderProcess) -> Iterator[Event]:
        forms: list[_Form] = []
        while True:
            message = child.answer()
            kind = message["kind"]
            if kind == "events":
                yield from _decode_messages(child, message["events"], forms)
            elif kind == "placement":
                yield AlignmentEvent(message["sampling"], SegmentAlignment(**message["placement"]))
            elif kind == "end":
                probed, summary = _probe(message["probe"]), _summary(message["summary"])
                yield DecodeEnd(probed, summary, message["cpu_seconds"], tuple(message["lacking"]))
                return
            elif kind == "verdict":
                raise VideoError(video_id, failure_status(message["reason"], message["detail"]))
            else:
                raise SystemicFault(message["problem"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if one lives."""
        if self._child is not None:
            self._child.end()
            self._child = None


def _started(limits: DecodeLimits) -> DecoderProcess:
    """A child, started once more if somebody else ended or stopped the first one meanwhile."""
    try:
        return DecoderProcess(limits)
    except NotStarted as lost:
        if not lost.from_outside:
            raise
    return DecoderProcess(limits)


def _blame(video_id: str, lost: WorkerDied) -> VideoError:
    error = VideoError(video_id, failure_status(lost.reason, lost.detail))
    error.add_note(lost.last_words)
    return error


@dataclass(frozen=True)
class _Form:
    """What some frames of a video have in common."""

    slots: int
    """How many of them the shared memory holds."""
    shape: tuple[int, ...]
    matrix: str | None
    """Of planes; None for RGB."""
    full_range: bool


def _decode_messages(
    child: DecoderProcess, events: list[Any], forms: list[_Form]
) -> Iterator[Event]:
    """The events of one message. A form is told before its first frame, and numbered in the order
    of telling.
    """
    for kind, *told in events:
        if kind == "frame":
            number, index, wanted_by, offset = told
            form = forms[number]
            pixels = child.pixels(form.shape, offset)
            if form.matrix is None:
                yield FrameEvent(index, pixels, tuple(wanted_by))
            else:
                yield YuvFrameEvent(
                    index, Planes(pixels, form.matrix, form.full_range), tuple(wanted_by)
                )
            child.free_frame(form.slots)
        elif kind == "window":
            sampling, indices, *span_and_segment = told
            yield WindowEvent(sampling, Window(tuple(indices), *span_and_segment))
        else:
            slots, shape, *colours = told
            forms.append(_Form(slots, tuple(shape), *colours))


def _summary(fields: Message) -> DecodeSummary:
    gaps = tuple((start, end) for start, end in fields["gaps_seconds"])
    return DecodeSummary(**{**fields, "gaps_seconds": gaps})


def _probe(fields: Message) -> Probe:
    pairs = {name: tuple(fields[name]) for name in ("display_matrix", "time_base", "clock_origin")}
    others = tuple(OtherStream(**one) for one in fields["other_streams"])
    return Probe(
        **{**fields, **pairs, "other_streams": others, "picture": _picture(fields["picture"])}
    )


def _picture(fields: Message | None) -> PictureFacts | None:
    if fields is None:
        return None
    ratio = fields["sample_aspect_ratio"]
    return PictureFacts(
        **{**fields, "sample_aspect_ratio": None if ratio is None else tuple(ratio)}
    )
