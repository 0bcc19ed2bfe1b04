"""Times count from the container's start, as players count: the same film has the same seconds in
every container.

The outside truth is ffmpeg: the `start:` of its banner is ffprobe's format `start_time`, and
`-copyts` shows what the streams' own clocks do.
"""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoding.events import AlignmentEvent, WindowEvent
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.video_reader import VideoReader
from pipeline.download.integrity import check_integrity
from pipeline.media.container.clock import Clock
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.probe import Probe, probe
from pipeline.media.reel import cut_reel
from pipeline.sampling.segment_alignment import SegmentsOfVideo
from tests.support.backend_conformance import ON_PROCESSORS, by_backend, by_ffmpeg, need
from tests.support.videos import FFMPEG, coded_video, ffmpeg, read_code

FRAMES, RATE = 40, 10
PRIMING_SECONDS = 0.024
"""A transport stream or FLV hands out AAC's priming samples as sound, so that its picture begins so
much later, in players too.
"""
MP3_PRIMING_SECONDS = 0.026

CONTAINERS = ("mp4", "mkv", "webm", "ts", "flv", "mov", "cut.mkv")
SOUNDS = ("silent", "sound", "sound_late", "picture_late")
OFFSETS_SECONDS = (("flv", 5000), ("webm", 120), ("mkv", 9000), ("ts", 95000), ("mp4", 7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clock")


@pytest.fixture(scope="module")
def picture(folder: Path) -> Path:
    """Four seconds, ten frames each, whose pictures say their number; with B-frames and a key frame
    a second.
    """
    return coded_video(folder / "picture.mp4", FRAMES, "-bf", "2", "-g", "10")


def film(folder: Path, picture: Path, container: str, sound: str, offset_seconds: int = 0) -> Path:
    """The film in a container: `sound` is when its sound begins, beside its picture."""
    path = folder / f"{sound}_{offset_seconds}.{container}"
    if path.exists():
        return path
    late = {"sound_late": ("0", "1.5"), "picture_late": ("1.5", "0")}.get(sound, ("0", "0"))
    inputs = ["-itsoffset", late[0], "-i", str(picture)]
    if sound != "silent":
        inputs += ["-itsoffset", late[1], "-f", "lavfi", "-i", "sine=frequency=440:duration=4"]
    coded = (
        ("-c:v", "libvpx", "-b:v", "1M", "-c:a", "libopus")
        if container == "webm"
        else ("-c:v", "copy", "-c:a", "aac")
    )
    moved = ("-output_ts_offset", str(offset_seconds)) if offset_seconds else ()
    ffmpeg(*inputs, *coded, *moved, path)
    if container == "cut.mkv":  # as a download leaves it
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def said_start(path: Path) -> float:
    """What ffmpeg says of the container."""
    told = subprocess.run(
        [FFMPEG, "-hide_banner", "-i", str(path)], capture_output=True, check=False
    )
    match = re.search(rb"start: ([-0-9.]+)", told.stderr)
    assert match is not None, told.stderr
    return float(match[1])


def shown(path: Path, backend: str = "pyav") -> tuple[dict[int, float], Probe]:
    """The film's frames by the number that their pictures show → their times; and the probe."""
    decoding = VideoReader(
        "v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    times = {read_code(frame.to_rgb()): frame.pts_seconds for frame in decoding}
    return times, decoding.probe


def check(path: Path, late_seconds: float) -> None:
    """Every frame lies where ffmpeg says, and where the film has it, within a frame or the sound's
    priming.
    """
    times, probed = shown(path)
    start_seconds = said_start(path)
    assert probed.container_start_seconds == pytest.approx(start_seconds, abs=1e-6)
    reference = [one.pts_seconds - start_seconds for one in by_ffmpeg(path, since_start=False)]
    tick = probed.time_base[0] / probed.time_base[1]
    assert sorted(times.values()) == pytest.approx(reference, abs=tick)
    assert len(times) >= FRAMES // 4
    for number, seconds in times.items():
        assert abs(seconds - late_seconds - number / RATE) <= PRIMING_SECONDS


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_film_has_the_same_seconds_in_every_container(
    container: str, sound: str, folder: Path, picture: Path
) -> None:
    check(film(folder, picture, container, sound), 1.5 if sound == "picture_late" else 0.0)


@pytest.mark.parametrize("sound", ["silent", "sound", "picture_late"])
@pytest.mark.parametrize(("container", "offset"), OFFSETS_SECONDS)
def test_a_clock_that_begins_late_moves_nothing(
    container: str, offset: int, sound: str, folder: Path, picture: Path
) -> None:
    check(film(folder, picture, container, sound, offset), 1.5 if sound == "picture_late" else 0.0)


@pytest.mark.parametrize("backend", [one for one in ON_PROCESSORS if one != "pyav"])
@pytest.mark.parametrize("name", ["mp4 7", "mkv 9000", "flv 5000", "ts 0"])
def test_every_backend_has_the_same_times(
    name: str, backend: str, folder: Path, picture: Path
) -> None:
    need(backend)
    container, offset = name.split()
    path = film(folder, picture, container, "sound", int(offset))
    assert by_backend(backend, path).frames == by_backend("pyav", path).frames


def test_the_origin_is_exact_and_a_fact_of_the_video(folder: Path, picture: Path) -> None:
    found = probe("v", film(folder, picture, "ts", "silent"), DEFAULT_LIMITS)
    # The first picture of a silent transport stream is its start: 0 exactly, although FFmpeg rounds
    # to microseconds.
    assert found.clock.at(round(found.clock.origin / found.clock.tick)) == 0.0
    assert found.header_start_seconds == 0.0
    assert found.container_start_seconds == pytest.approx(
        said_start(folder / "silent_0.ts"), abs=1e-6
    )
    assert Fraction(*found.clock_origin) == found.clock.origin > 1


def test_edit_lists_and_fragments_are_read_as_ffmpeg_reads_them(
    folder: Path, picture: Path
) -> None:
    cut, fragmented, negative = (
        folder / "edit.mp4",
        folder / "fragmented.mp4",
        folder / "negative.mp4",
    )
    ffmpeg("-ss", "0.55", "-i", film(folder, picture, "mp4", "sound"), "-c", "copy", cut)
    ffmpeg("-i", picture, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", fragmented)
    ffmpeg(
        "-i",
        picture,
        "-c",
        "copy",
        "-output_ts_offset",
        "-1",
        "-avoid_negative_ts",
        "disabled",
        negative,
    )
    for path in (cut, fragmented, negative):
        found = by_backend("pyav", path)
        expected = by_ffmpeg(path)
        assert [one.md5 for one in found.frames] == [one.md5 for one in expected]
        times, reference = (
            [one.pts_seconds for one in frames] for frames in (found.frames, expected)
        )
        assert times == pytest.approx(reference, abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        ("-c:v", "libx264"),
        ("-c:v", "libx264", "-bf", "6", "-x264opts", "b-pyramid=strict"),
        ("-c:v", "libx264", "-bf", "0"),
        ("-c:v", "libx264", "-vf", "setpts=PTS+gte(N\\,20)*2/TB", "-fps_mode", "passthrough"),
        ("-c:v", "mpeg4", "-bf", "2"),
        ("-c:v", "msmpeg4v3"),
    ],
    ids=["B-frames", "pyramid", "no B-frames", "gap", "mpeg4", "msmpeg4"],
)
def test_avi_has_the_times_that_ffmpeg_gives_it(options: tuple[str, ...], tmp_path: Path) -> None:
    """AVI keeps decoding times alone; what the library calls times of H.264 pictures there goes
    back and forth.
    """
    path = tmp_path / "film.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2", *options, path)
    found = by_backend("pyav", path)
    assert found.frames == by_ffmpeg(path)
    assert found.summary is not None
    assert (len(found.frames), found.summary.frames_dropped) == (50, 0)


@pytest.mark.parametrize(
    "name",
    ["wrap.ts", "late.ogv", "blu.m2ts", "subtitles.mkv", "timecode.mov", "ac3.ts", "mp3.flv"],
)
def test_other_streams_and_odd_clocks_begin_as_ffmpeg_says(
    name: str, picture: Path, tmp_path: Path
) -> None:
    """A clock that wraps (a transport stream's every 26.5 hours), subtitles before the film, time
    codes.
    """
    path, subtitles = tmp_path / name, tmp_path / "subtitles.srt"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:01,500\nwords\n")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:duration=4")
    options: dict[str, tuple[str, ...]] = {
        "wrap.ts": (*sound, "-c:v", "copy", "-c:a", "aac", "-output_ts_offset", "95442"),
        "late.ogv": (
            *sound,
            "-c:v",
            "libtheora",
            "-q:v",
            "9",
            "-c:a",
            "libvorbis",
            "-output_ts_offset",
            "50",
        ),
        "blu.m2ts": (*sound, "-c:v", "copy", "-c:a", "ac3"),
        "subtitles.mkv": (
            "-i",
            str(subtitles),
            "-c:v",
            "copy",
            "-c:s",
            "srt",
            "-output_ts_offset",
            "30",
        ),
        "timecode.mov": (*sound, "-c:v", "copy", "-c:a", "aac", "-timecode", "01:00:00:00"),
        "ac3.ts": (*sound, "-c:v", "copy", "-c:a", "ac3"),
        "mp3.flv": (
            *sound,
            "-c:v",
            "copy",
            "-c:a",
            "libmp3lame",
            "-ar",
            "44100",
            "-output_ts_offset",
            "7",
        ),
    }
    ffmpeg("-i", picture, *options[name], path)
    times, probed = shown(path)
    assert probed.container_start_seconds == pytest.approx(said_start(path), abs=1e-6)
    assert len(times) == FRAMES
    for number, seconds in times.items():
        assert abs(seconds - number / RATE) <= MP3_PRIMING_SECONDS


@pytest.mark.parametrize("late_seconds", [0, 500, 40_000])
def test_a_live_recording_in_fragments_is_as_long_as_its_film(
    late_seconds: int, picture: Path, tmp_path: Path
) -> None:
    """Fragments state times of the recording: FFmpeg calls the instant of the end the length of the
    film.
    """
    late = ("-output_ts_offset", late_seconds) if late_seconds else ()
    dash = ("-f", "dash", "-seg_duration", "1", "-single_file", "1")
    ffmpeg("-i", picture, "-c", "copy", *map(str, late), *dash, tmp_path / "film.mpd")
    path = tmp_path / "film-stream0.mp4"
    times, probed = shown(path)
    assert probed.container_start_seconds == pytest.approx(late_seconds, abs=0.3)
    assert [round(seconds * RATE) for seconds in times.values()] == list(times)
    assert probed.header_seconds == pytest.approx(FRAMES / RATE, abs=0.3)
    summary = by_backend("pyav", path).summary
    assert summary is not None
    assert summary.gaps_seconds == ()
    assert check_integrity("film", path).damage == ""


def test_where_no_start_is_known_ticks_count_from_zero() -> None:
    header = Probe(
        "avi", "mpeg4", 0, 64, 32, (1, 0, 0, 1), "yuv420p", (1, 10), None, None, 10.0, None
    )
    assert [header.clock.at(ticks) for ticks in (-1, 0, 3)] == [-0.1, 0.0, 0.3]


def test_instants_are_rounded_once() -> None:
    clock = Clock(Fraction(1, 90000), Fraction(132000, 90000))
    for number in range(0, 3_000_000, 997):
        assert clock.at(132000 + number * 3003) == float(Fraction(number * 3003, 90000))
    assert clock.lasts(3003) == 3003 / 90000


@pytest.mark.parametrize("name", ["ts 0", "flv 5000", "webm 120", "mkv 9000"])
def test_an_annotated_segment_has_the_pictures_that_a_player_shows(
    name: str, folder: Path, picture: Path
) -> None:
    container, offset = name.split()
    path = film(folder, picture, container, "silent", int(offset))
    asked = SegmentsOfVideo(4, "equal", "seconds", ((1.0, 2.0), (2.5, 3.0), (60.0, 61.0)))
    events = list(InlineDecoder().decode("v", path, [asked]))
    placed = next(event.alignment for event in events if isinstance(event, AlignmentEvent))
    assert (placed.annotated, placed.outside) == (3, 1)
    windows = [event.window for event in events if isinstance(event, WindowEvent)]
    assert [(one.start_seconds, one.end_seconds) for one in windows] == [(1.0, 2.0), (2.5, 3.0)]
    assert [one.frame_indices for one in windows] == [(10, 12, 15, 17), (25, 26, 27, 28)]


@pytest.mark.parametrize("name", ["ts sound", "webm sound", "flv picture_late"])
def test_a_reel_shows_what_the_rows_of_its_seconds_saw(
    name: str, folder: Path, picture: Path, tmp_path: Path
) -> None:
    container, sound = name.split()
    path = film(folder, picture, container, sound, 120)
    times, _ = shown(path)
    cut_reel(path, [(2.0, 2.6), (1.55, 1.95)], tmp_path / "reel.mp4")
    seen = [read_code(np.asarray(frame.to_rgb())) for frame in _frames(tmp_path / "reel.mp4")]
    inside = [
        [n for n, at in sorted(times.items()) if a <= at < b] for a, b in ((2.0, 2.6), (1.55, 1.95))
    ]
    assert seen == [*inside[0], *inside[1]]


def _frames(path: Path) -> VideoReader:
    return VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
