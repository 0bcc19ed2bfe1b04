"""Finds out whether the pictures of a file are encrypted, from a few headers of its container.

A decoder cannot say: it takes encrypted pictures for damaged ones, and may make grey frames of
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
_TRACK_TYPE = 0x83


_TRACKS = 0x1654AE6B
_TRACK_ENTRY = 0xAE
_STSD_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_TS_SYNC = 0x47
_VIDEO_TRACK = 1


def detect_encryption(path: Path) -> str:
    """How the pictures are encrypted, in words; empty if they are not, or it is unknown."""
    checks = {"mov": _in_mov, "matroska": _in_matroska, "mpegts": _in_mpegts}
    check = checks.get(sniff(path) or "")
    if check is None:
        return ""
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box between two places."""
    # A hostile file may hold millions of empty boxes.
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        content = start + 8
        if length == 1:
            # The length does not fit in 4 bytes; it follows in 8.
            length = int.from_bytes(head[8:16], "big")
            content = start + 16
        elif length == 0:
            length = end - start
        if length < content - start:
            return
        yield head[4:8], content, min(start + length, end)
        start += length


def _boxes_at(
    file: BinaryIO, names: tuple[bytes, ...], start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Start and end of the content of all boxes at a path of names."""
    for name, first, last in _boxes(file, start, end):
        if name != names[0]:
            continue
        if len(names) == 1:
            yield first, last
        else:
            yield from _boxes_at(file, names[1:], first, last)


def _in_mov(file: BinaryIO, size_bytes: int) -> str:
    for start, end in _boxes_at(file, _STSD_PATH, 0, size_bytes):
        # 4 bytes of version and flags, 4 of the number of entries.
        first_entry = start + 8
        for name, _, _ in _boxes(file, first_entry, end):
            if name in _PROTECTED:
                return _PROTECTED[name]
    return ""


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, start and end of the content of each EBML element between two places."""
    for _ in range(_MOST_BOXES):
        if start >= end:
            return
        file.seek(start)
        head = file.read(12)
        id_bytes = _vint_width(head)
        width = _vint_width(head[id_bytes:])
        if not 1 <= id_bytes <= 4 or not width:
            return
        content = start + id_bytes + width
        # Each byte gives one bit to the width; all other bits set to 1 mean an unknown size.
        mask = (1 << 7 * width) - 1
        size = int.from_bytes(head[id_bytes : id_bytes + width], "big") & mask
        is_unknown = size == mask
        last = end if is_unknown else min(content + size, end)
        yield int.from_bytes(head[:id_bytes], "big"), content, last
        start = content + (end if is_unknown else size)


def _vint_width(data: bytes) -> int:
    """Bytes of the EBML number at the start of `data`; 0 if there is none."""
    if not data or not data[0]:
        return 0
    return 9 - data[0].bit_length()


def _in_matroska(file: BinaryIO, size_bytes: int) -> str:
    return "Matroska content encryption" if _has_encryption(file, _EBML_PATH, 0, size_bytes) else ""


def _has_encryption(file: BinaryIO, path: tuple[int, ...], start: int, end: int) -> bool:
    """Whether a video track has an element at this path of ids."""
    wanted, *rest = path
    for number, first, last in _elements(file, start, end):
        if number != wanted:
            continue
        if not rest:
            return True
        is_other_track = number == _TRACK_ENTRY and not _is_video(file, first, last)
        if is_other_track:
            continue
        if _has_encryption(file, tuple(rest), first, last):
            return True
        if number == _TRACKS:
            # A file has one list of tracks; what follows are pictures.
            return False
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
        flags = head[place + 3]
        has_payload = flags & 0x10
        if head[place] != _TS_SYNC or not has_payload:
            continue
        stream = int.from_bytes(head[place + 1 : place + 3], "big") & 0x1FFF
        packets[stream] += 1
        scrambled[stream] += bool(flags & 0xC0)
    if not packets:
        return ""
    # The stream with most packets is the one with the pictures.
    largest = max(packets, key=lambda stream: packets[stream])
    is_scrambled = scrambled[largest] > _SCRAMBLED_SHARE * packets[largest]
    return "scrambled transport stream" if is_scrambled else ""
