"""Both decoders yield the same events; a worker that hangs or dies costs one video."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from models.extractors.base.sampling import ConsecutiveFrames, EveryFrame, FramesAtRate, Sampling
from pipeline.decoding.events import DecodeEnd, Decoder, Event, FrameEvent, WindowEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.decoding.worker.worker_process import DecoderProcess, WorkerDied
from pipeline.media.decode_settings import DEFAULT_LIMITS, DecodeLimits
from pipeline.sampling.planner import Window
from storage.base.errors import SystemicFault, VideoError
from storage.base.video_status import State
from tests.conftest import REPOSITORY
from tests.support.videos import coded_video, encode, read_code

ALL: list[Sampling] = [EveryFrame()]
SHORT_STALL = DecodeLimits(stall_seconds=1.5)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 coded frames, 10 a second: more than the ring holds."""
    return coded_video(
        tmp_path_factory.mktemp("decoder") / "v.mp4", 200, "-pix_fmt", "yuv420p", "-bf", "2"
    )


@pytest.fixture
def child() -> Iterator[SubprocessDecoder]:
    with SubprocessDecoder() as decoder:
        yield decoder


@pytest.fixture
def impatient() -> Iterator[SubprocessDecoder]:
    with SubprocessDecoder("pyav", SHORT_STALL) as decoder:
        yield decoder


def told(decoder: Decoder, path: Path, samplings: list[Sampling]) -> list[object]:
    """Events with pixels replaced by the code they hold."""
    return [
        (event.index, read_code(event.rgb), event.wanted_by)
        if isinstance(event, FrameEvent)
        else event
        for event in decoder.decode("v", path, samplings)
    ]


def test_events_of_two_samplings_by_hand(video: Path) -> None:
    # 200 frames, 10 a second. Windows of 60 every 80: 0..59, 80..139; 160..219 does not fit. Every
    # 15 s: frames 0, 150.
    events = told(InlineDecoder(), video, [ConsecutiveFrames(60, 80), FramesAtRate(1 / 15)])
    frames = [event for event in events if isinstance(event, tuple)]
    wanted = [*range(60), *range(80, 140), 150]
    assert frames == [(n, n, (0, 1) if n == 0 else (1,) if n == 150 else (0,)) for n in wanted]
    assert [event for event in events if isinstance(event, WindowEvent)] == [
        WindowEvent(1, Window((0,), 0.0, 0.1)),
        WindowEvent(0, Window(tuple(range(60)), 0.0, 6.0)),
        WindowEvent(0, Window(tuple(range(80, 140)), 8.0, 14.0)),
        WindowEvent(1, Window((150,), 15.0, 15.1)),
    ]
    end = events[-1]
    assert isinstance(end, DecodeEnd)
    assert (end.summary.frames_decoded, end.summary.end_seconds, end.probe.width) == (200, 20.0, 64)


def test_child_tells_what_inline_tells_video_after_video(
    video: Path, child: SubprocessDecoder, tmp_path: Path
) -> None:
    samplings: list[Sampling] = [ConsecutiveFrames(16, 8), FramesAtRate(3), EveryFrame()]
    larger = encode(
        tmp_path / "l.mkv", [np.full((90, 120, 3), n, np.uint8) for n in range(40)], codec="ffv1"
    )
    pids = set()
    for path in (video, larger, video):
        assert told(child, path, samplings) == told(InlineDecoder(), path, samplings)
        pids.add(child.pid)
    assert len(pids) == 1


def test_pixels_from_the_child_are_the_pixels(video: Path, child: SubprocessDecoder) -> None:
    pairs = zip(child.decode("v", video, ALL), InlineDecoder().decode("v", video, ALL), strict=True)
    for ours, reference in pairs:
        if isinstance(ours, FrameEvent) and isinstance(reference, FrameEvent):
            assert ours.rgb.dtype == np.uint8
            np.testing.assert_array_equal(ours.rgb, reference.rgb)


