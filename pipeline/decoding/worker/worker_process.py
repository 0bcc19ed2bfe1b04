"""Starts, queries and terminates one decode worker.

A worker is a new interpreter (never a fork). It ends with its parent and has no state worth saving,
so SIGKILL is always right.
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
from pipeline.media.decode_settings import DecodeLimits
from pipeline.sampling.planner import VideoSampling, YuvSampling
from storage.base.errors import SystemicFault

START_SECONDS = 120.0
"""CPU time, or elapsed time without any, after which an interpreter cannot start here."""
ENDING_SECONDS = 10.0
"""After a worker closed its pipe; then it is killed."""
RING_BYTES = 32 * 1024 * 1024
"""Shared memory for frames in transit; two frames always fit, however large."""
MIN_SLOTS = 2
FREED_SHARE = 4
"""Frames are freed once this fraction of the memory is read: each message costs both sides time."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR")
# One thread per worker: several of them run in parallel.
_LIMITED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",  # it may write no file
}
_LAST_MESSAGES = ("end", "verdict", "fault")
OUT_OF_MEMORY = 77
"""Exit status of a worker that got no more memory from the system."""


class WorkerThread(threading.Thread):
    """A thread that outlives the workers it starts: they may ask the kernel to die with it."""


class WorkerDied(Exception):
    """The worker hung or died.

    `reason` is that of a video status; `last_words` is the end of the worker's stderr.
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
        """Exit status of a worker that died, as in `subprocess`."""
        self.from_outside = from_outside
        """Whether it was killed or stopped from outside, which says nothing about its video."""


class NotStarted(SystemicFault):
    """The worker ended or hung before its first request."""

    def __init__(self, problem: str, *, from_outside: bool) -> None:
        super().__init__(problem)
        self.from_outside = from_outside
        """Whether it was killed or stopped from outside, so that another may start."""


class DecoderProcess:
    """A running worker, ready for its first video when the constructor returns."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        # Two frames of the largest size allowed must fit.
        self._ring_fd = anonymous_memory(max(RING_BYTES, MIN_SLOTS * 3 * limits.max_pixels))
        self._ring = mmap.mmap(self._ring_fd, 0)
        self._process = _start(self._ring_fd, limits.max_memory_bytes)
        self._pipes = tuple(
            map(_pipe, (self._process.stdin, self._process.stdout, self._process.stderr))
        )
        self._hangs = HangWatch(self.pid)
        self._monitor = ResourceMonitor(
            self.pid, self._pipes[2].fileno(), limits.max_memory_bytes, self._hangs.check
        )
        self._inbox = messages.Inbox(self._pipes[1].fileno(), self._monitor.wait)
        self._unfreed = 0
        self.idle = True
        """Whether the last request was answered completely."""
        _LIVE.add(self)
        # This also waits until the worker is ready.
        self.layers = SandboxLayers(**self._first_answer()["layers"])
        """The sandbox layers that work on this machine."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests: it runs, and was not started before a fork."""
        return self in _LIVE and self._process.poll() is None

    def _first_answer(self) -> messages.Message:
        self._hangs.start(TimeLimits(START_SECONDS, START_SECONDS))
        try:
            first = self._inbox.receive()
        except Hung as hung:
            problem, from_outside = str(hung), hung.from_outside
        except TooMuchMemory as error:
            problem, from_outside = str(error), False
        else:
            if first is not None:
                return first
            code = self._exit_code()
            problem, from_outside = describe_exit(code), killed_from_outside(code)
        last_words = self._monitor.stderr_tail()
        self.end()
        raise NotStarted(
            f"a decode worker did not start ({problem}); its output: {last_words or 'nothing'}. "
            "Run `python -m pipeline doctor` for details.",
            from_outside=from_outside,
        )

    def ask(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling], backend: str
    ) -> None:
        """Request all events of one video. Raises WorkerDied."""
        self.idle = False
        self._hangs.start(self._allowed(self._limits.max_wait_seconds))
        self._unfreed = 0
        self._send(
            "decode",
            video_id=video_id,
            path=str(path.absolute()),
            samplings=[_sampling_fields(sampling) for sampling in samplings],
            backend=backend,
            limits=self._limits,
        )

    def answer(self) -> messages.Message:
        """The next message other than a heartbeat. Raises WorkerDied."""
        while True:
            message = self._receive()
            if message["kind"] == "begun":
                # A longer video may take longer.
                cpu_seconds = self._limits.wait_seconds(message["declared_seconds"])
                self._hangs.limits = self._allowed(cpu_seconds)
            elif message["kind"] != "alive":
                self.idle = message["kind"] in _LAST_MESSAGES
                return message

    def pixels(self, shape: tuple[int, ...], offset: int) -> NDArray[np.uint8]:
        """A frame of that shape in the shared memory. It may change after `free_frame`."""
        return np.ndarray(shape, np.uint8, buffer=self._ring, offset=offset)

    def free_frame(self, slots: int) -> None:
        """Return the memory of the oldest frame to the worker. Raises WorkerDied.

        If many frames fit (`slots`), several are returned together, but always before this process
        waits for the worker.
        """
        self._unfreed += 1
        if self._unfreed >= slots // FREED_SHARE:
            self._send_freed()

    def _send_freed(self) -> None:
        if self._unfreed:
            self._send("free", count=self._unfreed)
            self._unfreed = 0

    def end(self) -> None:
        """Kill it and wait until it is gone. May be called more than once."""
        if self in _LIVE:
            _LIVE.discard(self)
            self._process.kill()
            self._process.wait()
            self._close_files()

    def forget(self) -> None:
        """In a forked process: close the pipes, so that the worker ends with its true parent."""
        _LIVE.discard(self)
        self._process.returncode = 0  # only the true parent can wait for it
        self._close_files()

    def _close_files(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        os.close(self._ring_fd)
        # A mapping keeps its own descriptor, and frames that are still referenced keep the mapping.
        del self._ring

    def _send(self, kind: str, **fields: object) -> None:
        try:
            messages.send(self._pipes[0].fileno(), kind, **fields)
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self) -> messages.Message:
        # The worker may wait for free slots: it gets them before this process waits for it.
        if not self._inbox.has_message:
            self._send_freed()
        self._hangs.heartbeat()
        try:
            message = self._inbox.receive()
        except Hung as hung:
            last_words = self._monitor.stderr_tail()
            raise WorkerDied(
                "hang", str(hung), last_words, from_outside=hung.from_outside
            ) from None
        except TooMuchMemory as error:
            raise WorkerDied("memory", str(error), self._monitor.stderr_tail()) from None
        if message is None:
            raise self._death()
        return message

    def _allowed(self, cpu_seconds: float) -> TimeLimits:
        names = "[decode] stall_seconds", "[decode] max_wait_seconds and max_wait_ratio"
        return TimeLimits(self._limits.stall_seconds, cpu_seconds, *names)

    def _death(self) -> WorkerDied:
        code = self._exit_code()
        last_words = self._monitor.stderr_tail()
        if code == OUT_OF_MEMORY:
            allowed = DATA_FACTOR * self._limits.max_memory_bytes
            detail = f"asked the system for more than {allowed:,} bytes"
            return WorkerDied("memory", detail, last_words)
        last_line = last_words.splitlines()[-1:]
        detail = ": ".join([describe_exit(code), *last_line])
        from_outside = killed_from_outside(code)
        return WorkerDied("crash", detail, last_words, status=code, from_outside=from_outside)

    def _exit_code(self) -> int:
        """Exit code of a worker that closed its pipe; it is killed if it does not end soon."""
        try:
            return self._process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_LIVE: weakref.WeakSet[DecoderProcess] = weakref.WeakSet()
