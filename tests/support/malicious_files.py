"""Odd and hostile videos, each with the state and the rows it must end in, by the bundled ffmpeg or
by hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.videos import ffmpeg

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none")
PQ = ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
SINE = ("-f", "lavfi", "-i", "sine=duration=1")

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Hostile:
    make: Make
    """Writes the file at the path it is given."""
    ends: str
    """`done`, or the reason it is refused for."""
    rows: int = 0
    lost: int | None = 0
    """Frames the summary must call lost; None where a random damage decides."""


def picture(frames: int, size: str = "64x48", rate: str = "10") -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}", "-frames:v", str(frames))


def film(frames: int, *options: str, size: str = "64x48", rate: str = "10") -> Make:
    return lambda path: void(ffmpeg(*picture(frames, size, rate), *(options or H264), path))


def void(_: object) -> None:
    return None


def text(content: bytes) -> Make:
    return lambda path: void(path.write_bytes(content))


def changed(make: Make, change: Callable[[bytes], bytes]) -> Make:
    def changed_file(path: Path) -> None:
        make(path)
        path.write_bytes(change(path.read_bytes()))

    return changed_file


def remuxed(make: Make, *options: str, before: tuple[str, ...] = ()) -> Make:
    def remuxed_file(path: Path) -> None:
        first = path.with_name(f"first-{path.name}")
        make(first)
        ffmpeg(*before, "-i", first, "-c", "copy", *options, path)

    return remuxed_file


def mixed(*inputs: tuple[str, ...], options: tuple[str, ...]) -> Make:
    return lambda path: void(ffmpeg(*(part for one in inputs for part in one), *options, path))


def patched(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        assert old in whole
        return whole.replace(old, new)

    return change


def long_header(whole: bytes) -> bytes:
    """The movie's, the track's and the media's durations become ten hours, and their frames
    stay.
    """
    for box, at in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        start = whole.index(box) + at
        scale = 1000 if box == b"tkhd" else int.from_bytes(whole[start - 4 : start], "big")
        whole = whole[:start] + (36_000 * scale).to_bytes(4, "big") + whole[start + 4 :]
    return whole


def flipped(count: int, seed: int) -> Callable[[bytes], bytes]:
    def change(whole: bytes) -> bytes:
        rng, data = random.Random(seed), bytearray(whole)
        for _ in range(count):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)

    return change


FAST = (*H264, "-movflags", "+faststart")
WHOLE = film(100, *FAST, "-g", "20", size="160x120")
HALF = {
    suffix: changed(WHOLE, lambda whole: whole[: len(whole) // 2])
    for suffix in ("mp4", "mkv", "webm", "ts")
}

CORPUS: dict[str, Hostile] = {
    # what is no video
    "empty.mp4": Hostile(text(b""), "not_a_video"),
    "one-byte.mp4": Hostile(text(b"\0"), "not_a_video"),
    "page.mp4": Hostile(text(b"<!DOCTYPE html><html>Video unavailable</html>"), "not_a_video"),
    "text.mkv": Hostile(text(b"no video\n" * 999), "not_a_video"),
    "zip.mp4": Hostile(text(b"PK\3\4" + bytes(5000)), "not_a_video"),
    "tar.mp4": Hostile(text(b"name".ljust(257, b"\0") + b"ustar" + bytes(5000)), "not_a_video"),
    "noise.mp4": Hostile(text(random.Random(0).randbytes(50_000)), "not_a_video"),
    "picture.mp4": Hostile(film(1, "-c:v", "png", "-f", "image2"), "not_a_video"),
    "raw.mp4": Hostile(film(10, *H264, "-f", "h264"), "not_a_video"),
    "box-of-nothing.mp4": Hostile(text(b"\0\0\0\x18ftypisom" + bytes(2000)), "unreadable"),
    "only-ebml.mkv": Hostile(text(b"\x1a\x45\xdf\xa3" + bytes(2000)), "unreadable"),
    "box-that-claims-all.mp4": Hostile(
        text(b"\0\0\0\1ftyp" + b"\x7f" + b"\xff" * 7 + bytes(2000)), "unreadable"
    ),
    "sparse.mp4": Hostile(text(b"\0\0\0\x10ftypisom\0\0\0\0" + bytes(3_000_000)), "unreadable"),
    "index-lost.mp4": Hostile(
        changed(film(20), lambda whole: whole[: whole.index(b"moov") - 4]), "unreadable"
    ),
    # no picture in it
    "sound.m4a": Hostile(mixed(SINE, options=("-c:a", "aac")), "no_video_stream"),
    "cover.m4a": Hostile(
        mixed(
            SINE,
            picture(1),
            options=("-map", "0", "-map", "1", "-c:v", "png", "-disposition:v:0", "attached_pic"),
        ),
        "no_video_stream",
    ),
    # damage
    "half.mp4": Hostile(HALF["mp4"], "done", rows=-1, lost=None),
    "half.mkv": Hostile(HALF["mkv"], "done", rows=-1),
    "half.ts": Hostile(HALF["ts"], "done", rows=-1, lost=None),
    "zeroed.mp4": Hostile(
        changed(WHOLE, lambda whole: whole[:40_000] + bytes(4000) + whole[44_000:]),
        "done",
        rows=-1,
        lost=None,
    ),
    "flipped.mp4": Hostile(
        changed(WHOLE, lambda w: w[:5000] + flipped(60, 1)(w[5000:])), "done", rows=-1, lost=None
    ),
    "tail-of-rubbish.mp4": Hostile(
        changed(film(20, *FAST), lambda whole: whole + bytes(9000)), "done", rows=20
    ),
    "head-cut.ts": Hostile(
        changed(WHOLE, lambda whole: whole[188 * 60 :]), "done", rows=-1, lost=None
    ),
    # lengths and sizes
    "one-frame.mp4": Hostile(film(1), "done", rows=1),
    "two-frames.mp4": Hostile(film(2), "done", rows=2),
    "two-pixels.mkv": Hostile(film(5, "-c:v", "ffv1", size="2x2"), "done", rows=5),
    "one-pixel.mkv": Hostile(
        film(5, "-c:v", "ffv1", "-vf", "scale=1:1", "-pix_fmt", "bgra"), "done", rows=5
    ),
    "odd.mp4": Hostile(
        film(5, "-c:v", "libx264", "-pix_fmt", "yuv444p", size="353x211"), "done", rows=5
    ),
    "strip.mp4": Hostile(film(3, size="16x4096"), "done", rows=3),
    "wide.mp4": Hostile(film(3, size="8000x16"), "done", rows=3),
    "8192-square.mp4": Hostile(
        mixed(("-f", "lavfi", "-i", "color=s=8192x8192:d=0.04"), options=H264), "too_many_pixels"
    ),
    "an-hour-at-1-fps.mp4": Hostile(film(3700, *H264, size="32x32", rate="1"), "too_long"),
    "header-claims-ten-hours.mp4": Hostile(changed(film(20), long_header), "done", rows=20),
    "no-duration-too-long.mkv": Hostile(
        film(3700, *H264, "-live", "1", size="32x32", rate="1"), "too_long"
    ),
    "no-duration.mkv": Hostile(film(20, *H264, "-live", "1"), "done", rows=20),
    # times
    "starts-at-ten-hours.ts": Hostile(
        film(20, *H264, "-output_ts_offset", "36000"), "done", rows=20
    ),
    "repeats-some.mkv": Hostile(
        remuxed(film(60), "-bsf:v", "setts=pts=if(eq(N\\,7)\\,PREV_OUTPTS\\,PTS)"), "done", rows=-1
    ),
    "repeats-many.mkv": Hostile(
        film(
            30,
            *H264,
            "-bf",
            "0",
            "-vf",
            "settb=1/1000,setpts=100*N-100*mod(N\\,3)",
            "-fps_mode",
            "passthrough",
        ),
        "bad_timestamps",
    ),
    "twice-behind-itself.ts": Hostile(changed(film(20), lambda whole: whole * 2), "done", rows=40),
    "edit-list.mp4": Hostile(remuxed(film(30, *H264, "-g", "10"), "-ss", "0.45"), "done", rows=-1),
    "variable.mp4": Hostile(
        film(30, *H264, "-vf", "select=mod(n\\,3)", "-fps_mode", "passthrough"), "done", rows=30
    ),
    "no-times.avi": Hostile(film(30, "-c:v", "mpeg4", "-bf", "2"), "done", rows=30),
    # kinds
    "rotated.mp4": Hostile(remuxed(film(9), before=("-display_rotation", "90")), "done", rows=9),
    "interlaced.mp4": Hostile(
        film(9, *H264, "-vf", "interlace", "-flags", "+ilme+ildct"), "done", rows=9
    ),
    "10-bit.mkv": Hostile(film(9, *HEVC, "-pix_fmt", "yuv420p10le"), "done", rows=9),
    "hdr.mp4": Hostile(film(9, *HEVC, "-pix_fmt", "yuv420p10le", *PQ), "done", rows=9),
    "prores.mov": Hostile(film(9, "-c:v", "prores_ks"), "done", rows=9),
    "vp9.webm": Hostile(
        film(30, "-c:v", "libvpx-vp9", "-cpu-used", "8", "-lag-in-frames", "16"), "done", rows=30
    ),
    "av1.mp4": Hostile(
        film(9, "-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p"), "done", rows=9
    ),
    "alpha.webm": Hostile(
        film(9, "-c:v", "libvpx-vp9", "-cpu-used", "8", "-pix_fmt", "yuva420p"), "done", rows=9
    ),
    "many-streams.mkv": Hostile(
        mixed(picture(5), options=(*H264, *[part for _ in range(40) for part in ("-map", "0")])),
        "done",
        rows=5,
    ),
    "codec-nobody-knows.mp4": Hostile(changed(film(9), patched(b"avc1", b"zzz9")), "unreadable"),
}
"""File name → what it is and where it must end. `rows` -1: as many as ffmpeg gives."""
