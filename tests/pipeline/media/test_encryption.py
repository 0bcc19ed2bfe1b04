"""Encrypted pictures are seen in the container: ffmpeg's own encryption, and other kinds made of
whole files.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipeline.media.container.container_formats import describe_type, sniff
from pipeline.media.container.encryption import detect_encryption

PICTURE = ("-f", "lavfi", "-i", "color=size=64x48:rate=5:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=duration=1")
KEYS = (
    "-encryption_key",
    "76a6c65c5ea762046bd749a2e632ccbb",
    "-encryption_kid",
    "a7e61c373e219033c21091fa607bf3b8",
)
CENC = ("-encryption_scheme", "cenc-aes-ctr", *KEYS)


def film(path: Path, *options: str) -> Path:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-y",
        *PICTURE,
        *SOUND,
        "-c:v",
        "libx264",
    ]
    subprocess.run(
        [*command, *options, str(path)], check=True, stdin=subprocess.DEVNULL, timeout=60
    )
    return path


@pytest.mark.parametrize(
    "options",
    [(), ("-movflags", "faststart"), ("-movflags", "frag_keyframe+empty_moov")],
    ids=["end", "start", "parts"],
)
def test_common_encryption_is_seen_wherever_the_header_lies(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    assert detect_encryption(film(tmp_path / "locked.mp4", *options, *CENC)) == "Common Encryption"
    assert detect_encryption(film(tmp_path / "open.mp4", *options)) == ""


def test_fairplay_is_seen(tmp_path: Path) -> None:
    path = film(tmp_path / "x.m4v")
    whole = path.read_bytes()
    assert whole.count(b"avc1") >= 1
    start = whole.index(b"avc1", whole.index(b"stsd"))
    path.write_bytes(whole[:start] + b"drmi" + whole[start + 4 :])
    assert detect_encryption(path) == "FairPlay"


def test_the_name_of_a_protected_entry_elsewhere_says_nothing(tmp_path: Path) -> None:
    path = film(tmp_path / "x.mp4", "-metadata", "title=encv drmi stsd")
    path.write_bytes(path.read_bytes() + b"\0\0\0\x10freeencvdrmi")
    assert detect_encryption(path) == ""


@pytest.mark.parametrize("suffix", [".ts", ".m2ts"])
@pytest.mark.parametrize("control", [0x80, 0xC0])
def test_a_scrambled_transport_stream_is_seen(tmp_path: Path, suffix: str, control: int) -> None:
    path = film(tmp_path / f"x{suffix}")
    assert detect_encryption(path) == ""
    packet_bytes, offset = (192, 4) if suffix == ".m2ts" else (188, 0)
    whole = bytearray(path.read_bytes())
    assert len(whole) % packet_bytes == 0
    for place in range(offset, len(whole), packet_bytes):
        if int.from_bytes(whole[place + 1 : place + 3], "big") & 0x1FFF not in (
            0,
            17,
            0x1FFF,
            4096,
        ):
            whole[place + 3] |= control
    path.write_bytes(whole)
    assert sniff(path) == "mpegts"
    assert detect_encryption(path) == "scrambled transport stream"


def element(number: bytes, content: bytes) -> bytes:
    return number + (0x10000000 | len(content)).to_bytes(4, "big") + content


def matroska(track_type: int, *encodings: bytes) -> bytes:
    track = element(b"\x83", bytes([track_type])) + element(b"\x6d\x80", b"".join(encodings))
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", track))
    head = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"webm"))
    seek = element(b"\xec", b"\0" * 50)
    return head + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + seek + tracks + b"\0" * 100


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            matroska(1, element(b"\x62\x40", element(b"\x50\x35", b"\0"))),
            "Matroska content encryption",
        ),
        (matroska(2, element(b"\x62\x40", element(b"\x50\x35", b"\0"))), ""),
        (matroska(1, element(b"\x62\x40", element(b"\x50\x34", b"\0"))), ""),
        (matroska(1), ""),
    ],
    ids=["pictures", "sound alone", "compressed", "plain"],
)
def test_encryption_of_matroska_is_seen(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "x.webm"
    path.write_bytes(content)
    assert detect_encryption(path) == told


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".m2ts", ".flv", ".avi", ".mov", ".3gp"])
def test_whole_files_are_not_called_encrypted(tmp_path: Path, suffix: str) -> None:
    assert detect_encryption(film(tmp_path / f"x{suffix}", "-an")) == ""


def test_real_clips_are_not_called_encrypted(shared_data: Path) -> None:
    clips = sorted((shared_data / "videos").iterdir())
    assert len(clips) > 5
    assert {clip.name: detect_encryption(clip) for clip in clips} == {
        clip.name: "" for clip in clips
    }


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 200, b"\0\0\0\1moov" + b"\xff" * 64, b"\x1a\x45\xdf\xa3" + b"\0" * 90]
)
def test_damaged_headers_end_the_search(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert detect_encryption(path) == ""


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (
            b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
            "a Windows Media file (WMV, ASF), which is not taken",
        ),
        (b"GIF89a\1\0", "a GIF picture, which is not taken"),
        (b".RMF\0\0\0\x12", "a RealMedia file, which is not taken"),
        (b"\0\0\1\xba\x44", "an MPEG program stream (MPG, VOB), which is not taken"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound (WAV), which is not taken"),
        (b"\x1f\x8b\x08\0", "a compressed file (gzip), which is not taken"),
        (b"", "empty"),
        (b"\0" * 4096, "zeros from its first byte on, as in a copy or download that did not end"),
        (b"\n<!DOCTYPE HTML><html>", "an HTML page, which begins with b'<!DOCTYPE HTML><html>'"),
        (
            b"<?xml version='1.0'?><MPD>",
            "an XML text, which begins with b\"<?xml version='1.0'?><MPD>\"",
        ),
        (b'{"error": 1}', "text, which begins with b'{\"error\": 1}'"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS to a file that was not fetched",
        ),
        (
            b"\x01\x02\x03" + b"?" * 90,
            "of no type that we know: it begins with b'\\x01\\x02\\x03???",
        ),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, head: bytes, told: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(head)
    assert told in describe_type(path)
