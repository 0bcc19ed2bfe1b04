"""Which stream of a file is the film, beside the ffmpeg program; and titles that are not UTF-8."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.decoding.backends.pyav import pyav_frames
from pipeline.decoding.events import DecodeEnd
from pipeline.decoding.video_reader import VideoReader
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.media.container.container_formats import sniff
from pipeline.media.container.packet_counts import count_packets
from pipeline.media.container.packets import Tally
from pipeline.media.container.streams import LISTED_STREAMS, choose_stream, open_container
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.probe import probe
from tests.support.backend_conformance import ON_PROCESSORS, missing
from tests.support.videos import FFMPEG, ffmpeg

SMALL, LARGE = "48x32", "96x64"
QUICK = ("-preset", "ultrafast", "-pix_fmt", "yuv420p")


def source(size: str, seconds: float = 2, late: float = 0) -> tuple[str, ...]:
    return (
        "-itsoffset",
        str(late),
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size={size}:rate=5:duration={seconds}",
    )


def two(
    first: tuple[str, ...], second: tuple[str, ...], *options: str, codec: str = "libx264"
) -> tuple[str, ...]:
    quick = QUICK if codec == "libx264" else ()
    return (*first, *second, "-map", "0", "-map", "1", "-c:v", codec, *quick, *options)


def marked(first: str, second: str) -> tuple[str, ...]:
    return ("-disposition:v:0", first, "-disposition:v:1", second)


STILL = ("-f", "lavfi", "-i", "color=red:size=160x160:rate=25:duration=0.04")
COVER = ("-c:v:0", "mjpeg", "-pix_fmt:v:0", "yuvj420p")
FILES: dict[str, tuple[str, ...]] = {
    "preview-first.mkv": two(source(SMALL), source(LARGE)),
    "preview-first-unmarked.mkv": two(source(SMALL), source(LARGE), *marked("0", "0")),
    "preview-first.mp4": two(source(SMALL), source(LARGE)),
    "preview-first.ts": two(source(SMALL), source(LARGE)),
    "preview-first.avi": two(source(SMALL), source(LARGE), codec="mpeg4"),
    "preview-first.ogv": two(source(SMALL), source(LARGE), codec="libtheora"),
    "film-first.mkv": two(source(LARGE), source(SMALL)),
    "two-programs.ts": two(
        source(SMALL), source(LARGE), "-program", "title=a:st=0", "-program", "title=b:st=1"
    ),
    "cover-last-attached.mp4": (
        *source(LARGE),
        *STILL,
        *(
            "-map",
            "0",
            "-map",
            "1",
            "-c:v:0",
            "libx264",
            *QUICK,
            "-c:v:1",
            "mjpeg",
            "-pix_fmt:v:1",
            "yuvj420p",
        ),
        *("-disposition:v:1", "attached_pic"),
    ),
    "small-is-default.mkv": two(source(LARGE), source(SMALL), *marked("0", "default")),
    "small-is-default.mp4": two(source(LARGE), source(SMALL), *marked("0", "default")),
    "equal.mkv": two(source(LARGE), source(LARGE), *marked("0", "0")),
    "equal-second-is-default.mkv": two(source(LARGE), source(LARGE), *marked("0", "default")),
    "large-begins-in-time.mkv": two(source(SMALL, 12), source(LARGE, 2, 4), *marked("0", "0")),
    "large-begins-late.mkv": two(source(SMALL, 12), source(LARGE, 2, 8), *marked("0", "0")),
    "large-begins-in-time.ts": two(source(SMALL, 16), source(LARGE, 2, 5)),
    "large-begins-late.ts": two(source(SMALL, 16), source(LARGE, 2, 12)),
    # 5 million pixels are what the mark counts: 2500x2000 without it is as much as any small one
    # with it.
    "large-beats-the-mark.mp4": two(
        source("2600x2000", 0.2), source(SMALL, 0.2), *marked("0", "default")
    ),
    "the-mark-beats-large.mp4": two(
        source("2400x2000", 0.2), source(SMALL, 0.2), *marked("0", "default")
    ),
}
# ffmpeg takes the picture: it is larger, or its Matroska muxer marked it as default.
COVERS: dict[str, tuple[str, ...]] = {
    "large-cover-first.mkv": two(STILL, source(LARGE), *COVER, *marked("0", "0")),
    "cover-first-marked.mkv": two(STILL, source(LARGE), *COVER, *marked("default", "0")),
    "cover-first-attached.mkv": two(STILL, source(LARGE), *COVER, *marked("attached_pic", "0")),
    "cover-first.avi": two(STILL, source(LARGE), *COVER, "-c:v:1", "mpeg4"),
    "png-cover-first.mkv": two(STILL, source(LARGE), "-c:v:0", "png"),
    "cover-before-mjpeg-film.mkv": two(STILL, source(LARGE), "-pix_fmt", "yuvj420p", codec="mjpeg"),
}


def chosen_by_ffmpeg(path: Path) -> int:
    command = [FFMPEG, "-hide_banner", "-i", str(path), "-an", "-frames:v", "1", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, check=True).stderr
    found = re.search(rb"Stream #0:(\d+) -> #0:0", told)
    assert found is not None, told
    return int(found[1])


def chosen_here(path: Path) -> int:
    with open_container(path, sniff(path) or "") as opened:
        stream = choose_stream(opened, path)
        assert stream is not None
        return stream.index


@pytest.mark.parametrize("name", FILES)
def test_the_film_is_the_stream_that_ffmpeg_chooses(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ffmpeg(*FILES[name], path)
    told = probe("v", path, DEFAULT_LIMITS)
    assert chosen_here(path) == told.stream_index == chosen_by_ffmpeg(path)
    assert [other.kind for other in told.other_streams] == ["video"]
    assert {told.stream_index, *(other.index for other in told.other_streams)} == {0, 1}


@pytest.mark.parametrize("name", COVERS)
def test_a_single_picture_beside_a_film_is_a_cover(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ffmpeg(*COVERS[name], path)
    told = probe("v", path, DEFAULT_LIMITS)
    assert chosen_here(path) == told.stream_index == 1
    assert [other.index for other in told.other_streams] == [0]


def test_an_mjpeg_film_is_no_cover(tmp_path: Path) -> None:
    path = tmp_path / "mjpeg-first.mkv"
    ffmpeg(*two(source(LARGE), source(SMALL), *COVER, *marked("0", "0")), path)
    assert chosen_here(path) == chosen_by_ffmpeg(path) == 0


@pytest.mark.parametrize("backend", ON_PROCESSORS)
@pytest.mark.parametrize(
    "name",
    ["preview-first.mkv", "preview-first.mp4", "small-is-default.mp4", "cover-first-marked.mkv"],
)
def test_every_backend_decodes_that_very_stream(name: str, backend: str, tmp_path: Path) -> None:
    if missing(backend):
        pytest.skip(f"LOUD SKIP: {missing(backend)}")
    path = tmp_path / name
    ffmpeg(*(FILES | COVERS)[name], path)
    film = probe("v", path, DEFAULT_LIMITS)
    decoding = VideoReader(
        "v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    pictures = [frame.to_rgb().tobytes() for frame in decoding]
    assert pictures == [frame.to_rgb().tobytes() for frame in pyav_frames(path, film, Tally())]
    assert len(pictures) == count_packets(path).packets


def test_what_else_a_file_holds_is_recorded_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    subtitle = tmp_path / "s.srt"
    subtitle.write_text("1\n00:00:00,500 --> 00:00:01,500\nHi\n")
    sine = ("-f", "lavfi", "-i", "sine=duration=2")
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3")
    ffmpeg(
        *source(SMALL),
        *sine,
        "-i",
        subtitle,
        *source(LARGE),
        *maps,
        "-c:v",
        "libx264",
        *QUICK,
        path,
    )
    with SubprocessDecoder() as child:
        *_, end = child.decode("v", path, [])
    assert isinstance(end, DecodeEnd)
    told = [
        (one.index, one.kind, one.width, one.height, one.is_default)
        for one in end.probe.other_streams
    ]
    assert told == [
        (1, "audio", 0, 0, False),
        (2, "subtitle", 0, 0, False),
        (3, "video", 96, 64, False),
    ]
    many = tmp_path / "many.mkv"
    ffmpeg(
        *source(SMALL, 0.2),
        *[part for _ in range(50) for part in ("-map", "0")],
        "-c:v",
        "libx264",
        *QUICK,
        many,
    )
    assert len(probe("v", many, DEFAULT_LIMITS).other_streams) == LISTED_STREAMS


LATIN = "Caf\udce9"
"""As an argument: the byte 0xE9, which is no UTF-8."""
TAGGED: dict[str, tuple[str, ...]] = {
    "title.mp4": ("-metadata", f"title={LATIN}"),
    "comment.mov": ("-metadata", f"comment={LATIN}"),
    "title.mkv": ("-metadata", f"title={LATIN}"),
    "stream-title.mkv": ("-metadata:s:v:0", f"title={LATIN}"),
    "key.mkv": ("-metadata", f"{LATIN}=1"),
    "language.mkv": ("-metadata:s:v:0", f"language={LATIN}"),
    "title.webm": ("-metadata", f"title={LATIN}", "-c:v", "libvpx", "-b:v", "100k"),
    "handler.mp4": ("-metadata:s:v:0", f"handler_name={LATIN}"),
    "title.avi": ("-metadata", f"title={LATIN}", "-c:v", "mpeg4"),
    "service.ts": ("-metadata", f"service_name={LATIN}", "-metadata", f"service_provider={LATIN}"),
    "title.flv": ("-metadata", f"title={LATIN}"),
    "title.ogv": ("-metadata", f"title={LATIN}", "-c:v", "libtheora"),
}


@pytest.mark.parametrize("name", TAGGED)
def test_tags_in_latin_1_never_matter(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    ffmpeg(*source(SMALL), "-c:v", "libx264", *QUICK, *TAGGED[name], path)
    if name != "language.mkv":
        assert b"caf\xe9" in path.read_bytes().lower()
    told = count_packets(path)
    assert (told.opens, told.packets, told.errors) == (True, 10, 0)
    for backend in ON_PROCESSORS:
        if not missing(backend):
            decoding = VideoReader(
                "v", path, backend=backend, limits=DEFAULT_LIMITS, heartbeat=lambda: None
            )
            assert len(list(decoding)) == 10
            assert decoding.summary().frames_lost == 0


def test_chapters_in_latin_1_never_matter(tmp_path: Path) -> None:
    chapters = tmp_path / "chapters.txt"
    chapters.write_bytes(
        b";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle=Caf\xe9\n"
    )
    for suffix in ("mkv", "mp4"):
        path = tmp_path / f"v.{suffix}"
        ffmpeg(
            *source(SMALL), "-i", chapters, "-map_metadata", "1", "-c:v", "libx264", *QUICK, path
        )
        assert b"Caf\xe9" in path.read_bytes()
        assert count_packets(path).packets == len(
            list(VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=none))
        )


def none() -> None:
    return None
