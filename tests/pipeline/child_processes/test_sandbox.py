"""What a decode child cannot do, and what becomes of decoders that abort, hang, eat memory, flood
stderr or just leave.

The misbehaving decoder is a `sitecustomize` of the child's interpreter that replaces one backend:
the file's name says what it does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.extractors.base.sampling import EveryFrame
from pipeline.child_processes.resource_monitor import (
    STDERR_TAIL_BYTES,
    ResourceMonitor,
    TooMuchMemory,
)
from pipeline.child_processes.sandbox import SandboxLayers
from pipeline.decoding.events import DecodeEnd, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.decode_settings import DecodeLimits
from storage.base.errors import VideoError
from storage.base.video_status import State
from tests.conftest import REPOSITORY
from tests.support.videos import coded_video

LIMITS = DecodeLimits(stall_seconds=1, max_memory_bytes=400_000_000)

ATTEMPTS = """
import ctypes, json, resource, socket, sys
from pathlib import Path
from pipeline.child_processes import sandbox

layers = sandbox.enter(300_000_000, None)

def denied(attempt):
    try:
        attempt()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return ""

def grab():
    return bytearray(2_000_000_000)

def write():
    with open(sys.argv[1], "w") as file:
        file.write("x")

def many():
    return [open("/dev/null") for _ in range(100)]

def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5)

print(json.dumps({
    "layers": vars(layers),
    "connect": denied(connect), "write": denied(write), "grab": denied(grab), "many": denied(many),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "size": Path(sys.argv[1]).stat().st_size,
}))
"""

MISBEHAVIOUR = """
import ctypes, os, signal, sys, threading, time
import pipeline.decoding.video_reader

real = pipeline.decoding.video_reader.BACKENDS["pyav"]

def hold_the_lock():
    ctypes.PyDLL(None).sleep(60)

def eat():
    hoard = [bytearray(os.urandom(1_000_000) * 10) for _ in range(50)]
    time.sleep(60)

def spin():
    while True:
        pass

def flood():
    for _ in range(3000):
        os.write(2, b"a line of complaint\\n" * 1000)

def later():
    def strike():
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGSEGV)
    threading.Thread(target=strike, daemon=True).start()

DEEDS = {
    "abort": os.abort, "segv": lambda: os.kill(os.getpid(), signal.SIGSEGV), "leave": lambda: os._exit(0),
    "silence": lambda: os.kill(os.getpid(), signal.SIGKILL), "lock": hold_the_lock, "eat": eat, "flood": flood,
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP), "later": later, "leap": lambda: bytearray(10**12),
    "beat": lambda: None, "spin": spin,
}

def odd(path, probed, tally):
    for frame in real(path, probed, tally):
        yield frame
        if frame.index == 3 and path.stem in DEEDS:
            DEEDS[path.stem]()
        while path.stem == "beat":
            tally.heartbeat()
        if path.stem == "slow":
            time.sleep(0.05)

pipeline.decoding.video_reader.BACKENDS["pyav"] = odd
"""


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a process that entered the sandbox managed to do; somebody listens on the port it
    tries.
    """
    target = tmp_path_factory.mktemp("sandbox") / "file"
    target.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, "-c", ATTEMPTS, str(target), str(server.getsockname()[1])]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_files_memory_and_cores_are_out_of_reach(attempts: dict[str, object]) -> None:
    assert attempts["write"] == "OSError"
    assert attempts["size"] == 0
    assert attempts["many"] == "OSError"
    assert attempts["grab"] == "MemoryError"
    assert attempts["core"] == [0, 0]


def test_the_network_is_out_of_reach_where_the_kernel_allows_it(
    attempts: dict[str, object],
) -> None:
    layers = attempts["layers"]
    assert isinstance(layers, dict)
    if not layers["no_network"]:
        pytest.skip(
            "LOUD SKIP: this kernel gives no network namespace; the child could reach the network here"
        )
    assert attempts["connect"] == "OSError"


def test_the_status_says_what_holds() -> None:
    some = SandboxLayers(False, True, True, True, True, True, False)
    assert str(some) == (
        "5 of 7 layers: no_new_files, no_core, few_open_files, bounded_memory, no_new_privileges; "
        "without no_network, dies_with_parent"
    )


@pytest.fixture
def odd_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SubprocessDecoder]:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(MISBEHAVIOUR)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)]))
    with SubprocessDecoder("pyav", LIMITS) as decoder:
        yield decoder


