"""All backends return ffmpeg's pictures at ffmpeg's times, and report losses of damaged files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from models.extractors.base.contract import Frame
from models.extractors.base.sampling import EveryFrame
from pipeline.decoding.backends.fallback import ReaderFailed, guarded_frames
from pipeline.decoding.events import DecodeEnd, FrameEvent
from pipeline.decoding.frame_timing import MAX_GAPS, FrameTiming
from pipeline.decoding.video_reader import BACKENDS, DecodeSummary, VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.container.packets import Tally
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.probe import Probe, probe
from storage.base.fingerprint import to_json_value
from tests.pipeline.decoding.test_video_reader import bare
from tests.support.backend_conformance import (
    ON_PROCESSORS,
    Delivered,
    Shown,
    by_backend,
    by_ffmpeg,
    need,
)
from tests.support.video_cases import CASES, make
from tests.support.videos import coded_frame, coded_video, encode, ffmpeg

NOT_TORCHCODEC = {"mirrored", "avi without times", "mpeg2 in ts", "h264 in ts"}
NOT_DECORD = NOT_TORCHCODEC | {
    *("narrow", "10 bit h264", "hevc 10 bit", "av1", "theora", "no duration", "lossless rgb"),
}
SALVAGED = {"pyav": set[str](), "torchcodec": NOT_TORCHCODEC, "decord": NOT_DECORD}
"""Backend → the cases that it must leave to PyAV, as `docs/explanation/decoding.md` shows."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cases")


@cache
def made(folder: Path, name: str) -> tuple[Path, tuple[Shown, ...]]:
    """A case's file and what ffmpeg shows of it, once for all backends."""
    path = make(folder, name)
    return path, by_ffmpeg(path)


@cache
def damaged_as(kind: str, suffix: str, whole: Path) -> tuple[Path, tuple[Shown, ...]]:
    """A damaged file beside `whole` and what ffmpeg shows of it, once for all backends."""
    muxed, damaged = (whole.with_name(f"{name} {kind}.{suffix}") for name in ("muxed", "damaged"))
    ffmpeg("-i", whole, "-c", "copy", "-movflags", "+faststart", muxed)
    damaged.write_bytes(DAMAGES[kind](muxed.read_bytes()))
    return damaged, by_ffmpeg(damaged)


@pytest.mark.parametrize("backend", ON_PROCESSORS)
@pytest.mark.parametrize("name", CASES)
def test_every_backend_gives_ffmpegs_frames_at_ffmpegs_times(
    name: str, backend: str, folder: Path
) -> None:
    need(backend)
    path, reference = made(folder, name)
    assert len(reference) in (CASES[name].frames, 20)  # the edit list hides the first 10
    told = by_backend(backend, path)
    if name == "raw h264":  # a bare stream has no container, so it is never opened
        assert told.state == "refused: not_a_video"
        return
    assert told.frames == reference
    assert told.state == ("salvaged" if name in SALVAGED[backend] else "ok")
    assert told.summary is not None
    assert (told.summary.frames_lost, told.summary.decode_errors, told.summary.gaps_seconds) == (
        0,
        0,
        (),
    )
    assert (told.summary.damaged_pictures, told.summary.clock_jumps, told.summary.file_damage) == (
        0,
        0,
        "",
    )


@pytest.mark.parametrize("backend", ON_PROCESSORS)
def test_every_backend_runs_in_a_real_child(backend: str, folder: Path) -> None:
    need(backend)
    path = make(folder, "b-frames")
    with SubprocessDecoder(backend) as decoder:
        *events, end = decoder.decode("v", path, [EveryFrame()])
    assert isinstance(end, DecodeEnd)
    assert (end.summary.frames_decoded, end.summary.salvaged_by) == (30, "")
    assert len(events) == 60  # a frame and a window each


def zeroed(whole: bytes, count: int) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes(count) + whole[middle + count :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "60 kB zeroed": lambda whole: zeroed(whole, 60_000),
}


@pytest.fixture(scope="module")
def fourteen_seconds(folder: Path) -> Path:
    """420 frames, 30 a second, a key frame every 2 s, index in front, 1.5 MB."""
    path = folder / "whole.mp4"
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=320x240:rate=30,noise=alls=20:allf=t",
        "-frames:v",
        "420",
    )
    quick = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-threads", "1")
    ffmpeg(*source, *quick, "-g", "60", "-bf", "2", "-crf", "32", "-movflags", "+faststart", path)
    return path