"""Workers that this process started."""


def _forget_all() -> None:
    for worker in list(_LIVE):
        worker.forget()


# A forked process inherits the pipes. If it kept them open, a worker would not notice that its
# parent has ended.
os.register_at_fork(after_in_child=_forget_all)


def _sampling_fields(sampling: VideoSampling) -> dict[str, object]:
    in_planes = isinstance(sampling, YuvSampling)
    inner = sampling.sampling if isinstance(sampling, YuvSampling) else sampling
    return {"type": inner.kind, "fields": inner, "in_planes": in_planes}


def _start(ring_fd: int, max_memory_bytes: int) -> subprocess.Popen[bytes]:
    """Start the worker's interpreter in the project's folder, where it finds our packages."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    thread = threading.current_thread()
    # The kernel's death signal is sent when the starting thread ends, even if its process goes on.
    outlives_worker = thread is threading.main_thread() or isinstance(thread, WorkerThread)
    die_with = os.getpid() if outlives_worker else 0
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
            # Polling a pipe does not see what is in a buffer.
            bufsize=0,
            cwd=PROJECT_ROOT,
            env={**environment, **_LIMITED},
            pass_fds=(ring_fd,),
        )
    except OSError as error:
        os.close(ring_fd)
        problem = f"cannot start {sys.executable} for decoding: {error.strerror}"
        raise SystemicFault(problem) from error


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the worker was started without a pipe")
    return pipe


def anonymous_memory(size_bytes: int) -> int:
    """A file descriptor of shared memory without a name: it is gone when its users end.

    Memory is taken only as it is written, so a large size costs nothing by itself.
    """
    if sys.platform == "linux":
        fd = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size_bytes)
    return fd
