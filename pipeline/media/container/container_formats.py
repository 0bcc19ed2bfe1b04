"""Recognises a container by the first bytes of a file: what is opened, and under what suffix kept.

Names and content types are not used: a server may call a web page `video/mp4`, and a playlist named
`.mp4` would make a decoder read other files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from storage.base.errors import SystemicFault

HEAD_BYTES = 1024
"""Enough for every test below: a Matroska header names its document type in the first hundred
bytes.
"""
TS_PACKET_BYTES = 188
M2TS_PACKET_BYTES = 192
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_BRANDS = {b"qt  ": ".mov", b"M4V ": ".m4v", b"M4VH": ".m4v", b"M4VP": ".m4v"}


def _is_mov(head: bytes) -> bool:
    return head[4:8] in _MOV_BOXES


def ts_layout(head: bytes) -> tuple[int, int] | None:
    """Bytes of a packet of a transport stream, and the offset of its sync byte; None for others.

    Camcorders and Blu-ray discs (M2TS) put a time of 4 bytes before each packet of 188.
    """
    for packet_bytes, offset in ((TS_PACKET_BYTES, 0), (M2TS_PACKET_BYTES, 4)):
        first_bytes = head[offset::packet_bytes]
        # One or two bytes may be equal by chance.
        has_enough = len(first_bytes) > 2
        if has_enough and set(first_bytes) == {0x47}:
            return packet_bytes, offset
    return None


CONTAINERS: dict[str, Callable[[bytes], bool]] = {
    "mov": _is_mov,
    "matroska": lambda head: head.startswith(b"\x1a\x45\xdf\xa3"),
    "avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
    "flv": lambda head: head.startswith(b"FLV\x01"),
    "ogg": lambda head: head.startswith(b"OggS"),
    "mpegts": lambda head: ts_layout(head) is not None,
}
"""FFmpeg's name of a demuxer we open → whether a file that starts so is for it. mov reads mp4,
matroska reads webm.
"""

_SUFFIX_OF: dict[str, Callable[[bytes], str]] = {
    "mov": lambda head: _BRANDS.get(head[8:12], ".mp4") if head[4:8] == b"ftyp" else ".mov",
    "matroska": lambda head: ".webm" if b"webm" in head[:64] else ".mkv",
    "avi": lambda _: ".avi",
    "flv": lambda _: ".flv",
    "ogg": lambda _: ".ogv",
    "mpegts": lambda _: ".ts",
}

_OTHER_TYPES: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("a Windows Media file (WMV, ASF)", (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",)),
    ("a GIF picture", (b"GIF87a", b"GIF89a")),
    ("a RealMedia file", (b".RMF",)),
    ("an MPEG program stream (MPG, VOB)", (b"\0\0\1\xba",)),
    ("a bare MPEG video stream without a container", (b"\0\0\1\xb3", b"\0\0\1\xb0")),
    (
        "a bare H.264 or H.265 stream without a container",
        (b"\0\0\0\1", b"\0\0\1\x09", b"\0\0\1\x67", b"\0\0\1\x40"),
    ),
    ("a Flash animation (SWF)", (b"FWS", b"CWS", b"ZWS")),
    ("a recording of Windows Media Center (WTV)", (b"\xb7\xd8\x00\x20\x37\x49\xda\x11",)),
    ("an MXF file", (b"\x06\x0e\x2b\x34",)),
    ("a DV stream", (b"\x1f\x07\x00",)),
    ("an IVF file", (b"DKIF",)),
    ("uncompressed video (Y4M)", (b"YUV4MPEG2",)),
    ("a JPEG picture", (b"\xff\xd8\xff",)),
    ("a PNG picture", (b"\x89PNG",)),
    ("a TIFF picture", (b"II*\0", b"MM\0*")),
    ("a sound (MP3)", (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")),
    ("a sound (AAC)", (b"\xff\xf1", b"\xff\xf9")),
    ("a sound (FLAC)", (b"fLaC",)),
    ("a ZIP archive", (b"PK\x03\x04", b"PK\x05\x06")),
    ("a compressed file (gzip)", (b"\x1f\x8b",)),
    ("a compressed file (bzip2)", (b"BZh",)),
    ("a compressed file (xz)", (b"\xfd7zXZ",)),
    ("a compressed file (zstd)", (b"\x28\xb5\x2f\xfd",)),
    ("a 7z archive", (b"7z\xbc\xaf\x27\x1c",)),
    ("a RAR archive", (b"Rar!",)),
    ("a PDF document", (b"%PDF",)),
    ("an HDF5 file", (b"\x89HDF",)),
    ("a playlist (M3U)", (b"#EXTM3U",)),
    ("a pointer of Git LFS to a file that was not fetched", (b"version https://git-lfs",)),
    ("a pointer of git-annex to a file that was not fetched", (b"/annex/objects/",)),
    ("a file that macOS leaves beside another (AppleDouble)", (b"\x00\x05\x16\x07",)),
)
"""What a file that we do not take is → the first bytes of such files. For messages alone."""
_RIFF = {b"WAVE": "a sound (WAV)", b"WEBP": "a WebP picture"}
_SHOWN_BYTES = 40
_TEXT = re.compile(rb"[\t\n\v\f\r\x1b -~\x80-\xff]+")


def sniff(path: Path) -> str | None:
    """The container of a file, a key of `CONTAINERS`; None if it is none of them.

    Raises SystemicFault if the file cannot be read.
    """
    return _container(_head(path))


def suffix_for(path: Path) -> str | None:
    """The suffix that fits the first bytes of a file; None if its container is not supported."""
    # One reading for both questions: the file may be replaced in between.
    head = _head(path)
    container = _container(head)
    return _SUFFIX_OF[container](head) if container else None


def describe_type(path: Path) -> str:
    """What a file in no supported container is, as the rest of a sentence.

    Raises SystemicFault if it cannot be read.
    """
    head = _head(path)
    known = _known_type(head)
    if known:
        return f"{known}, which is not taken"
    if not head:
        return "empty"
    if not head.strip(b"\0"):
        return "zeros from its first byte on, as in a copy or download that did not end"
    if _TEXT.fullmatch(head):
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
        return f"{_kind_of_text(start)}, which begins with {start[:_SHOWN_BYTES]!r}"
    return f"of no type that we know: it begins with {head[:16]!r}, which no container does"


def _known_type(head: bytes) -> str | None:
    is_riff = head[:4] == b"RIFF"
    if is_riff:
        return _RIFF.get(head[8:12])
    for name, beginnings in _OTHER_TYPES:
        if head.startswith(beginnings):
            return name
    return None


def _kind_of_text(start: bytes) -> str:
    beginning = start[:512].lower()
    is_html = beginning.startswith(b"<!doctype html") or b"<html" in beginning
    if is_html:
        return "an HTML page"
    if beginning.startswith(b"<?xml"):
        return "an XML text"
    return "text"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SystemicFault(
            f"cannot read the video file {path}: {error.strerror}; it should lie there"
        ) from error


def _container(head: bytes) -> str | None:
    return next((name for name, fits in CONTAINERS.items() if fits(head)), None)