def kept(told: Delivered) -> DecodeSummary:
    assert told.summary is not None
    return told.summary


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("backend", ON_PROCESSORS)
def test_damaged_file_gives_ffmpegs_frames_and_tells_what_is_lost(
    backend: str,
    damage: str,
    suffix: str,
    fourteen_seconds: Path,
) -> None:
    need(backend)
    damaged, reference = damaged_as(damage, suffix, fourteen_seconds)
    told = by_backend(backend, damaged)
    summary = kept(told)
    rising = [
        shown for n, shown in enumerate(reference) if shown.pts_seconds > last_before(reference, n)
    ]
    assert list(told.frames) == rising
    assert summary.frames_decoded + summary.frames_dropped == len(reference) < 420
    if suffix == "ts" and summary.end_seconds < 9:  # a cut stream that never said how long it is
        assert all(end - start < 0.1 for start, end in summary.gaps_seconds)
        assert "bytes" in summary.file_damage
        return
    assert summary.gaps_seconds
    if suffix == "mp4":
        assert (summary.frames_declared, summary.frames_lost) == (420, 420 - len(reference))
    if backend != "pyav" and suffix == "mp4":
        assert summary.salvaged_by.startswith("pyav from frame ")
    uncovered = sum(end - start for start, end in summary.gaps_seconds)
    start = reference[0].pts_seconds
    if suffix == "mkv":  # its times are whole milliseconds
        assert start + summary.covered_seconds + uncovered == pytest.approx(14.0, abs=0.05)
    if suffix == "mp4":
        assert start + summary.covered_seconds + uncovered == pytest.approx(14.0, abs=1e-6)
    assert (
        len(
            {
                str(to_json_value({**vars(kept(one)), "salvaged_by": ""}))
                for one in (told, by_backend("pyav", damaged))
            }
        )
        == 1
    )


def last_before(reference: tuple[object, ...], n: int) -> float:
    return max((getattr(shown, "pts_seconds") for shown in reference[:n]), default=-1.0)  # noqa: B009


def test_the_declared_example_by_numbers(fourteen_seconds: Path, tmp_path: Path) -> None:
    whole = fourteen_seconds.read_bytes()
    cut, worn = tmp_path / "cut.mp4", tmp_path / "worn.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    worn.write_bytes(zeroed(whole, 60_000))
    half, middle = kept(by_backend("pyav", cut)), kept(by_backend("pyav", worn))
    assert 150 < half.frames_decoded < 270
    assert half.frames_decoded + half.frames_lost == 420
    assert half.gaps_seconds[-1][0] == half.end_seconds
    assert half.gaps_seconds[-1][1] == pytest.approx(14.0, abs=1e-9)
    assert middle.end_seconds == pytest.approx(14.0, abs=1e-9)
    assert all(
        5.0 < start < end < 11.0 for start, end in middle.gaps_seconds
    )  # the damage lies in the middle


def test_no_gap_where_nothing_is_broken() -> None:
    coverage = FrameTiming()
    for n, seconds in enumerate(
        (0.0, 0.1, 0.69, 1.4)
    ):  # 0.49 s and then 0.61 s after the frame before has ended
        assert coverage.accept(bare(n, seconds, 0.1), False)
    assert coverage.inner_gaps_seconds == pytest.approx(1.4 - 0.79)


def test_gaps_are_bounded_and_all_are_counted() -> None:
    # Frames of 0.1 s, one a second: 99 gaps of 0.9 s.
    coverage = FrameTiming()
    for n in range(100):
        coverage.accept(bare(n, float(n), 0.1), True)
    header = Probe(
        "mov", "h264", 0, 64, 32, (1, 0, 0, 1), "yuv420p", (1, 10), 1000, 101.0, 10.0, -1.0
    )
    gaps = coverage.gaps(header, 99.1, lossy=True)
    assert (gaps[0], gaps[1], gaps[-1]) == ((-1.0, 0.0), (0.1, 1.0), (99.1, 100.0))
    assert len(gaps) == MAX_GAPS + 2
    assert coverage.gaps_unlisted == 99 - MAX_GAPS
    assert coverage.inner_gaps_seconds == pytest.approx(99 * 0.9)


