"""Whole files whose container is longer than their picture are whole; files that lack something
they state are not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.decoding.video_reader import DecodeSummary, VideoReader
from pipeline.download.integrity import check_integrity
from pipeline.media.container.lengths import missing_duration
from pipeline.media.container.packets import Tally
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.probe import probe
from tests.support.videos import ffmpeg

pytestmark = pytest.mark.usefixtures("counted_here")

CODECS = {
    "mkv": ("libx264", "aac"),
    "webm": ("libvpx", "libopus"),
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "aac"),
    "ts": ("libx264", "aac"),
    "flv": ("libx264", "aac"),
    "avi": ("mpeg4", "mp3"),
    "ogv": ("libtheora", "libvorbis"),
}
RATE = 5


def picture(seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={RATE}:duration={seconds}")


def sound(seconds: float) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"sine=duration={seconds}")


def made(path: Path, *arguments: str) -> Path:
    video, audio = CODECS[path.suffix[1:]]
    quick = ("-preset", "ultrafast", "-pix_fmt", "yuv420p") if video == "libx264" else ()
    ffmpeg(*arguments, "-c:v", video, *quick, "-c:a", audio, path)
    return path


def decoded(path: Path) -> DecodeSummary:
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    assert sum(1 for _ in decoding) > 0
    return decoding.summary()


LATE = ("-output_ts_offset", "120")
WHOLE: dict[str, tuple[str, ...]] = {
    "sound outlasts the picture": (*picture(2), *sound(6)),
    "picture outlasts the sound": (*picture(6), *sound(2)),
    "sound outlasts the picture, late clock": (*picture(2), *sound(6), *LATE),
    "late clock": (*picture(2), *LATE),
    "late clock, shorter than the film": (*picture(6), *sound(6), "-output_ts_offset", "2"),
}


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_is_whole_however_long_its_container(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    path = made(tmp_path / f"v.{suffix}", *WHOLE[kind])
    assert check_integrity("v", path).damage == ""
    summary = decoded(path)
    assert (summary.file_damage, summary.frames_lost, summary.decode_errors) == ("", 0, 0)
    if not (
        suffix == "avi" and "late" in kind
    ):  # an AVI spells a late clock by one picture that stands so long
        assert summary.gaps_seconds == ()


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "mp4", "ts"])
@pytest.mark.parametrize("late", [(), LATE], ids=["", "late clock"])
def test_the_site_may_speak_of_the_sound(
    suffix: str, late: tuple[str, ...], tmp_path: Path
) -> None:
    path = made(tmp_path / f"v.{suffix}", *picture(2), *sound(6), *late)
    assert check_integrity("v", path, 6.0).damage == ""
    assert "s that its site declares" in check_integrity("v", path, 9.0).damage


def test_subtitles_and_chapters_beyond_the_picture(tmp_path: Path) -> None:
    subtitle, chapters = tmp_path / "s.srt", tmp_path / "c.txt"
    subtitle.write_text(
        "1\n00:00:00,500 --> 00:00:01,500\nHi\n\n2\n00:00:08,000 --> 00:00:09,500\nThere\n"
    )
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=9000\ntitle=all\n")
    for suffix, codec in (("mkv", "srt"), ("mp4", "mov_text")):
        path = tmp_path / f"subtitles.{suffix}"
        made(path, *picture(2), "-i", str(subtitle), "-map", "0", "-map", "1", "-c:s", codec)
        assert (
            check_integrity("v", path).damage,
            decoded(path).file_damage,
            decoded(path).gaps_seconds,
        ) == ("", "", ())
        path = made(
            tmp_path / f"chapters.{suffix}", *picture(2), "-i", str(chapters), "-map_metadata", "1"
        )
        assert (
            check_integrity("v", path).damage,
            decoded(path).file_damage,
            decoded(path).gaps_seconds,
        ) == ("", "", ())


def without_ends(whole: bytes, keep: float) -> bytes:
    """The bytes of its end are zeroes: the file is as long as it says, and its packets are gone."""
    kept = int(len(whole) * keep)
    return whole[:kept] + bytes(len(whole) - kept)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "flv", "mp4", "avi", "ts"])
@pytest.mark.parametrize("late", [(), LATE], ids=["", "late clock"])
def test_a_file_whose_end_is_a_hole_is_not_whole(
    suffix: str, late: tuple[str, ...], tmp_path: Path
) -> None:
    front = ("-movflags", "+faststart") if suffix == "mp4" else ()
    whole = made(tmp_path / f"v.{suffix}", *picture(12), *sound(12), *late, *front).read_bytes()
    holed = tmp_path / f"holed.{suffix}"
    holed.write_bytes(without_ends(whole, 0.5))
    if suffix not in (
        "ts",
        "mp4",
    ):  # the one states no length, the other's index still knows every picture
        assert check_integrity("v", holed).damage != ""
    summary = decoded(holed)
    assert summary.frames_lost or summary.gaps_seconds or summary.file_damage or suffix == "ts"


def test_a_film_without_a_length_of_its_own_claims_the_files_only_if_it_is_alone(
    tmp_path: Path,
) -> None:
    tagless = ("-bitexact",)  # writes no tags of streams
    alone = made(tmp_path / "alone.mkv", *picture(3), *tagless)
    both = made(tmp_path / "both.mkv", *picture(3), *sound(6), *tagless)
    assert probe("v", alone, DEFAULT_LIMITS).header_seconds == pytest.approx(3.0, abs=0.1)
    told = probe("v", both, DEFAULT_LIMITS)
    if told.header_seconds is not None:  # this ffmpeg writes the tag all the same
        assert told.header_seconds == pytest.approx(3.0, abs=0.1)
    assert told.header_file_seconds == pytest.approx(6.0, abs=0.1)


@pytest.mark.parametrize(
    ("stated", "first", "end", "wanted"),
    [
        (10.0, 0.0, 10.0, None),
        (10.0, 0.0, 9.1, None),  # a second may lack
        (10.0, 0.0, 8.9, 10.0),
        (130.0, 120.0, 130.0, None),  # the instant of its end
        (130.0, 120.0, 125.0, 10.0),
        (10.0, 120.0, 130.0, None),  # a length
        (10.0, 120.0, 125.0, 10.0),
        (1000.0, 0.0, 981.0, None),  # 2 % may lack
        (1000.0, 0.0, 979.0, 1000.0),
    ],
)
def test_what_a_file_lacks(stated: float, first: float, end: float, wanted: float | None) -> None:
    lacking = missing_duration(stated, Tally(first_seconds=first, end_seconds=end))
    assert (None if lacking is None else lacking.wanted_seconds) == wanted