def test_verdicts_cross_the_pipe_and_leave_the_child_alive(
    video: Path, child: SubprocessDecoder, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"<html>")
    told(child, video, ALL)
    pid = child.pid
    for decoder in (child, InlineDecoder()):
        with pytest.raises(
            VideoError, match=r"bad: rejected:not_a_video \(starts like none of mov, matroska"
        ) as caught:
            list(decoder.decode("bad", bad, ALL))
        assert caught.value.status.state is State.REJECTED
        with pytest.raises(
            SystemicFault, match=r"cannot read the video file .*gone\.mp4: No such file"
        ):
            list(decoder.decode("gone", tmp_path / "gone.mp4", ALL))
    assert len(told(child, video, ALL)) == 401  # 200 frames, 200 windows, one end
    assert child.pid == pid


@pytest.mark.parametrize(
    "number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS], ids=lambda s: s.name
)
def test_a_child_that_dies_costs_its_video_only(
    number: signal.Signals, video: Path, child: SubprocessDecoder
) -> None:
    events = child.decode("v", video, ALL)
    next(events)
    assert child.pid is not None
    os.kill(child.pid, number)
    with pytest.raises(VideoError, match=rf"v: quarantined:crash \({number.name}") as caught:
        list(events)
    assert caught.value.status.reason == "crash"
    assert child.pid is None
    assert len(told(child, video, ALL)) == 401


def test_a_child_that_dies_between_videos_costs_nothing(
    video: Path, child: SubprocessDecoder
) -> None:
    told(child, video, ALL)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    while exists(first):
        time.sleep(0.01)
    assert len(told(child, video, ALL)) == 401
    assert child.pid != first


OUTSIDE = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGSTOP]


def disturbed(
    decoder: SubprocessDecoder, video: Path, number: signal.Signals, times: int
) -> list[object]:
    """Events of a video whose worker gets a signal at its first event, as do all that follow it."""
    events: list[object] = []
    hit: list[int | None] = []
    for event in decoder.decode("v", video, ALL):
        events.append(
            (event.index, read_code(event.rgb), event.wanted_by)
            if isinstance(event, FrameEvent)
            else event
        )
        if len(hit) < times and decoder.pid not in hit and decoder.pid is not None:
            hit.append(decoder.pid)
            os.kill(decoder.pid, number)
    assert len(hit) == times
    return events


@pytest.mark.parametrize("number", OUTSIDE, ids=lambda s: s.name)
def test_a_child_that_somebody_else_ended_or_stopped_gets_one_more_try(
    number: signal.Signals, video: Path, impatient: SubprocessDecoder
) -> None:
    """As the kernel does when memory is short, or an operator."""
    assert disturbed(impatient, video, number, 1) == told(InlineDecoder(), video, ALL)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGKILL, VideoError, r"v: quarantined:crash \(SIGKILL"),
        (
            signal.SIGSTOP,
            VideoError,
            r"v: quarantined:hang \(no sign of life for 1.5 s, .* it was stopped",
        ),
        (
            signal.SIGTERM,
            SystemicFault,
            r"a child was ended by SIGTERM\. Nothing was lost; run again",
        ),
    ],
    ids=["SIGKILL", "SIGSTOP", "SIGTERM"],
)
def test_what_happens_to_the_second_child_too_is_told(
    number: signal.Signals,
    error: type[Exception],
    message: str,
    video: Path,
    impatient: SubprocessDecoder,
) -> None:
    with pytest.raises(error, match=message):
        disturbed(impatient, video, number, 2)
    assert impatient.pid is None
    assert len(told(impatient, video, ALL)) == 401


def test_waiting_for_a_turn_is_no_hang(video: Path) -> None:
    """On a busy machine a worker may not run for longer than it may decode in all."""
    limits = DecodeLimits(stall_seconds=60, max_wait_seconds=2.5, max_wait_ratio=1e-9)
    with SubprocessDecoder("pyav", limits) as decoder:
        events = decoder.decode("v", video, ALL)
        next(events)
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        wake = threading.Timer(3.0, os.kill, (decoder.pid, signal.SIGCONT))
        wake.start()
        assert sum(isinstance(event, WindowEvent) for event in events) == 200
        wake.join()


def test_silence_while_the_consumer_works_is_no_hang(
    video: Path, impatient: SubprocessDecoder
) -> None:
    events = impatient.decode("v", video, ALL)
    next(events)
    time.sleep(SHORT_STALL.stall_seconds + 0.2)
    assert sum(isinstance(event, WindowEvent) for event in events) == 200


