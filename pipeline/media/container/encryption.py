"""Are the pictures of a file encrypted? From a few headers of the container, without a key and
without a decoder.

A decoder is not told: it takes encrypted pictures for damaged ones, and may make grey frames of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.media.container.container_formats import HEAD_BYTES, TS_PACKET_BYTES, sniff, ts_layout

_MOST_BOXES = 100_000
_MOST_HEADER_BYTES = 1 << 20
_TS_BYTES_LOOKED_AT = 4_000_000
_SCRAMBLED_SHARE = 0.5
_PROTECTED = {b"encv": "Common Encryption", b"drmi": "FairPlay"}
"""A track's type of sample in QuickTime and MP4, where it is protected."""
_EBML_PATH = (0x18538067, 0x1654AE6B, 0xAE, 0x6D80, 0x6240, 0x5035)
"""Matroska: Segment, Tracks, TrackEntry, ContentEncodings, ContentEncoding, ContentEncryption."""
_TRACK_TYPE, _VIDEO_TRACK = 0x83, 1


def detect_encryption(path: Path) -> str:
    """How the pictures are encrypted, in words; empty if they are not, or if it cannot be told."""
    look = {"mov": _in_mov, "matroska": _in_matroska, "mpegts": _in_mpegts}.get(sniff(path) or "")
    if look is None:
        return ""
    with path.open("rb") as file:
        return look(file, path.stat().st_size)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box between two places."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        length, content = int.from_bytes(head[:4], "big"), start + 8
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), start + 16
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        yield head[4:8], content, min(start + length, end)
        start += length


def _inside(
    file: BinaryIO, names: tuple[bytes, ...], start: int, end: int
) -> Iterator[tuple[int, int]]:
    """The contents of all boxes at such a path of names."""
    for name, first, last in _boxes(file, start, end):
        if name == names[0]:
            yield from [(first, last)] if len(names) == 1 else _inside(file, names[1:], first, last)


def _in_mov(file: BinaryIO, size_bytes: int) -> str:
    for start, end in _inside(
        file, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"), 0, size_bytes
    ):
        # 4 bytes of version and flags, 4 of the number of entries.
        for name, _, _ in _boxes(file, start + 8, end):
            if name in _PROTECTED:
                return _PROTECTED[name]
    return ""


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, start and end of the content of each EBML element between two places."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(12)
        id_bytes = 9 - head[0].bit_length() if head and head[0] else 0
        if start >= end or not 1 <= id_bytes <= 4 or len(head) <= id_bytes or not head[id_bytes]:
            return
        size_length = 9 - head[id_bytes].bit_length()
        raw = head[id_bytes : id_bytes + size_length]
        size = int.from_bytes(raw, "big") & ((1 << 7 * size_length) - 1)
        content = start + id_bytes + size_length
        unknown = size == (1 << 7 * size_length) - 1
        last = end if unknown else min(content + size, end)
        yield int.from_bytes(head[:id_bytes], "big"), content, last
        start = content + (end if unknown else size)


def _in_matroska(file: BinaryIO, size_bytes: int) -> str:
    return "Matroska content encryption" if _has_encryption(file, _EBML_PATH, 0, size_bytes) else ""


def _has_encryption(file: BinaryIO, path: tuple[int, ...], start: int, end: int) -> bool:
    for number, first, last in _elements(file, start, end):
        if number != path[0]:
            continue
        if len(path) == 1:
            return True
        if number == _EBML_PATH[2] and not _is_video(file, first, last):
            continue
        if _has_encryption(file, path[1:], first, last):
            return True
        if number == _EBML_PATH[1]:
            return False  # one list of tracks is all there is; pictures follow
    return False


def _is_video(file: BinaryIO, start: int, end: int) -> bool:
    for number, first, last in _elements(file, start, end):
        if number == _TRACK_TYPE:
            file.seek(first)
            return int.from_bytes(file.read(min(last - first, 8)), "big") == _VIDEO_TRACK
    return False


def _in_mpegts(file: BinaryIO, _: int) -> str:
    head = file.read(_TS_BYTES_LOOKED_AT)
    packet_bytes, offset = ts_layout(head[:HEAD_BYTES]) or (TS_PACKET_BYTES, 0)
    packets: Counter[int] = Counter()
    scrambled: Counter[int] = Counter()
    for place in range(offset, len(head) - 3, packet_bytes):
        if head[place] == 0x47 and head[place + 3] & 0x10:  # a packet with something in it
            stream = int.from_bytes(head[place + 1 : place + 3], "big") & 0x1FFF
            packets[stream] += 1
            scrambled[stream] += bool(head[place + 3] & 0xC0)
    # Pictures are what most packets are of.
    largest = max(packets, key=lambda stream: packets[stream], default=None)
    is_scrambled = largest is not None and scrambled[largest] > _SCRAMBLED_SHARE * packets[largest]
    return "scrambled transport stream" if is_scrambled else ""