def rows(decoder: SubprocessDecoder, path: Path) -> int:
    events = list(decoder.decode(path.stem, path, [EveryFrame()]))
    assert isinstance(events[-1], DecodeEnd)
    return sum(isinstance(event, WindowEvent) for event in events)


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder with the same video under every name."""
    first = coded_video(tmp_path / "good.mp4", 40)
    for name in ("abort", "segv", "leave", "silence", "lock", "eat", "leap", "flood", "stop", "later", "beat",
                 "slow", "spin"):  # fmt: skip
        (tmp_path / f"{name}.mp4").hardlink_to(first)
    return tmp_path


@pytest.mark.parametrize(
    ("deed", "status"),
    [
        ("abort", r"crash \(SIGABRT"),
        ("segv", r"crash \(SIGSEGV"),
        ("leave", r"crash \(exit status 0"),
        ("silence", r"crash \(SIGKILL"),
        (
            "lock",
            r"hang \(no sign of life for 1 s, and no CPU time used; \[decode\] stall_seconds\)",
        ),
        (
            "stop",
            r"hang \(no sign of life for 1 s, and no CPU time used: it was stopped, .*stall_seconds\)",
        ),
        ("spin", r"hang \(no sign of life for 1 s of CPU time; \[decode\] stall_seconds\)"),
        ("eat", r"memory \([\d,]+ bytes of memory, allowed 400,000,000\)"),
        ("leap", r"memory \(asked the system for more than 800,000,000 bytes\)"),
    ],
)
def test_each_deed_is_one_verdict_and_the_next_video_is_well(
    deed: str, status: str, odd_child: SubprocessDecoder, named: Path
) -> None:
    with pytest.raises(VideoError, match=f"^{deed}: quarantined:{status}") as caught:
        rows(odd_child, named / f"{deed}.mp4")
    assert caught.value.status.state is State.QUARANTINED
    assert odd_child.pid is None
    assert rows(odd_child, named / "good.mp4") == 40


@pytest.mark.parametrize(
    ("deed", "reason"), [("segv", "crash"), pytest.param("stop", "hang", marks=pytest.mark.slow)]
)
def test_a_deed_in_a_used_child_is_tried_in_a_fresh_one_and_then_blamed(
    deed: str, reason: str, odd_child: SubprocessDecoder, named: Path
) -> None:
    assert rows(odd_child, named / "good.mp4") == 40
    with pytest.raises(VideoError, match=f"^{deed}: quarantined:{reason}"):
        rows(odd_child, named / f"{deed}.mp4")
    assert odd_child.pid is None


def test_a_flood_on_stderr_costs_nothing(odd_child: SubprocessDecoder, named: Path) -> None:
    # 60 MB of complaints, more than any pipe holds: they are read and forgotten
    assert rows(odd_child, named / "flood.mp4") == 40


def test_poison_that_strikes_later_blames_no_bystander(
    odd_child: SubprocessDecoder, named: Path
) -> None:
    assert rows(odd_child, named / "later.mp4") == 40
    poisoned = odd_child.pid
    events = list(
        odd_child.decode("slow", named / "slow.mp4", [EveryFrame()])
    )  # takes 2 s, and dies after 0.2 s
    assert odd_child.pid != poisoned
    windows = [event.window.frame_indices for event in events if isinstance(event, WindowEvent)]
    assert windows == [(n,) for n in range(40)]  # none lost, none twice


def test_the_time_for_one_video_grows_with_its_declared_length(
    named: Path, odd_child: SubprocessDecoder
) -> None:
    limits = DecodeLimits(max_wait_seconds=0.25, max_wait_ratio=0.1875, max_seconds=100)
    assert (limits.wait_seconds(40.0), limits.wait_seconds(None)) == (7.75, 19.0)
    # 40 frames, 10 a second: 0.25 + 0.1875 * 4 s
    message = r"beat: quarantined:hang \(not done after 1 s of CPU time; \[decode\] max_wait_seconds and max_wait"
    with SubprocessDecoder("pyav", limits) as impatient, pytest.raises(VideoError, match=message):
        rows(impatient, named / "beat.mp4")


def test_a_video_of_too_many_frames_is_stopped(named: Path) -> None:
    message = r"good: rejected:too_long \(more than 39 frames\)"
    with (
        SubprocessDecoder("pyav", DecodeLimits(max_frames=39)) as decoder,
        pytest.raises(VideoError, match=message),
    ):
        rows(decoder, named / "good.mp4")
    with SubprocessDecoder("pyav", DecodeLimits(max_frames=40)) as decoder:
        assert rows(decoder, named / "good.mp4") == 40


def test_a_real_child_says_which_layers_hold(named: Path) -> None:
    with SubprocessDecoder() as decoder:
        assert decoder.layers is None
        rows(decoder, named / "good.mp4")
        layers = decoder.layers
    assert layers is not None
    assert layers.no_new_files
    assert layers.no_core
    assert layers.few_open_files
    assert layers.bounded_memory
    if sys.platform == "linux":
        assert layers.dies_with_parent
        assert layers.no_new_privileges


def test_last_words_are_the_end_of_many() -> None:
    reading, writing = os.pipe()
    vitals = ResourceMonitor(os.getpid(), reading, 10**15)
    os.write(writing, b"x" * 60_000 + b"the end\n")
    words = vitals.stderr_tail()
    assert words.endswith("xthe end")
    assert len(words) == STDERR_TAIL_BYTES - 1
    os.close(writing)
    assert not vitals.wait(reading, 0.2) or vitals.stderr_tail() == words
    os.close(reading)


def test_memory_is_seen_while_waiting() -> None:
    reading, writing = os.pipe()
    errors, errors_end = os.pipe()
    with pytest.raises(TooMuchMemory, match="bytes of memory, allowed 1"):
        ResourceMonitor(os.getpid(), errors, 1).wait(reading, 5)
    for fd in (reading, writing, errors, errors_end):
        os.close(fd)
