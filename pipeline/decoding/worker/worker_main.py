"""The decode worker: `python -m pipeline.decoding.worker.worker_main RING MEMORY PARENT`.

`pipeline.decoding.worker.worker_process` starts it. It decodes one video after the other. Requests
arrive on stdin and messages leave on stdout. Pixels go through the shared memory with the file
descriptor RING, which it cannot enlarge. MEMORY is its limit in bytes, PARENT the process to die
with (0: it ends only with its pipes). A problem of a video becomes a message; a bug becomes a
traceback on stderr and ends the worker. Torch is imported only if the backend does so: a worker
needs 60 MB instead of 700.
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
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.probe import Probe
from pipeline.sampling.planner import VideoSampling, YuvSampling
from pipeline.sampling.planners import PLANNERS
from storage.base.errors import SystemicFault, VideoError
from storage.base.fingerprint import to_json_value

MAX_SLOTS = 32
HEARTBEATS_PER_STALL = 8
"""How often a worker reports that it lives, in the time after which it would count as hanging."""
SEND_SHARE = 4
"""Frames are sent once this fraction of the memory is full, ..."""
SEND_SECONDS = 0.02
"""... or once the first of them has waited this long."""
_SAMPLINGS: dict[str, Callable[..., Any]] = {
    kind.kind: kind for kind in PLANNERS if kind is not YuvSampling
}


class Ring:
    """A ring buffer of frames in shared memory, with as many slots as fit in `RING_BYTES`.

    Slots are filled and freed in the same order. There are always at least two.
    """

    def __init__(self, fd: int, wait_free: Callable[[], int]) -> None:
        """`wait_free` blocks until some of the oldest frames are freed, and returns how many."""
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self._wait_free = wait_free
        self._used_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Begin a video: all slots are free, and its first frame sets their size."""
        self._slot_bytes = self._slots = self._next = self._used = self._freed = 0
        if self._used_bytes > RING_BYTES and hasattr(mmap, "MADV_REMOVE"):
            # The pages of a video with very large frames are returned to the system.
            self._memory.madvise(mmap.MADV_REMOVE)
            self._used_bytes = 0

    def place(self, pixels: NDArray[np.uint8]) -> int:
        """Copy a frame into the next slot, once it is free; returns its offset in bytes."""
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
        """How many frames of the current size fit."""
        return self._slots

    def _free_one(self) -> None:
        if self._freed == 0:
            self._freed = self._wait_free()
        self._freed -= 1
        self._used -= 1

    def _resize(self, slot_bytes: int) -> None:
        # All slots have one size: frames in use must be freed before it changes.
        while self._used:
            self._free_one()
        usual_slots = max(MIN_SLOTS, RING_BYTES // slot_bytes)
        slots = min(MAX_SLOTS, usual_slots, len(self._memory) // slot_bytes)
        if slots < 1:
            raise ValueError(
                f"a frame of {slot_bytes} bytes; the ring has {len(self._memory)}: raise max_pixels"
            )
        self._slots, self._slot_bytes, self._next = slots, slot_bytes, 0
        self._used_bytes = max(self._used_bytes, slots * slot_bytes)


UNMAINTAINED = {"decord": "FFmpeg 4.1 of 2018"}
"""Backends whose wheel brings a decoder that gets no security fixes any more."""


def check_backend(backend: str, layers: sandbox.SandboxLayers) -> None:
    """Raise SystemicFault for a backend with known holes outside a sandbox that contains them."""
    if backend in UNMAINTAINED and not layers.are_enough_for_old_code:
        raise SystemicFault(
            f"backend = {backend} brings {UNMAINTAINED[backend]}, which gets no security fixes. It "
            f"needs a sandbox without new files, new privileges and unlimited memory; this machine "
            f"gives {layers}. Choose backend = pyav"
        )


class Server:
    """Decodes on request until the parent closes the pipe."""

    def __init__(
        self, requests_fd: int, answers_fd: int, ring_fd: int, layers: sandbox.SandboxLayers
    ) -> None:
        self._layers = layers
        self._inbox = messages.Inbox(requests_fd)
        self._answers_fd = answers_fd
        self._ring = Ring(ring_fd, self._wait_free)
        self._heartbeat_seconds = 0.0
        self._sent_at = 0.0
        self._unsent: list[list[object]] = []
        self._unsent_frames = 0
        self._formats: dict[tuple[object, ...], int] = {}
        """Formats of this video's frames → the number that stands for each in messages."""
        self._first_unsent_at = 0.0
        self._began_cpu_seconds = 0.0

    def run(self) -> None:
        """Answer every request. `free` requests between videos belong to a video that is over."""
        self._send("ready", layers=self._layers)
        while True:
            request = self._inbox.receive()
            if request is None:
                return
            if request["kind"] == "decode":
                self._decode(request)

    def _decode(self, request: messages.Message) -> None:
        limits = DecodeLimits(**request["limits"])
        samplings = [_sampling(one) for one in request["samplings"]]
        self._heartbeat_seconds = limits.stall_seconds / HEARTBEATS_PER_STALL
        self._ring.reset()
        self._formats = {}
        self._began_cpu_seconds = time.process_time()
        decoder = InlineDecoder(
            request["backend"], limits, heartbeat=self._heartbeat, on_probe=self._send_length
        )
        try:
            check_backend(request["backend"], self._layers)
            for event in decoder.decode(request["video_id"], Path(request["path"]), samplings):
                self._send_event(event)
        except VideoError as error:
            self._send("verdict", reason=error.status.reason, detail=error.status.detail)
        except SystemicFault as fault:
            self._send("fault", problem=str(fault))
        # The probe's frame is in a reference cycle. Without this, hundreds of them would pile up.
        gc.collect()

    def _send_event(self, event: Event) -> None:
        if isinstance(event, FrameEvent):
            self._send_frame(event, event.rgb, None, full_range=False)
        elif isinstance(event, YuvFrameEvent):
            planes = event.planes
            self._send_frame(event, planes.pixels, planes.matrix, full_range=planes.full_range)
        elif isinstance(event, WindowEvent):
            window = event.window
            span = (window.start_seconds, window.end_seconds)
            self._gather(["window", event.sampling, window.frame_indices, *span, window.segment])
        elif isinstance(event, AlignmentEvent):
            self._send("placement", sampling=event.sampling, placement=event.alignment)
        else:
            self._send(
                "end",
                cpu_seconds=time.process_time() - self._began_cpu_seconds,
                probe=event.probe,
                summary=event.summary,
                lacking=event.rows_lacking,
            )

    def _send_length(self, probe: Probe) -> None:
        self._send("begun", declared_seconds=probe.header_seconds)

    def _send_frame(
        self,
        event: FrameEvent | YuvFrameEvent,
        pixels: NDArray[np.uint8],
        matrix: str | None,
        *,
        full_range: bool,
    ) -> None:
        offset = self._ring.place(pixels)
        frame_format = (self._ring.slots, pixels.shape, matrix, full_range)
        if frame_format not in self._formats:
            self._formats[frame_format] = len(self._formats)
            self._gather(["form", *frame_format])
        number = self._formats[frame_format]
        self._gather(["frame", number, event.index, event.wanted_by, offset])
        self._unsent_frames += 1
        if self._unsent_frames >= self._ring.slots // SEND_SHARE:
            self._flush()

    def _gather(self, event: list[object]) -> None:
        """Send soon, together with what follows: each message costs both sides time."""
        if not self._unsent:
            self._first_unsent_at = time.monotonic()
        self._unsent.append(event)

    def _send(self, kind: str, **fields: object) -> None:
        """Send now, after everything gathered."""
        values = {name: to_json_value(value) for name, value in fields.items()}
        self._flush(messages.message(kind, values))

    def _flush(self, then: bytes = b"") -> None:
        gathered = messages.message("events", {"events": self._unsent}) if self._unsent else b""
        self._unsent.clear()
        self._unsent_frames = 0
        # One write for both: each costs the parent a system call, too.
        messages.write(self._answers_fd, gathered + then)
        self._sent_at = time.monotonic()

    def _heartbeat(self) -> None:
        """Called at every packet: reports that the worker lives, if nothing else was sent."""
        now = time.monotonic()
        if self._unsent and now - self._first_unsent_at > SEND_SECONDS:
            self._flush()
        elif now - self._sent_at > self._heartbeat_seconds:
            self._send("alive")

    def _wait_free(self) -> int:
        """Block until the parent frees slots; returns how many. Exits if the parent is gone."""
        self._flush()
        request = self._inbox.receive()
        if request is None:
            sys.exit("the parent is gone")
        return int(request["count"])


def _sampling(fields: messages.Message) -> VideoSampling:
    own = _SAMPLINGS[fields["type"]](**fields["fields"])
    return YuvSampling(own) if fields.get("in_planes") else own


def main() -> None:
    """Serve requests in the sandbox, with stdout for messages only, and without Ctrl-C.

    Ctrl-C reaches all processes of a terminal; the parent decides what happens then.
    """
    ring_fd, max_memory_bytes, parent_pid = map(int, sys.argv[1:4])
    # What libraries print to stdout must not mix with messages: it goes to stderr.
    answers_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    layers = sandbox.enter(max_memory_bytes, parent_pid or None)
    # On import, torch asks for a folder that it can write to, and would search for it in vain.
    tempfile.tempdir = "/"
    try:
        Server(sys.stdin.fileno(), answers_fd, ring_fd, layers).run()
    # Not a crash: the parent reports a video that needs too much memory.
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
