"""First bytes: what ffmpeg's own muxers write is recognised, and nothing else is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipeline.media.container.container_formats import suffix_for
from pipeline.media.media_file import KEPT_SUFFIXES

MUXERS = {
    ".mp4": ("mp4", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx"),
    ".mov": ("mov", "libx264"),
    ".avi": ("avi", "mpeg4"),
    ".flv": ("flv", "flv"),
    ".ts": ("mpegts", "mpeg2video"),
    ".m4v": ("ipod", "libx264"),
    ".ogv": ("ogg", "libtheora"),
}


def test_every_suffix_has_a_muxer_to_be_tested_with() -> None:
    assert set(MUXERS) == set(KEPT_SUFFIXES)


@pytest.mark.parametrize("suffix", MUXERS)
def test_what_ffmpeg_writes_is_recognised_whatever_it_is_called(
    tmp_path: Path, suffix: str
) -> None:
    muxer, codec = MUXERS[suffix]
    path = tmp_path / "misnamed.txt"
    picture = ["-f", "lavfi", "-i", "color=size=64x48:rate=5:duration=0.4"]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        *picture,
        "-c:v",
        codec,
        "-f",
        muxer,
        str(path),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    assert suffix_for(path) == suffix


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<!DOCTYPE html>",
        b"#EXTM3U\n",
        b"ffconcat version 1.0\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
        b"<?xml version='1.0'?><MPD>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0JFIF",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n",
        b"G" + b"x" * 600,
    ],
    ids=repr,
)
def test_other_files_are_not_taken_for_videos(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(head)
    assert suffix_for(path) is None