@pytest.mark.parametrize(
    ("times", "dropped"),
    [
        ([n / 10 for n in range(40)] + [3.9], 1),  # 1 of 41 repeats
        ([n / 10 for n in range(20)] + [0.5, float("nan")] + [n / 10 for n in range(20, 60)], 2),
    ],
)
def test_few_bad_times_are_dropped_and_counted(
    times: list[float], dropped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = coded_video(tmp_path / "v.mp4", 3)
    frames = [bare(n, seconds, 0.1) for n, seconds in enumerate(times)]
    monkeypatch.setitem(BACKENDS, "bare", lambda path, probed, tally: iter(frames))
    decoding = VideoReader("v", path, backend="bare", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    assert [frame.index for frame in decoding] == list(range(len(times) - dropped))
    assert decoding.summary().frames_dropped == dropped


class Liar:
    """A reader that gives `pictures`, then fails."""

    def __init__(
        self, pictures: list[tuple[int, float | None]], size: tuple[int, int] = (32, 64)
    ) -> None:
        self._pictures = iter(pictures)
        self._size = size

    count = 10

    def next(self) -> tuple[Frame, float | None]:
        for number, seconds in self._pictures:
            return coded_frame(number, *self._size), seconds
        raise ReaderFailed("no more")


@pytest.mark.parametrize(
    ("reader", "why"),
    [
        (Liar([(0, 0.0), (1, 0.1), (2, None)]), "pyav from frame 3: no more"),
        (Liar([(0, 0.0), (1, 0.2)]), "pyav from frame 1: a frame at 0.2 s, by its packet at 0.1 s"),
        (
            Liar([(0, 0.0)], (32, 32)),
            r"pyav from frame 0: a picture of shape (32, 32, 3), not 64x32",
        ),
    ],
)
def test_a_reader_is_dropped_at_its_first_difference(
    reader: Liar, why: str, tmp_path: Path
) -> None:
    path = coded_video(tmp_path / "v.mp4", 10)
    tally = Tally()
    frames = list(guarded_frames(path, probe("v", path, DEFAULT_LIMITS), tally, lambda *_: reader))
    assert [(frame.index, frame.pts_seconds) for frame in frames] == [
        (n, n / 10) for n in range(10)
    ]
    assert (tally.salvaged_by, tally.packets) == (why, 10)


def test_a_file_that_fits_two_demuxers_is_not_for_libraries_that_guess(tmp_path: Path) -> None:
    # An mp4 with a leading `free` box that says it is a DASH manifest: FFmpeg's own guess is DASH.
    whole = coded_video(tmp_path / "v.mp4", 5).read_bytes()
    manifest = (
        b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
        b'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
    )
    both = tmp_path / "both.mp4"
    both.write_bytes((8 + len(manifest)).to_bytes(4, "big") + b"free" + manifest + whole)
    for backend in ON_PROCESSORS:
        need(backend)
        told = by_backend(backend, both)
        assert told.state in {"ok", "salvaged", "refused: unreadable"}
        if backend != "pyav" and told.summary is not None:
            assert "FFmpeg's own guess is not mov" in told.summary.salvaged_by


@pytest.fixture(scope="module")
def growing(folder: Path) -> Path:
    """Five pictures of 32×64, then five of 64×128."""
    flags = ("-pix_fmt", "yuv420p", "-bf", "0")
    parts = [
        encode(
            folder / f"{n}.ts", [coded_frame(i, 32 * n, 64 * n) for i in range(5)], *flags
        ).read_bytes()
        for n in (1, 2)
    ]
    (folder / "both.ts").write_bytes(b"".join(parts))
    path = folder / "growing.mp4"
    ffmpeg(
        "-fflags", "+igndts", "-i", folder / "both.ts", "-c", "copy", "-bsf:v", "setts=N*9000", path
    )
    return path


def test_pictures_that_change_size_reach_us_in_their_own(growing: Path) -> None:
    for backend in ON_PROCESSORS:
        need(backend)
        decoding = VideoReader(
            "v", growing, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
        )
        shapes = [frame.to_rgb().shape for frame in decoding]
        assert shapes == [(32, 64, 3)] * 5 + [(64, 128, 3)] * 5, backend


def test_pictures_that_change_size_come_out_of_a_child(growing: Path) -> None:
    with SubprocessDecoder() as child:
        events = child.decode("v", growing, [EveryFrame()])
        shapes = [event.rgb.shape for event in events if isinstance(event, FrameEvent)]
    assert shapes == [(32, 64, 3)] * 5 + [(64, 128, 3)] * 5
