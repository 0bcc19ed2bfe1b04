"""The decode child: `python -m pipeline.decoding.worker.worker_main RING MEMORY PARENT`, started by
`pipeline.decoding.worker.worker_process`, video after video.

Requests come in on stdin, messages go out on stdout, pixels go through shared memory RING (a file
descriptor), which it cannot enlarge. MEMORY bytes are its limit, PARENT is the process to die with
(0: it only ends with its pipes). What is wrong with a video is a message; a bug is a traceback on
stderr and the end. Imports no torch unless its backend does: a child costs 60 MB instead of 700.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.child_processes import sandbox
from pipeline.decoding.events import AlignmentEvent, Event, FrameEvent, WindowEvent, YuvFrameEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker import messages
from pipeline.decoding.worker.worker_process import MIN_SLOTS, OUT_OF_MEMORY, RING_BYTES
from pipeline.media.probe import DecodeLimits, Probe
from pipeline.sampling.planner import VideoSampling, YuvSampling
from pipeline.sampling.planners import PLANNERS
from storage.base.errors import SystemicFault, VideoError
from storage.base.fingerprint import to_json_value

MAX_SLOTS = 32
BEATS_PER_STALL = 8
SENT_SHARE = 4
"""Frames are told of when so many times as many would fill the memory, ..."""
SOON_SECONDS = 0.02
"""... or when the first of them has waited so long."""
_SAMPLINGS: dict[str, Callable[..., Any]] = {
    kind.kind: kind for kind in PLANNERS if kind is not YuvSampling
}


class Ring:
    """Slots of shared memory, filled and freed in the same order: what fits into `RING_BYTES`, at
    least two.
    """

    def __init__(self, fd: int, wait_free: Callable[[], int]) -> None:
        """`wait_free` waits until some of the oldest frames are given back, and says how many."""
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._wait_free = wait_free
        self._used_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Begin a video: all slots are free, and their size is its frames'."""
        self._slot_bytes = self._slots = self._next = self._used = self._freed = 0
        if self._used_bytes > RING_BYTES and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE)  # a giant's pages go back
            self._used_bytes = 0

    def place(self, pixels: NDArray[np.uint8]) -> int:
        """Copy a frame into the next slot, once one is free; return where it begins, in bytes."""
        if pixels.nbytes > self._slot_bytes:
            self._resize(pixels.nbytes)
        while self._used == self._slots:
            self._free_one()
        offset = self._next * self._slot_bytes
        np.ndarray(pixels.shape, np.uint8, buffer=self._memory, offset=offset)[...] = pixels
        self._next = (self._next + 1) % self._slots
        self._used += 1
        return offset

    @property
    def slots(self) -> int:
        """How many frames of the present size fit."""
        return self._slots

    def _free_one(self) -> None:
        if self._freed == 0:
            self._freed = self._wait_free()
        self._freed -= 1
        self._used -= 1

    def _resize(self, slot_bytes: int) -> None:
        while self._used:
            self._free_one()
        slots = min(
            MAX_SLOTS, max(MIN_SLOTS, RING_BYTES // slot_bytes), len(self._memory) // slot_bytes
        )
        if slots < 1:
            raise ValueError(
                f"a frame of {slot_bytes} bytes; the ring has {len(self._memory)}: raise max_pixels"
            )
        self._slots, self._slot_bytes, self._next = slots, slot_bytes, 0
        self._used_bytes = max(self._used_bytes, slots * slot_bytes)


class Server:
    """Answers requests until the parent closes its end."""

    def __init__(self, requests_fd: int, answers_fd: int, ring_fd: int) -> None:
        self._inbox = messages.Inbox(requests_fd)
        self._answers_fd = answers_fd
        self._ring = Ring(ring_fd, self._wait_free)
        self._beat_seconds = 0.0
        self._sent_at = 0.0
        self._unsent: list[list[object]] = []
        self._unsent_frames = 0
        self._forms: dict[tuple[object, ...], int] = {}
        """What kinds of frames this video has, by the numbers that stand for them in messages."""
        self._oldest = 0.0
        self._began_cpu_seconds = 0.0

    def run(self, layers: sandbox.SandboxLayers) -> None:
        """Answer every request. Frees that arrive between videos belong to a video that is over."""
        self._send("ready", layers=layers)
        while (request := self._inbox.receive()) is not None:
            if request["kind"] == "decode":
                self._decode(request)

    def _decode(self, request: messages.Message) -> None:
        limits = DecodeLimits(**request["limits"])
        samplings = [_sampling(one) for one in request["samplings"]]
        self._beat_seconds = limits.stall_seconds / BEATS_PER_STALL
        self._ring.reset()
        self._forms = {}
        self._began_cpu_seconds = time.process_time()
        decoder = InlineDecoder(
            request["backend"], limits, heartbeat=self._beat, on_probe=self._tell_length
        )
        try:
            for event in decoder.decode(request["video_id"], Path(request["path"]), samplings):
                self._tell(event)
        except VideoError as error:
            self._send("verdict", reason=error.status.reason, detail=error.status.detail)
        except SystemicFault as fault:
            self._send("fault", problem=str(fault))
        gc.collect()  # the probe's frame is in a cycle; left to itself, the collector would let hundreds pile up

    def _tell(self, event: Event) -> None:
        if isinstance(event, FrameEvent):
            self._tell_frame(event, event.rgb, None, full_range=False)
        elif isinstance(event, YuvFrameEvent):
            planes = event.planes
            self._tell_frame(event, planes.pixels, planes.matrix, full_range=planes.full_range)
        elif isinstance(event, WindowEvent):
            window = event.window
            span = (window.start_seconds, window.end_seconds)
            self._gather(["window", event.sampling, window.frame_indices, *span, window.segment])
        elif isinstance(event, AlignmentEvent):
            self._send("placement", sampling=event.sampling, placement=event.alignment)
        else:
            spent = time.process_time() - self._began_cpu_seconds
            told = {"probe": event.probe, "summary": event.summary, "lacking": event.rows_lacking}
            self._send("end", cpu_seconds=spent, **told)

    def _tell_length(self, probe: Probe) -> None:
        self._send("begun", declared_seconds=probe.header_seconds)

    def _tell_frame(
        self,
        event: FrameEvent | YuvFrameEvent,
        pixels: NDArray[np.uint8],
        matrix: str | None,
        *,
        full_range: bool,
    ) -> None:
        offset = self._ring.place(pixels)
        form = (self._ring.slots, pixels.shape, matrix, full_range)
        if form not in self._forms:
            self._forms[form] = len(self._forms)
            self._gather(["form", *form])
        self._gather(["frame", self._forms[form], event.index, event.wanted_by, offset])
        self._unsent_frames += 1
        if self._unsent_frames >= self._ring.slots // SENT_SHARE:
            self._flush()

    def _gather(self, event: list[object]) -> None:
        """Sent soon: together with what follows within an instant, for each message costs both
        sides time.
        """
        if not self._unsent:
            self._oldest = time.monotonic()
        self._unsent.append(event)

    def _send(self, kind: str, **fields: object) -> None:
        """Sent now, after all that was gathered."""
        self._flush(
            messages.message(kind, {name: to_json_value(value) for name, value in fields.items()})
        )

    def _flush(self, then: bytes = b"") -> None:
        gathered = messages.message("events", {"events": self._unsent}) if self._unsent else b""
        self._unsent.clear()
        self._unsent_frames = 0
        messages.write(self._answers_fd, gathered + then)
        self._sent_at = time.monotonic()

    def _beat(self) -> None:
        """Called at every packet: says that we live, where there was nothing else to say for a
        while.
        """
        now = time.monotonic()
        if self._unsent and now - self._oldest > SOON_SECONDS:
            self._flush()
        elif now - self._sent_at > self._beat_seconds:
            self._send("alive")

    def _wait_free(self) -> int:
        """Block until the parent gives slots back, and say how many; if it is gone, so are we."""
        self._flush()
        if (said := self._inbox.receive()) is None:
            sys.exit("the parent is gone")
        return int(said["count"])


def _sampling(named: messages.Message) -> VideoSampling:
    own = _SAMPLINGS[named["type"]](**named["fields"])
    return YuvSampling(own) if named.get("in_planes") else own


def main() -> None:
    """Keep stdout for messages alone, leave Ctrl-C to the parent, and give up what decoding does
    not need.
    """
    ring_fd, max_memory_bytes, parent_pid = map(int, sys.argv[1:4])
    answers_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    layers = sandbox.enter(max_memory_bytes, parent_pid or None)
    tempfile.tempdir = "/"  # torch asks for a folder to write to when it is imported, and would search for it in vain
    try:
        Server(sys.stdin.fileno(), answers_fd, ring_fd).run(layers)
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
