"""Files of every kind → what is said of them, or the verdict they get."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.media.container.container_formats import sniff
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.probe import probe
from storage.base.errors import SystemicFault, VideoError
from tests.support.videos import coded_frame, coded_video, encode, ffmpeg

LIMITS = DecodeLimits()
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
DASH = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>'

NOT_VIDEOS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x00",
    "text": b"There is no video here.\n" * 100,
    "html": b"<!DOCTYPE html><html><body>Video unavailable</body></html>",
    "zip": b"PK\x03\x04" + bytes(500),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "sync bytes by chance": b"\x47" + bytes(187) + b"\x47" + bytes(187) + b"\x48" + bytes(187),
}


def status_of(path: Path, limits: DecodeLimits = LIMITS) -> str:
    with pytest.raises(VideoError) as caught:
        probe("v", path, limits)
    assert caught.value.video_id == "v"
    assert caught.value.status.detail
    return caught.value.status.reason


@pytest.mark.parametrize("content", NOT_VIDEOS.values(), ids=NOT_VIDEOS.keys())
def test_what_is_no_video_is_told_by_its_first_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "posing.mp4"
    path.write_bytes(content)
    assert status_of(path) == "not_a_video"


@pytest.mark.parametrize(
    ("suffix", "kept_bytes", "told"),
    [
        (".mp4", 1000, r"box b'mdat' says it ends at byte [\d,]+, the file has 1,000"),
        (".mov", 32, r"says it ends at byte [\d,]+, the file has 32|there is no moov box"),
        (".mkv", 60, r"says it ends at byte [\d,]+, the file has 60"),
    ],
)
def test_a_file_whose_rest_is_missing_says_so(
    tmp_path: Path, suffix: str, kept_bytes: int, told: str
) -> None:
    whole = coded_video(tmp_path / f"whole{suffix}", 20, "-pix_fmt", "yuv420p")
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[:kept_bytes])
    with pytest.raises(VideoError, match=told) as caught:
        probe("v", path, LIMITS)
    assert caught.value.status.reason == "unreadable"


@pytest.mark.parametrize(
    "playlist", [HLS, DASH, "ffconcat version 1.0\nfile {target}\n"], ids=["hls", "dash", "concat"]
)
def test_playlists_that_point_to_a_good_video_are_refused(playlist: str, tmp_path: Path) -> None:
    target = coded_video(tmp_path / "target.ts", 3, "-pix_fmt", "yuv420p")
    assert sniff(target) == "mpegts"
    for name in ("posing.mp4", "posing.m3u8"):
        path = tmp_path / name
        path.write_text(playlist.format(target=target))
        assert status_of(path) == "not_a_video"


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"\0\0\0\x18ftypisom", "mov"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"RIFF\0\0\0\0AVI ", "avi"),
        (b"FLV\x01\x01", "flv"),
        (b"OggS", "ogg"),
        ((b"\x47" + bytes(187)) * 5, "mpegts"),
    ],
)
def test_a_container_without_a_video_in_it_is_unreadable(
    head: bytes, container: str, tmp_path: Path
) -> None:
    path = tmp_path / "v"
    path.write_bytes(head + bytes(2000) if container != "mpegts" else head * 10)
    assert sniff(path) == container
    assert status_of(path) == "unreadable"


def test_an_mp4_cut_before_its_index_is_unreadable(tmp_path: Path) -> None:
    whole = coded_video(tmp_path / "whole.mp4", 20).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    assert status_of(cut) == "unreadable"


def test_sound_and_cover_pictures_are_no_video_stream(tmp_path: Path) -> None:
    sine = ("-f", "lavfi", "-i", "sine=duration=1")
    ffmpeg(*sine, tmp_path / "sound.m4a")
    picture = encode(tmp_path / "cover.png", [coded_frame(1)], codec="png")
    cover = ("-map", "0", "-map", "1", "-c:v", "png", "-disposition:v:0", "attached_pic")
    ffmpeg(*sine, "-i", picture, *cover, tmp_path / "cover.m4a")
    assert status_of(tmp_path / "sound.m4a") == "no_video_stream"
    assert status_of(tmp_path / "cover.m4a") == "no_video_stream"


def test_the_default_stream_is_chosen(tmp_path: Path) -> None:
    small = encode(tmp_path / "small.mkv", [coded_frame(0, 16, 32)] * 3)
    large = encode(tmp_path / "large.mkv", [coded_frame(0, 32, 64)] * 3)
    for default, size in ((0, (32, 16)), (1, (64, 32))):
        both = tmp_path / f"both{default}.mkv"
        flags = (
            "-disposition:v:0",
            "default" if default == 0 else "0",
            "-disposition:v:1",
            "default" if default else "0",
        )
        ffmpeg("-i", small, "-i", large, "-map", "0", "-map", "1", "-c", "copy", *flags, both)
        found = probe("v", both, LIMITS)
        assert (found.width, found.height, found.stream_index) == (*size, default)


@pytest.mark.parametrize(
    ("limits", "reason", "detail"),
    [
        (DecodeLimits(max_pixels=64 * 32 - 1), "too_many_pixels", "64x32 is 2048, allowed 2047"),
        (DecodeLimits(max_seconds=1.9), "too_long", "2.000 s, allowed 1.9"),
    ],
)
def test_limits_hold_before_anything_is_decoded(
    limits: DecodeLimits, reason: str, detail: str, tmp_path: Path
) -> None:
    path = coded_video(tmp_path / "v.mp4", 20)
    with pytest.raises(VideoError, match=detail) as caught:
        probe("v", path, limits)
    assert caught.value.status.reason == reason
    assert probe("v", path, DecodeLimits(max_pixels=64 * 32, max_seconds=2.0)).width == 64


def test_what_a_header_says(tmp_path: Path) -> None:
    path = encode(
        tmp_path / "v.mp4",
        [coded_frame(n, 34, 50) for n in range(12)],
        "-pix_fmt",
        "yuv420p",
        fps="30000/1001",
    )
    found = probe("v", path, LIMITS)
    assert (found.container, found.codec, found.pixel_format) == ("mov", "h264", "yuv420p")
    assert (found.width, found.height, found.rotation_degrees) == (50, 34, 0)
    assert (found.header_frames, found.time_base[1] % 30000) == (12, 0)
    assert found.header_seconds == pytest.approx(12 * 1001 / 30000, abs=1e-9)
    assert found.header_frames_per_second == pytest.approx(30000 / 1001, abs=1e-12)


def test_a_stream_of_unknown_length_says_so(tmp_path: Path) -> None:
    source = coded_video(tmp_path / "v.mp4", 5)
    piped = tmp_path / "piped.mkv"
    piped.write_bytes(ffmpeg("-i", source, "-c", "copy", "-f", "matroska", "-"))
    found = probe("v", piped, LIMITS)
    assert (found.header_frames, found.header_seconds) == (None, None)


def test_a_file_that_cannot_be_read_is_no_fault_of_the_video(tmp_path: Path) -> None:
    with pytest.raises(
        SystemicFault, match=r"cannot read the video file .*gone\.mp4: No such file"
    ):
        probe("v", tmp_path / "gone.mp4", LIMITS)


def test_limits_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="every limit of decoding must be above 0"):
        DecodeLimits(stall_seconds=0)


SOURCE = ("-f", "lavfi", "-i", "testsrc=size=64x48:rate=5:duration=0.4")
STORED: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "plain.mp4": ((), {"sample_aspect_ratio": (1, 1), "field_order": "progressive", "transfer": "unknown"}),
    "wide.mp4": (("-vf", "setsar=16/11"), {"sample_aspect_ratio": (16, 11)}),
    "wide.mkv": (("-vf", "setsar=16/11"), {"sample_aspect_ratio": (16, 11)}),
    "wide.ts": (("-vf", "setsar=16/11"), {"sample_aspect_ratio": (16, 11)}),
    "top.mp4": (("-vf", "setfield=tff", "-flags", "+ilme+ildct", "-x264opts", "tff=1"), {"field_order": "tt"}),
    "top.ts": (
        ("-c:v", "mpeg2video", "-vf", "setfield=tff", "-flags", "+ilme+ildct", "-field_order", "tt"),
        {"field_order": "tt"},
    ),
    "bottom.mp4": (("-vf", "setfield=bff", "-flags", "+ilme+ildct", "-x264opts", "bff=1"), {"field_order": "bb"}),
    "hdr.mkv": (
        ("-vf", "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv",),
        {"primaries": "bt2020", "transfer": "smpte2084", "matrix": "bt2020nc", "range": "tv"},
    ),
    "hd.mp4": (
        ("-vf", "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=pc"),
        {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709", "range": "pc"},
    ),
    "hlg.ts": (
        ("-vf", "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc"),
        {"primaries": "bt2020", "transfer": "arib-std-b67", "matrix": "bt2020nc"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORED)
def test_what_stored_pixels_mean_is_a_fact(name: str, tmp_path: Path) -> None:
    options, facts = STORED[name]
    path = tmp_path / name
    ffmpeg(*SOURCE, "-c:v", "libx264", "-pix_fmt", "yuv420p", *options, path)
    told = probe("v", path, LIMITS)
    assert told.picture is not None
    assert {fact: getattr(told.picture, fact) for fact in facts} == facts
    assert (told.width, told.height) == (64, 48)  # networks see stored pixels, whatever their shape
