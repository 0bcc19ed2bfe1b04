"""Videos on which every backend must give ffmpeg's frames: a name, and a recipe for the bundled
ffmpeg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.videos import ffmpeg


@dataclass(frozen=True)
class Case:
    """`frames` frames of a moving test picture, encoded by `recipe`, then copied by each of
    `remuxes`.
    """

    suffix: str
    recipe: tuple[str, ...]
    remuxes: tuple[tuple[str, ...], ...] = ()
    frames: int = 30
    size: str = "96x64"
    before_input: tuple[str, ...] = ()
    """Options of the last remux that go before its input."""


H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none")
ALT_REF = ("-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "5")
JUMPY = (
    "-vf",
    "settb=1/1000,setpts=100*N+40*mod(N\\,3)",
    "-fps_mode",
    "passthrough",
    "-enc_time_base",
    "1/1000",
)

CASES: dict[str, Case] = {
    "constant rate": Case("mp4", (*H264, "-bf", "0")),
    "29.97 a second": Case("mp4", (*H264, "-r", "30000/1001")),
    "variable rate mp4": Case("mp4", (*H264, *JUMPY)),
    "variable rate mkv": Case("mkv", (*H264, *JUMPY)),
    "b-frames": Case("mp4", (*H264, "-bf", "3", "-b_strategy", "0", "-g", "12")),
    "open gop": Case("mp4", (*H264, "-bf", "2", "-g", "6", "-x264opts", "open-gop=1")),
    "rotated 90": Case("mp4", H264, ((),), before_input=("-display_rotation", "90")),
    "rotated 180": Case("mp4", H264, ((),), before_input=("-display_rotation", "180")),
    "rotated 270": Case("mp4", H264, ((),), before_input=("-display_rotation", "270")),
    "mirrored": Case("mp4", H264, ((),), before_input=("-display_hflip",)),
    "edit list": Case("mp4", (*H264, "-bf", "2", "-g", "10"), (("-ss", "0.45"),)),
    "late start": Case("mp4", H264, (("-output_ts_offset", "7.5"),)),
    "odd size": Case("mp4", ("-c:v", "libx264", "-pix_fmt", "yuv444p"), size="97x65"),
    "odd size 4:2:0": Case("mkv", ("-c:v", "ffv1", "-pix_fmt", "yuv420p"), size="35x21"),
    "narrow": Case("mp4", H264, size="16x320"),
    "10 bit h264": Case("mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p10le")),
    "4:2:2": Case("mp4", ("-c:v", "libx264", "-pix_fmt", "yuv422p")),
    "full range": Case("mp4", ("-c:v", "libx264", "-pix_fmt", "yuvj420p")),
    "bt709": Case(
        "mp4", (*H264, "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")
    ),
    "grey": Case("mkv", ("-c:v", "libx264", "-pix_fmt", "gray")),
    "interlaced": Case("mp4", (*H264, "-vf", "tinterlace=interleave_top", "-flags", "+ilme+ildct")),
    "anamorphic": Case("mp4", (*H264, "-vf", "setsar=4/3")),
    "hevc": Case("mp4", (*HEVC, "-pix_fmt", "yuv420p", "-g", "9", "-bf", "3")),
    "hevc 10 bit": Case("mp4", (*HEVC, "-pix_fmt", "yuv420p10le")),
    "vp8": Case("webm", ("-c:v", "libvpx", *ALT_REF, "-g", "12")),
    "vp9 alt-ref": Case("webm", ("-c:v", "libvpx-vp9", *ALT_REF, "-g", "20")),
    "av1": Case(
        "mp4", ("-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p"), size="128x96"
    ),
    "mpeg4 in mp4": Case("mp4", ("-c:v", "mpeg4", "-bf", "2")),
    "avi without times": Case("avi", ("-c:v", "mpeg4", "-bf", "2", "-q:v", "3")),
    "mpeg2 in ts": Case("ts", ("-c:v", "mpeg2video", "-bf", "2")),
    "h264 in ts": Case("ts", (*H264, "-bf", "2")),
    "theora": Case("ogv", ("-c:v", "libtheora")),
    "flv": Case("flv", ("-c:v", "flv1")),
    "no duration": Case("mkv", H264, (("-f", "matroska", "-live", "1"),)),
    "fragmented": Case("mp4", (*H264, "-g", "10"), (("-movflags", "frag_keyframe+empty_moov"),)),
    "one frame": Case("mp4", H264, frames=1),
    "lossless rgb": Case("mkv", ("-c:v", "ffv1", "-pix_fmt", "bgra")),
    "raw h264": Case("h264", (*H264, "-bf", "0")),
}


def make(folder: Path, name: str) -> Path:
    """Write the case's file into `folder`; its path."""
    case = CASES[name]
    path = folder / f"case-{list(CASES).index(name)}-0.{case.suffix}"
    source = (
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size={case.size}:rate=10",
        "-frames:v",
        str(case.frames),
    )
    ffmpeg(*source, *case.recipe, path)
    for number, options in enumerate(case.remuxes, 1):
        after = path.with_name(f"case-{list(CASES).index(name)}-{number}.{case.suffix}")
        ffmpeg(*case.before_input, "-i", path, "-c", "copy", *options, after)
        path = after
    return path


def frame_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one size all frames have, as `(height, width)`."""
    assert len(set(sizes)) == 1, sizes
    return sizes[0]
