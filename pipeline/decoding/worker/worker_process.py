"""The parent's hold on one decode child: start it, ask, wait with a limit, see its frames, and end
it for certain.

A child is a fresh interpreter (never a fork), ends when its parent does, and keeps no state worth
saving, so SIGKILL is always right. Refuses to know what events mean and how videos are decoded.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.child_processes.exit_status import describe_exit, killed_from_outside
from pipeline.child_processes.hang_watch import HangWatch, Hung, TimeLimits
from pipeline.child_processes.project_root import PROJECT_ROOT
from pipeline.child_processes.resource_monitor import ResourceMonitor, TooMuchMemory
from pipeline.child_processes.sandbox import DATA_FACTOR, SandboxLayers
from pipeline.decoding.worker import messages
from pipeline.media.probe import DecodeLimits
from pipeline.sampling.planner import VideoSampling, YuvSampling
from storage.base.errors import SystemicFault

START_SECONDS = 120.0
"""Of CPU time, or of the clock without any: an interpreter that takes longer to start is broken."""
ENDING_SECONDS = 10.0
RING_BYTES = 32 * 1024 * 1024
"""Shared memory for frames on their way; two frames always fit, however large."""
MIN_SLOTS = 2
FREED_SHARE = 4
"""Frames are given back when so many times as many would fill the memory: each message costs both
sides time.
"""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR")
_CALM = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # it may write no file
}
_FINAL = ("end", "verdict", "fault")
OUT_OF_MEMORY = 77
"""The exit status of a child that the system gave no more memory."""


class WorkerThread(threading.Thread):
    """A thread that ends no earlier than the children it starts: these may ask the kernel to die
    with it.
    """


class WorkerDied(Exception):
    """The child hung or died. `reason` is a verdict's; `last_words` is the end of what it wrote to
    stderr.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        last_words: str,
        *,
        status: int = 0,
        from_outside: bool = False,
    ) -> None:
        super().__init__(reason, detail, last_words)
        self.reason = reason
        self.detail = detail
        self.last_words = last_words
        self.status = status
        """As `subprocess` tells it, of a child that died."""
        self.from_outside = from_outside
        """Whether somebody else killed or stopped it, which says nothing of its video."""


class NotStarted(SystemicFault):
    """The child ended, or hung, before it could be asked."""

    def __init__(self, told: str, *, from_outside: bool) -> None:
        super().__init__(told)
        self.from_outside = from_outside
        """Whether somebody else killed or stopped it, so that another may start."""