def test_decoding_long_without_a_row_is_no_hang(
    impatient: SubprocessDecoder, tmp_path: Path
) -> None:
    # Noise is slow to decode, and no window of 13 frames fits into 12: all the child can send are
    # signs of life.
    noise = np.random.default_rng(0).integers(0, 256, (12, 720, 1280, 3), np.uint8)
    path = encode(tmp_path / "noise.mkv", list(noise), codec="ffv1")
    assert len(told(impatient, path, [ConsecutiveFrames(13, 1)])) == 1


def test_a_bug_in_the_child_ends_in_its_traceback(video: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(EveryFrame):
        kind: ClassVar[str] = "Odd"

    with pytest.raises(TypeError, match="no planner for Odd"):
        list(SubprocessDecoder().decode("v", video, [Odd()]))
    child = DecoderProcess(DEFAULT_LIMITS)
    child.ask("v", video, [Odd()], "pyav")
    with pytest.raises(WorkerDied) as caught:
        child.answer()
    assert (caught.value.reason, caught.value.detail) == ("crash", "exit status 1: KeyError: 'Odd'")
    assert "Traceback (most recent call last)" in caught.value.last_words
    child.end()


def test_leaving_early_leaves_no_child(video: Path, child: SubprocessDecoder) -> None:
    events = child.decode("v", video, ALL)
    next(events)
    pid = child.pid
    assert pid is not None
    events.close()
    assert not exists(pid)
    assert len(told(child, video, ALL)) == 401


def test_a_slow_consumer_holds_the_child_back(video: Path, tmp_path: Path) -> None:
    # 60 frames of 640 x 480 x 3 bytes would be 55 MB; the ring takes 32 MiB.
    path = encode(
        tmp_path / "hd.mkv", [np.full((480, 640, 3), n, np.uint8) for n in range(60)], codec="ffv1"
    )
    before = shared_bytes()
    with SubprocessDecoder() as decoder:
        seen = 0
        for event in decoder.decode("v", path, ALL):
            if isinstance(event, FrameEvent):
                if event.index in (0, 25):
                    time.sleep(0.3)
                    assert shared_bytes() - before <= 32 * 1024 * 1024
                assert int(event.rgb[0, 0, 0]) == int(event.rgb[-1, -1, -1])
                seen += 1
    assert seen == 60


def open_files() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def shared_bytes() -> int:
    """Bytes of nameless shared memory that this process has open; a mapping counts twice."""
    links = [
        link
        for link in open_files()
        if link.is_symlink() and "memfd:frames" in str(link.readlink())
    ]
    return sum({link.stat().st_ino: link.stat().st_blocks * 512 for link in links}.values())


def resident_bytes(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_child_does_not_grow_with_its_videos(child: SubprocessDecoder, tmp_path: Path) -> None:
    # 3 frames of 1280 x 720 x 1.5 bytes: one frame a video kept alive would add 33 MB in 24 videos.
    # The allocator's own wandering, after a dozen videos to settle, stays well below half of that.
    frames = [np.full((720, 1280, 3), n, np.uint8) for n in range(3)]
    path = encode(tmp_path / "v.mp4", frames, "-pix_fmt", "yuv420p")
    sizes = []
    for _ in range(36):
        told(child, path, ALL)
        sizes.append(resident_bytes(child.pid))
    assert sizes[35] - sizes[11] < 15_000_000


def test_nothing_is_left_open_after_close(video: Path) -> None:
    before = open_files()
    with SubprocessDecoder(recycle_after_videos=1) as decoder:
        pids = [decoder.pid for _ in range(3) if told(decoder, video, ALL)]
    decoder.close()
    assert len(set(pids)) == 3
    assert open_files() == before
    assert not any(exists(pid) for pid in pids if pid)


def test_it_works_from_another_folder_and_with_relative_paths(
    video: Path, child: SubprocessDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video.parent)
    assert len(told(child, Path(video.name), ALL)) == 401


def test_one_video_at_a_time(video: Path, child: SubprocessDecoder) -> None:
    events = child.decode("v", video, ALL)
    next(events)
    with pytest.raises(
        RuntimeError, match="this decoder is busy with another video: end that iteration"
    ):
        next(child.decode("w", video, ALL))
    assert sum(isinstance(event, WindowEvent) for event in events) == 200


def test_threads_with_a_decoder_each(video: Path) -> None:
    counts: list[int] = []

    def work() -> None:
        with SubprocessDecoder() as decoder:
            counts.append(len(told(decoder, video, ALL)))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [401, 401]


def _count_in_process(video: Path, results: multiprocessing.Queue[int]) -> None:
    with SubprocessDecoder() as decoder:
        results.put(len(told(decoder, video, ALL)))


def test_a_daemonic_process_may_decode(video: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=_count_in_process, args=(video, results), daemon=True)
    process.start()
    assert results.get(timeout=60) == 401
    process.join(60)
    results.close()


FORK = """
import os, sys
from pathlib import Path
from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder

decoder, video = SubprocessDecoder(), Path(sys.argv[1])
count = lambda: len(list(decoder.decode("v", video, [EveryFrame()])))
first = count()
mine = decoder.pid
if os.fork() == 0:
    ok = count() == first and decoder.pid != mine
    decoder.close()
    os._exit(0 if ok else 7)
code = os.waitstatus_to_exitcode(os.wait()[1])
print(first, code, count(), decoder.pid == mine)
decoder.close()
"""


def test_a_forked_process_starts_its_own_child(video: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FORK, str(video)]
    calm = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
    }  # newer Pythons warn of forks beside numpy's threads
    done = subprocess.run(
        command, cwd=REPOSITORY, env=calm, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("401 0 401 True\n", "")


ORPHAN = """
import os, sys, time
from pathlib import Path
from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder

decoder = SubprocessDecoder()
events = decoder.decode("v", Path(sys.argv[1]), [EveryFrame()])
next(events)
bystander = os.fork()
if bystander:
    print(decoder.pid, bystander, flush=True)
time.sleep(600)
"""


def test_the_child_of_a_killed_parent_ends_though_a_fork_of_the_parent_lives(video: Path) -> None:
    command = [sys.executable, "-c", ORPHAN, str(video)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, bystander = map(int, parent.stdout.readline().split())
        assert exists(pid)
        parent.kill()
        deadline = time.monotonic() + 30
        while exists(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        orphan_lives, bystander_lives = exists(pid), exists(bystander)
        os.kill(bystander, signal.SIGKILL)
    assert (orphan_lives, bystander_lives) == (False, True)


def exists(pid: int) -> bool:
    """Whether the process lives; one that only waits for its parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_a_machine_that_cannot_start_children_is_at_fault(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_files()
    for python, message in [
        ("/nowhere/python", "cannot start /nowhere/python"),
        ("/bin/false", r"did not start \(exit status 1\); its output"),
    ]:
        monkeypatch.setattr(sys, "executable", python)
        with pytest.raises(SystemicFault, match=message):
            list(SubprocessDecoder().decode("v", video, ALL))
    assert open_files() == before


@pytest.mark.parametrize("order", ["KILL", "TERM", "HUP"])
def test_a_child_that_somebody_ends_while_it_starts_is_started_once_more(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    python, once = tmp_path / "python", tmp_path / "once"
    python.write_text(
        f'#!/bin/sh\nmkdir {once} 2>/dev/null && kill -{order} $$\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with SubprocessDecoder() as decoder:
        assert (
            sum(isinstance(event, FrameEvent) for event in decoder.decode("v", video, ALL)) == 200
        )
    assert once.exists()


def test_settings_are_checked_when_a_decoder_is_made() -> None:
    for make in (SubprocessDecoder, InlineDecoder):
        with pytest.raises(
            ValueError, match="unknown decoder 'magic'; known decoders are pyav, torchcodec, decord"
        ):
            make("magic")
    with pytest.raises(ValueError, match="recycle_after_videos must be at least 1, got 0"):
        SubprocessDecoder(recycle_after_videos=0)


def test_close_is_needed_once_and_harmless_twice(video: Path) -> None:
    decoder = SubprocessDecoder()
    decoder.close()
    events: Iterator[Event] = decoder.decode("v", video, ALL)
    assert sum(isinstance(event, FrameEvent) for event in events) == 200
    decoder.close()
    decoder.close()
    assert decoder.pid is None
