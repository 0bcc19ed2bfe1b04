"""Frames and times: by formula, as ffprobe lists them, and bit for bit as ffmpeg writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.decoding.backends.pyav import turn_upright
from pipeline.decoding.video_reader import BACKENDS, DecodeSummary, VideoReader, get_backend
from pipeline.media.container.packets import Tally
from pipeline.media.decode_settings import DEFAULT_LIMITS, DecodeLimits
from pipeline.media.probe import Probe
from storage.base.errors import VideoError
from tests.conftest import REPOSITORY
from tests.support.videos import cli_frames, coded_frame, coded_video, encode, ffmpeg, read_code

GOLDENS = REPOSITORY / "tests" / "pipeline" / "goldens"
CLIPS = ["flipping_a_pancake.mkv", "v_GGSY1Qvo990.mp4"]
QUARTER_TURNS = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}


def decode(
    path: Path, limits: DecodeLimits = DEFAULT_LIMITS
) -> tuple[list[float], list[Frame], DecodeSummary]:
    decoding = VideoReader("v", path, backend="pyav", limits=limits, heartbeat=lambda: None)
    times, pictures = [], []
    for frame in decoding:
        times.append(frame.pts_seconds)
        pictures.append(frame.to_rgb())
        assert pictures[-1].shape == (frame.height, frame.width, 3)
    return times, pictures, decoding.summary()


def digest(frames: list[Frame] | NDArray[np.uint8]) -> str:
    return hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()


@pytest.mark.parametrize(
    ("name", "options", "times"),
    [
        ("cfr.mp4", (), [n / 10 for n in range(30)]),
        (
            "b_frames.mp4",
            ("-pix_fmt", "yuv420p", "-bf", "3", "-g", "12"),
            [n / 10 for n in range(30)],
        ),
        (
            "open_gop.mp4",
            ("-pix_fmt", "yuv420p", "-bf", "2", "-g", "5", "-x264opts", "open-gop"),
            [n / 10 for n in range(30)],
        ),
        # every third frame is dropped from the stream, so numbers and times jump together
        (
            "vfr.mkv",
            ("-vf", "select=lt(mod(n\\,3)\\,2)", "-fps_mode", "passthrough"),
            [n / 10 for n in range(30) if n % 3 < 2],
        ),
        (
            "late_start.ts",
            ("-pix_fmt", "yuv420p", "-muxdelay", "0", "-output_ts_offset", "36000"),
            [n / 10 for n in range(30)],
        ),
    ],
)
def test_frame_read_back_is_the_frame_written_at_its_own_time(
    name: str, options: tuple[str, ...], times: list[float], tmp_path: Path
) -> None:
    found, pictures, summary = decode(coded_video(tmp_path / name, 30, *options))
    assert found == pytest.approx(times, abs=1e-9)
    assert [read_code(picture) for picture in pictures] == [
        round(time * 10) % 360000 for time in times
    ]
    assert (summary.frames_decoded, summary.decode_errors, summary.frames_lost) == (
        len(times),
        0,
        0,
    )
    assert summary.end_seconds == pytest.approx(times[-1] + 0.1, abs=1e-9)


def test_avi_without_presentation_times_keeps_order_and_steps(tmp_path: Path) -> None:
    frames = [coded_frame(number) for number in range(20)]
    times, pictures, _ = decode(
        encode(tmp_path / "v.avi", frames, "-bf", "2", "-q:v", "2", codec="mpeg4")
    )
    assert [read_code(picture) for picture in pictures] == list(range(20))
    assert np.diff(times) == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (21, 35)])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_comes_upright_and_equals_ffmpeg(
    degrees: int, height: int, width: int, tmp_path: Path
) -> None:
    upright = [coded_frame(number, height, width) for number in range(6)]
    stored = [np.ascontiguousarray(np.rot90(frame, -degrees // 90)) for frame in upright]
    plain = encode(tmp_path / "plain.mp4", stored, "-pix_fmt", "yuv444p")
    tagged = tmp_path / "tagged.mp4"
    ffmpeg("-display_rotation", str(degrees), "-i", plain, "-c", "copy", tagged)
    decoding = VideoReader(
        "v", tagged, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    pictures = [frame.to_rgb() for frame in decoding]
    assert [read_code(picture) for picture in pictures] == list(range(6))
    assert (decoding.probe.height, decoding.probe.width) == (height, width)
    assert (decoding.probe.rotation_degrees, decoding.probe.display_matrix) == (
        degrees,
        QUARTER_TURNS[degrees],
    )
    assert digest(pictures) == digest(cli_frames(tagged, height, width))


@pytest.mark.parametrize(
    "flags",
    [("-display_hflip",), ("-display_vflip",), ("-display_rotation", "90", "-display_hflip")],
)
def test_mirrored_video_equals_ffmpeg(flags: tuple[str, ...], tmp_path: Path) -> None:
    plain = coded_video(tmp_path / "plain.mp4", 3)
    ffmpeg(*flags, "-i", plain, "-c", "copy", tmp_path / "tagged.mp4")
    _, pictures, _ = decode(tmp_path / "tagged.mp4")
    height, width, _ = pictures[0].shape
    assert digest(pictures) == digest(cli_frames(tmp_path / "tagged.mp4", height, width))


def test_turn_upright_by_hand() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)  # rows 0 1 2 / 3 4 5
    assert turn_upright(pixels, (0, -1, 1, 0))[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert turn_upright(pixels, (0, 1, -1, 0))[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]
    assert turn_upright(pixels, (-1, 0, 0, -1))[..., 0].tolist() == [[5, 4, 3], [2, 1, 0]]


@pytest.mark.parametrize(
    ("size", "pixel_format", "codec", "options"),
    [
        ("64x48", "yuv420p", "libx264", ("-colorspace", "bt709")),
        ("64x48", "yuvj420p", "libx264", ()),
        ("35x21", "yuv420p", "ffv1", ()),
        ("64x48", "yuv422p", "ffv1", ()),
        ("64x48", "yuv420p10le", "ffv1", ()),
        ("35x21", "gray", "ffv1", ()),
        ("36x22", "bgra", "ffv1", ()),
        ("64x48", "yuv420p", "libvpx-vp9", ()),
    ],
)
def test_rgb_is_bit_for_bit_what_ffmpeg_writes(
    size: str, pixel_format: str, codec: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "v.mkv"
    source = ("-f", "lavfi", "-i", f"testsrc=size={size}:rate=10:duration=0.4")
    ffmpeg(*source, "-pix_fmt", pixel_format, "-c:v", codec, *options, path)
    width, height = map(int, size.split("x"))
    _, pictures, _ = decode(path)
    assert len(pictures) == 4
    assert digest(pictures) == digest(cli_frames(path, height, width))


@pytest.mark.parametrize("name", CLIPS)
def test_real_clip_has_ffprobes_times_and_ffmpegs_pixels(name: str, shared_data: Path) -> None:
    golden = json.loads((GOLDENS / f"{name}.json").read_text())
    times, pictures, summary = decode(shared_data / "videos" / name)
    assert len(times) == len(golden["pts_seconds"]) == summary.frames_decoded
    assert np.abs(np.array(times) - golden["pts_seconds"]).max() < 1e-3
    size = golden["stream"]["height"], golden["stream"]["width"]
    assert digest(pictures) == digest(cli_frames(shared_data / "videos" / name, *size))


def cut_half(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def zero_middle(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes(6000) + whole[middle + 6000 :]


def cut_both_ends(whole: bytes) -> bytes:
    return whole[188 * 200 : 188 * 400]


@pytest.fixture(scope="module")
def ten_seconds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "v.mp4"
    source = (
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=160x120:rate=30:duration=10",
        "-pix_fmt",
        "yuv420p",
    )
    ffmpeg(*source, "-g", "60", "-bf", "2", "-movflags", "+faststart", path)
    return path


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("mp4", cut_half),
        ("mp4", zero_middle),
        ("mkv", cut_half),
        ("mkv", zero_middle),
        ("ts", cut_both_ends),
    ],
)
def test_damaged_file_delivers_as_many_frames_as_ffmpeg_and_counts_the_rest(
    suffix: str, damage: Callable[[bytes], bytes], ten_seconds: Path, tmp_path: Path
) -> None:
    whole = tmp_path / f"whole.{suffix}"
    ffmpeg("-i", ten_seconds, "-c", "copy", "-movflags", "+faststart", whole)
    damaged = tmp_path / f"damaged.{suffix}"
    damaged.write_bytes(damage(whole.read_bytes()))
    times, _, summary = decode(damaged)
    assert len(times) == len(cli_frames(damaged, 120, 160)) < 300
    assert summary.frames_decoded == len(times)
    assert summary.first_pts_seconds == times[0]
    if suffix == "mp4":  # its header promised 300
        assert (summary.frames_declared, summary.frames_lost) == (300, 300 - len(times))
        assert summary.decode_errors > 0


def test_a_video_longer_than_its_header_admits_is_stopped(tmp_path: Path) -> None:
    source = coded_video(tmp_path / "v.mp4", 30)
    (tmp_path / "piped.mkv").write_bytes(ffmpeg("-i", source, "-c", "copy", "-f", "matroska", "-"))
    with pytest.raises(VideoError, match=r"rejected:too_long \(1.100 s, allowed 1\)"):
        decode(tmp_path / "piped.mkv", DecodeLimits(max_seconds=1))


def test_frames_that_grow_in_mid_stream_meet_the_pixel_limit(tmp_path: Path) -> None:
    offset = ("-pix_fmt", "yuv420p", "-output_ts_offset")
    small = encode(
        tmp_path / "small.ts", [coded_frame(n, 32, 64) for n in range(5)], *offset, "0"
    ).read_bytes()
    large = encode(
        tmp_path / "large.ts", [coded_frame(n, 64, 128) for n in range(5, 10)], *offset, "0.5"
    ).read_bytes()
    (tmp_path / "grows.ts").write_bytes(small + large)
    _, pictures, _ = decode(tmp_path / "grows.ts")
    assert {picture.shape for picture in pictures} == {(32, 64, 3), (64, 128, 3)}
    with pytest.raises(VideoError, match="rejected:too_many_pixels"):
        decode(tmp_path / "grows.ts", DecodeLimits(max_pixels=64 * 32))


def test_one_frame_lasts_as_long_as_the_stream_says(tmp_path: Path) -> None:
    times, _, summary = decode(coded_video(tmp_path / "one.mp4", 1, fps="5"))
    assert (times, summary.end_seconds, summary.covered_seconds) == ([0.0], 0.2, 0.2)


def bare(index: int, pts_seconds: float, duration_seconds: float | None = None) -> DecodedFrame:
    return DecodedFrame(index, pts_seconds, duration_seconds, 64, 32, lambda: coded_frame(index))


@pytest.mark.parametrize(
    ("rate", "frames", "end_seconds"),
    [
        (10.0, [bare(0, 0.0), bare(1, 0.3), bare(2, 0.5, 0.125)], 0.625),  # its own duration
        (
            10.0,
            [bare(0, 0.0), bare(1, 0.3), bare(2, 0.5)],
            0.7,
        ),  # none: as long as the one before, 0.5 - 0.3
        (10.0, [bare(0, 2.0)], 2.1),  # alone: one frame at the header's 10 a second
        (None, [bare(0, 2.0)], None),  # alone, and this header has no rate
    ],
)
def test_where_the_last_frame_ends(
    rate: float | None,
    frames: list[DecodedFrame],
    end_seconds: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = encode(tmp_path / "v.mp4", [coded_frame(n) for n in range(3)], codec="libx264")
    monkeypatch.setitem(BACKENDS, "bare", lambda path, probed, tally: iter(frames))
    decoding = VideoReader("v", path, backend="bare", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    decoding.probe = replace(decoding.probe, header_frames_per_second=rate)
    assert list(decoding) == frames
    if end_seconds is None:
        with pytest.raises(VideoError, match=r"bad_timestamps \(its only frame has no duration\)"):
            decoding.summary()
    else:
        assert decoding.summary().end_seconds == pytest.approx(end_seconds, abs=1e-12)


def test_a_backend_without_times_or_frames_gets_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timeless(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
        tally.timeless_frames = 2
        yield from ()

    path = coded_video(tmp_path / "v.mp4", 3)
    monkeypatch.setitem(BACKENDS, "timeless", timeless)
    monkeypatch.setitem(BACKENDS, "empty", lambda path, probed, tally: iter(()))
    without_times = VideoReader(
        "v", path, backend="timeless", limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    assert list(without_times) == []
    with pytest.raises(
        VideoError, match=r"bad_timestamps \(2 of 2 frames have no time after the frame before them"
    ):
        without_times.summary()
    nothing = VideoReader("v", path, backend="empty", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    assert list(nothing) == []
    with pytest.raises(VideoError, match=r"rejected:unreadable \(none of 0 packets decodes\)"):
        nothing.summary()


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(
        ValueError, match="unknown decoder 'magic'; known decoders are pyav, torchcodec, decord"
    ):
        get_backend("magic")
