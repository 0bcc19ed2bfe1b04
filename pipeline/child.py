"""The decode child: `python -m pipeline.child RING`, started by `pipeline.crew`, one video after the other.

Requests come in on stdin, messages go out on stdout, pixels go through shared memory RING (a file descriptor). What is
wrong with a video is a message; a bug is a traceback on stderr and the end. It ends when its parent does. Imports no
torch: a child costs 60 MB instead of 700.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.extractors.spec import Frame
from pipeline import wire
from pipeline.clips import PLANNERS
from pipeline.decoder import Event, FrameEvent, InlineDecoder, WindowEvent
from pipeline.probe import DecodeLimits
from storage.errors import SystemicFault, VideoError

RING_BYTES = 32 * 1024 * 1024
"""Shared memory for frames on their way; two frames always fit, however large."""
MAX_SLOTS = 32
MIN_SLOTS = 2
BEATS_PER_STALL = 8
_SAMPLINGS = {kind.__name__: kind for kind in PLANNERS}


class Ring:
    """Slots of shared memory, filled and freed in the same order; `RING_BYTES` in all, or two frames if larger."""

    def __init__(self, fd: int, wait_free: Callable[[], None]) -> None:
        self._fd = fd
        self._wait_free = wait_free
        self._memory: mmap.mmap | None = None
        self.reset()

    def reset(self) -> None:
        """Begin a video: all slots are free, and their size is its frames'."""
        self._slot_bytes = self._slots = self._next = self._used = 0
        if self._memory is not None and len(self._memory) > RING_BYTES and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE)  # a giant's pages go back; a smaller file could kill who maps it

    def place(self, rgb: Frame) -> int:
        """Copy a frame into the next slot, once one is free; return where it begins, in bytes."""
        if rgb.nbytes > self._slot_bytes:
            self._resize(rgb.nbytes)
        while self._used == self._slots:
            self._free_one()
        offset = self._next * self._slot_bytes
        np.ndarray(rgb.shape, np.uint8, buffer=self._memory, offset=offset)[...] = rgb
        self._next = (self._next + 1) % self._slots
        self._used += 1
        return offset

    def _free_one(self) -> None:
        self._wait_free()
        self._used -= 1

    def _resize(self, slot_bytes: int) -> None:
        while self._used:
            self._free_one()
        self._slots = min(MAX_SLOTS, max(MIN_SLOTS, RING_BYTES // slot_bytes))
        self._slot_bytes, self._next = slot_bytes, 0
        size = self._slots * slot_bytes
        if self._memory is None or len(self._memory) < size:
            os.ftruncate(self._fd, size)
            self._memory = mmap.mmap(self._fd, size)


class Server:
    """Answers requests until the parent closes its end."""

    def __init__(self, requests_fd: int, answers_fd: int, ring_fd: int) -> None:
        self._inbox = wire.Inbox(requests_fd)
        self._answers_fd = answers_fd
        self._ring = Ring(ring_fd, self._wait_free)
        self._beat_seconds = 0.0
        self._sent_at = 0.0

    def run(self) -> None:
        """Answer every request. Frees that arrive between videos belong to a video that is over."""
        self._send("ready")
        while (request := self._inbox.receive()) is not None:
            if request["kind"] == "decode":
                self._decode(request)

    def _decode(self, request: wire.Message) -> None:
        limits = DecodeLimits(**request["limits"])
        samplings = [_SAMPLINGS[one["type"]](**one["fields"]) for one in request["samplings"]]
        self._beat_seconds = limits.stall_seconds / BEATS_PER_STALL
        self._ring.reset()
        decoder = InlineDecoder(request["backend"], limits, beat=self._beat)
        try:
            for event in decoder.decode(request["video_id"], Path(request["path"]), samplings):
                self._tell(event)
        except VideoError as error:
            self._send("verdict", reason=error.verdict.reason, detail=error.verdict.detail)
        except SystemicFault as fault:
            self._send("fault", problem=str(fault))
        gc.collect()  # the probe's frame is in a cycle; left to itself, the collector would let hundreds pile up

    def _tell(self, event: Event) -> None:
        if isinstance(event, FrameEvent):
            height, width, _ = event.rgb.shape
            place = {"offset": self._ring.place(event.rgb), "height": height, "width": width}
            self._send("frame", index=event.index, wanted_by=event.wanted_by, **place)
        elif isinstance(event, WindowEvent):
            self._send("window", sampling=event.sampling, window=event.window)
        else:
            self._send("end", probe=event.probe, summary=event.summary)

    def _send(self, kind: str, **fields: object) -> None:
        wire.send(self._answers_fd, kind, **fields)
        self._sent_at = time.monotonic()

    def _beat(self) -> None:
        """Called at every packet: says that we live, where there was nothing else to say for a while."""
        if time.monotonic() - self._sent_at > self._beat_seconds:
            self._send("alive")

    def _wait_free(self) -> None:
        """Block until the parent gives one slot back; if it is gone, so are we."""
        if self._inbox.receive() is None:
            sys.exit("the parent is gone")


def main() -> None:
    """Keep stdout for messages alone, leave Ctrl-C to the parent, and write no core files."""
    answers_fd = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Server(sys.stdin.fileno(), answers_fd, int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
