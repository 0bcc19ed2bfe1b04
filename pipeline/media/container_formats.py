"""The first bytes of a file → which container it is. The only rule for what we open, and under what name we keep it.

Names and content types are not asked: a server may call a web page `video/mp4`, and a playlist that is named `.mp4`
would make a decoder read other files. Refuses to know what is inside a container.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.errors import SystemicFault

HEAD_BYTES = 1024
"""Enough for every test below: a Matroska header names its document type in the first hundred bytes."""
TS_PACKET_BYTES = 188
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
_BRANDS = {b"qt  ": ".mov", b"M4V ": ".m4v", b"M4VH": ".m4v", b"M4VP": ".m4v"}


def _is_mov(head: bytes) -> bool:
    return head[4:8] in _MOV_BOXES


def _is_mpegts(head: bytes) -> bool:
    starts = head[::TS_PACKET_BYTES]
    return len(starts) > 2 and set(starts) == {0x47}


CONTAINERS: dict[str, Callable[[bytes], bool]] = {
    "mov": _is_mov,
    "matroska": lambda head: head.startswith(b"\x1a\x45\xdf\xa3"),
    "avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
    "flv": lambda head: head.startswith(b"FLV\x01"),
    "ogg": lambda head: head.startswith(b"OggS"),
    "mpegts": _is_mpegts,
}
"""FFmpeg's name of a demuxer we open → whether a file that starts so is for it. mov reads mp4, matroska reads webm."""

_SUFFIX_OF: dict[str, Callable[[bytes], str]] = {
    "mov": lambda head: _BRANDS.get(head[8:12], ".mp4") if head[4:8] == b"ftyp" else ".mov",
    "matroska": lambda head: ".webm" if b"webm" in head[:64] else ".mkv",
    "avi": lambda _: ".avi",
    "flv": lambda _: ".flv",
    "ogg": lambda _: ".ogv",
    "mpegts": lambda _: ".ts",
}


def sniff(path: Path) -> str | None:
    """The key of `CONTAINERS` that the file's first bytes ask for. Raises SystemicFault if it cannot be read."""
    return _container(_head(path))


def suffix_for(path: Path) -> str | None:
    """The file name suffix that fits the first bytes; None when they belong to no container we open."""
    head = _head(path)
    container = _container(head)
    return _SUFFIX_OF[container](head) if container else None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise SystemicFault(f"cannot read the video file {path}: {error.strerror}; it should lie there") from error


def _container(head: bytes) -> str | None:
    return next((name for name, fits in CONTAINERS.items() if fits(head)), None)
