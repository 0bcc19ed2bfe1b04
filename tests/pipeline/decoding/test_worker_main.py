"""The worker as a program: light, quiet on stdout, bounded in memory, ends with its parent."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.extractors.base.sampling import ConsecutiveFrames
from pipeline.child_processes.sandbox import SandboxLayers
from pipeline.decoding.worker import messages
from pipeline.decoding.worker.worker_main import MAX_SLOTS, Ring, check_backend
from pipeline.decoding.worker.worker_process import MIN_SLOTS, RING_BYTES, anonymous_memory
from pipeline.media.decode_settings import DecodeLimits
from storage.base.errors import SystemicFault
from tests.conftest import REPOSITORY
from tests.support.videos import coded_video


def test_a_child_imports_no_torch() -> None:
    code = (
        "import sys, pipeline.decoding.worker.worker_main;"
        "print(sorted({'torch', 'cv2', 'h5py', 'yt_dlp', 'luigi'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True, text=True
    )
    assert told.stdout.strip() == "[]"


def start(ring_fd: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "pipeline.decoding.worker.worker_main",
        str(ring_fd),
        "1000000000",
        "0",
    ]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        bufsize=0,
        pass_fds=(ring_fd,),
    )


@pytest.mark.parametrize(
    ("said", "code", "stderr"),
    [
        (b"", 0, b""),  # the parent is gone: an orderly end
        (b"\xff\xff\xff\xff", 1, b"ValueError: a message claims 4294967295 bytes"),
        (b"\0\0\0\x11{'not': 'json'}  ", 1, b"JSONDecodeError"),
        (b'\0\0\0\x11{"kind":"decode"}', 1, b"KeyError: 'limits'"),
    ],
)
def test_it_ends_with_its_parent_and_a_bug_leaves_a_traceback(
    said: bytes, code: int, stderr: bytes
) -> None:
    ring_fd = anonymous_memory(RING_BYTES)
    with start(ring_fd) as child:
        out, error = child.communicate(said, timeout=30)
    os.close(ring_fd)
    assert child.returncode == code
    assert stderr in error
    length = int.from_bytes(out[:4], "big")
    assert json.loads(out[4:])["kind"] == "ready"
    assert len(out) == 4 + length


def test_long_decoding_without_a_row_gives_signs_of_life(tmp_path: Path) -> None:
    # 50 packets, none of which completes a window; the time between signs of life is set to nearly
    # nothing.
    path = coded_video(tmp_path / "v.mp4", 50)
    samplings = [{"type": "ConsecutiveFrames", "fields": ConsecutiveFrames(51, 1)}]
    ring_fd = anonymous_memory(RING_BYTES)
    with start(ring_fd) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        request = {"video_id": "v", "path": str(path), "samplings": samplings, "backend": "pyav"}
        messages.send(
            child.stdin.fileno(), "decode", **request, limits=DecodeLimits(stall_seconds=1e-6)
        )
        inbox = messages.Inbox(child.stdout.fileno())
        kinds = [message["kind"] for _ in range(54) if (message := inbox.receive(30))]
        child.stdin.close()
    os.close(ring_fd)
    assert kinds == [
        "ready",
        "begun",
        *["alive"] * 51,
        "end",
    ]  # a sign before each packet, and one before the decoder is flushed


def frame_of(
    number: int, height: int = 4, width: int = 5
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((height, width, 3), number, np.uint8)


def test_ring_waits_for_a_free_slot_and_reuses_it() -> None:
    fd = anonymous_memory(RING_BYTES)
    waits: list[int] = []

    def one() -> int:
        waits.append(len(waits))
        return 1

    ring = Ring(fd, one)
    offsets = [ring.place(frame_of(number)) for number in range(MAX_SLOTS)]
    assert offsets == [60 * slot for slot in range(MAX_SLOTS)]  # 4 x 5 x 3 bytes each
    assert waits == []
    assert ring.place(frame_of(99)) == 0
    assert waits == [0]
    memory = mmap.mmap(fd, os.fstat(fd).st_size)
    assert (memory[0], memory[60]) == (99, 1)
    os.close(fd)


def test_ring_hears_of_several_free_slots_together() -> None:
    fd, waits = anonymous_memory(RING_BYTES), []

    def three() -> int:
        waits.append(1)
        return 3

    ring = Ring(fd, three)
    offsets = [ring.place(frame_of(number)) for number in range(MAX_SLOTS + 7)]
    assert offsets == [60 * (number % MAX_SLOTS) for number in range(MAX_SLOTS + 7)]
    assert len(waits) == 3  # for the seven slots that were used again
    os.close(fd)


def test_ring_waits_for_all_slots_before_frames_grow() -> None:
    fd, waits = anonymous_memory(RING_BYTES), []

    def one() -> int:
        waits.append(1)
        return 1

    ring = Ring(fd, one)
    for number in range(3):
        ring.place(frame_of(number))
    assert ring.place(frame_of(7, 8, 10)) == 0
    assert len(waits) == 3
    os.close(fd)


def test_ring_of_giants_holds_two_and_gives_its_pages_back() -> None:
    giant = frame_of(1, 3000, 4000)  # 36 MB: more than the ring's usual size
    assert giant.nbytes > RING_BYTES
    fd = anonymous_memory(MIN_SLOTS * giant.nbytes)
    ring = Ring(fd, lambda: 1)
    assert [ring.place(giant) for _ in range(3)] == [0, giant.nbytes, 0]
    ring.reset()
    assert os.fstat(fd).st_blocks * 512 < RING_BYTES
    assert ring.place(frame_of(3)) == 0
    with pytest.raises(
        ValueError, match="a frame of 108000000 bytes; the ring has 72000000: raise max_pixels"
    ):
        ring.place(frame_of(1, 6000, 6000))
    os.close(fd)


def test_messages_survive_being_cut_anywhere() -> None:
    reading, writing = os.pipe()
    inbox = messages.Inbox(reading)
    messages.send(writing, "frame", index=3, spans=(0.1, 1 / 3))
    whole = os.read(reading, 1000)
    for byte in whole[:-1]:
        os.write(writing, bytes([byte]))
        with pytest.raises(messages.NoAnswer):
            inbox.receive(timeout_seconds=0)
    os.write(writing, whole[-1:])
    assert inbox.receive(timeout_seconds=1) == {"kind": "frame", "index": 3, "spans": [0.1, 1 / 3]}
    os.close(writing)
    assert inbox.receive() is None
    os.close(reading)


@pytest.mark.parametrize("missing", ["no_new_files", "bounded_memory", "no_new_privileges"])
def test_a_decoder_with_known_holes_is_refused_outside_its_sandbox(missing: str) -> None:
    complete = dict.fromkeys((field.name for field in dataclasses.fields(SandboxLayers)), True)
    check_backend("decord", SandboxLayers(**complete))
    incomplete = SandboxLayers(**{**complete, missing: False})
    check_backend("pyav", incomplete)
    with pytest.raises(SystemicFault, match=f"without {missing}. Choose backend = pyav"):
        check_backend("decord", incomplete)