class DecoderProcess:
    """One running `python -m pipeline.decoding.worker.worker_main`, ready for its first video when
    the constructor returns.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._ring_fd = anonymous_memory(max(RING_BYTES, MIN_SLOTS * 3 * limits.max_pixels))
        self._ring = mmap.mmap(self._ring_fd, 0)
        self._process = _start(self._ring_fd, limits.max_memory_bytes)
        self._pipes = tuple(
            map(_pipe, (self._process.stdin, self._process.stdout, self._process.stderr))
        )
        self._hangs = HangWatch(self.pid)
        self._vitals = ResourceMonitor(
            self.pid, self._pipes[2].fileno(), limits.max_memory_bytes, self._hangs.check
        )
        self._inbox = messages.Inbox(self._pipes[1].fileno(), self._vitals.wait)
        self._unfreed = 0
        self.idle = True
        """Whether the last question was answered in full."""
        _LIVE.add(self)
        self.layers = SandboxLayers(**self._first_answer()["layers"])
        """What the child gave up before its first file."""

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked: not ended, and not the child of the process we were forked
        from.
        """
        return self in _LIVE and self._process.poll() is None

    def _first_answer(self) -> messages.Message:
        self._hangs.start(TimeLimits(START_SECONDS, START_SECONDS))
        try:
            first = self._inbox.receive()
        except Hung as hung:
            how, from_outside = str(hung), hung.from_outside
        except TooMuchMemory as bomb:
            how, from_outside = str(bomb), False
        else:
            if first is not None:
                return first
            code = self._exit_code()
            how, from_outside = describe_exit(code), killed_from_outside(code)
        words = self._vitals.stderr_tail()
        self.end()
        told = f"a decode child did not start ({how}); it said: {words or 'nothing'}"
        raise NotStarted(
            f"{told}. `python -m pipeline doctor` tells more.", from_outside=from_outside
        )

    def ask(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling], backend: str
    ) -> None:
        """Ask for all events of one video. Raises ChildLost."""
        self.idle = False
        self._hangs.start(self._allowed(self._limits.max_wait_seconds))
        self._unfreed = 0
        named = [_named(sampling) for sampling in samplings]
        where = str(path.absolute())
        self._tell(
            "decode",
            video_id=video_id,
            path=where,
            samplings=named,
            backend=backend,
            limits=self._limits,
        )

    def answer(self) -> messages.Message:
        """The next message that is more than a sign of life. Raises ChildLost."""
        while True:
            message = self._receive()
            if message["kind"] == "begun":
                self._hangs.allowed = self._allowed(
                    self._limits.wait_seconds(message["declared_seconds"])
                )
            elif message["kind"] != "alive":
                self.idle = message["kind"] in _FINAL
                return message

    def pixels(self, shape: tuple[int, ...], offset: int) -> NDArray[np.uint8]:
        """Where the child put a frame of that shape: they change after `free_frame`."""
        return np.ndarray(shape, np.uint8, buffer=self._ring, offset=offset)

    def free_frame(self, slots: int) -> None:
        """Give the memory of the oldest frame back to the child. Where many fit (`slots`), the
        child hears of several together, but before we wait for it. Raises ChildLost.
        """
        self._unfreed += 1
        if self._unfreed >= slots // FREED_SHARE:
            self._tell_freed()

    def _tell_freed(self) -> None:
        if self._unfreed:
            self._tell("free", count=self._unfreed)
            self._unfreed = 0

    def end(self) -> None:
        """Kill it and wait until it is gone; more than once is fine."""
        if self in _LIVE:
            _LIVE.discard(self)
            self._process.kill()
            self._process.wait()
            self._close_files()

    def forget(self) -> None:
        """In a forked process: let go of the pipes, so that the true parent's end is the child's
        end too.
        """
        _LIVE.discard(self)
        self._process.returncode = 0  # not ours to wait for
        self._close_files()

    def _close_files(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        os.close(self._ring_fd)
        del (
            self._ring
        )  # a mapping keeps a descriptor of its own; frames somebody still holds keep the mapping

    def _tell(self, kind: str, **fields: object) -> None:
        try:
            messages.send(self._pipes[0].fileno(), kind, **fields)
        except BrokenPipeError:
            raise self._lost() from None

    def _receive(self) -> messages.Message:
        if not self._inbox.holds_one:
            self._tell_freed()
        self._hangs.heartbeat()
        try:
            message = self._inbox.receive()
        except Hung as hung:
            raise WorkerDied(
                "hang", str(hung), self._vitals.stderr_tail(), from_outside=hung.from_outside
            ) from None
        except TooMuchMemory as bomb:
            raise WorkerDied("memory", str(bomb), self._vitals.stderr_tail()) from None
        if message is None:
            raise self._lost()
        return message

    def _allowed(self, cpu_seconds: float) -> TimeLimits:
        names = "[decode] stall_seconds", "[decode] max_wait_seconds and max_wait_ratio"
        return TimeLimits(self._limits.stall_seconds, cpu_seconds, *names)

    def _lost(self) -> WorkerDied:
        code = self._exit_code()
        if code == OUT_OF_MEMORY:
            allowed = DATA_FACTOR * self._limits.max_memory_bytes
            return WorkerDied(
                "memory",
                f"asked the system for more than {allowed:,} bytes",
                self._vitals.stderr_tail(),
            )
        words = self._vitals.stderr_tail()
        last_line = words.splitlines()[-1:] if words else []
        detail = ": ".join([describe_exit(code), *last_line])
        return WorkerDied(
            "crash", detail, words, status=code, from_outside=killed_from_outside(code)
        )

    def _exit_code(self) -> int:
        """It closed its pipe, so it is about to end; help it if it does not."""
        try:
            return self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_LIVE: weakref.WeakSet[DecoderProcess] = weakref.WeakSet()


def _forget_all() -> None:
    for child in list(_LIVE):
        child.forget()


os.register_at_fork(after_in_child=_forget_all)


def _named(sampling: VideoSampling) -> dict[str, object]:
    in_planes = isinstance(sampling, YuvSampling)
    own = sampling.sampling if isinstance(sampling, YuvSampling) else sampling
    return {"type": own.kind, "fields": own, "in_planes": in_planes}


def _start(ring_fd: int, max_memory_bytes: int) -> subprocess.Popen[bytes]:
    """Runs from the folder that holds our packages, so that it finds them whatever folder we were
    called from.

    The kernel's death signal tells of the end of a thread, so only the main thread and a
    ChildKeeper may ask for it.
    """
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    thread = threading.current_thread()
    die_with = (
        os.getpid() if thread is threading.main_thread() or isinstance(thread, WorkerThread) else 0
    )
    try:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline.decoding.worker.worker_main",
                str(ring_fd),
                str(max_memory_bytes),
                str(die_with),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=PROJECT_ROOT,
            env={**passed_on, **_CALM},
            pass_fds=(ring_fd,),
        )
    except OSError as error:
        os.close(ring_fd)
        raise SystemicFault(
            f"cannot start {sys.executable} for decoding: {error.strerror}"
        ) from error


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the child was started without a pipe")
    return pipe


def anonymous_memory(size_bytes: int) -> int:
    """A file descriptor of shared memory that has no name, so nothing is left when its users end.

    Memory is taken as it is written to, so a large size costs nothing by itself.
    """
    if sys.platform == "linux":
        fd = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size_bytes)
    return fd
