"""Does a media file end where its own container says it ends? To the byte, from sizes written in
the file.

Reads headers and never a frame; of a transport stream those of all its packets. Finds every cut,
however small, in containers that state their size. A live Matroska states none, but its elements
do; cut between two of them it looks whole, and only counts may tell.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pipeline.media.container.container_formats import HEAD_BYTES, TS_PACKET_BYTES, sniff, ts_layout

_LARGEST_OGG_PAGE = 65536
_LARGEST_SIDX = 1 << 20
_TS_SYNC = b"\x47"
_TS_CHUNK_PACKETS = 8192
_LONGEST_EBML_HEAD = 12
_FLV_TAGS = (8, 9, 18)
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> str:
    """What is missing at the end of the file, in words; empty if nothing is, or if it cannot be
    told.
    """
    container = sniff(path)
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        return _CHECKS[container](file, size_bytes) if container in _CHECKS else ""


def _ends_at(what: str, end: int, size_bytes: int) -> str:
    return (
        f"{what} says it ends at byte {end:,}, the file has {size_bytes:,}"
        if end > size_bytes
        else ""
    )


def _mov(file: BinaryIO, size_bytes: int) -> str:
    place = 0
    boxes: list[bytes] = []
    second_movie_at = 0
    while place < size_bytes:
        file.seek(place)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if name == b"moov" and name in boxes:
            second_movie_at = second_movie_at or place
        boxes.append(name)
        if len(head) < 8 or place + length > size_bytes:
            return _ends_at(f"box {name!r}", place + max(length, 8), size_bytes)
        if length < 8:
            break  # 0 reaches to the end of the file by definition; anything else is no box
        if name == b"sidx" and (
            cut := _ends_at("the segment index", _sidx_end(file, place, length), size_bytes)
        ):
            return cut
        place += length
    if b"moov" not in boxes:
        return "there is no moov box, which says where the frames are"
    # A live recording may repeat its moov; its frames are described by moof boxes, which are all
    # read.
    if second_movie_at and boxes.count(b"mdat") > 1 and b"moof" not in boxes:
        return f"a second moov box at byte {second_movie_at:,} is not read, nor are the frames that it describes"
    return ""


def _sidx_end(file: BinaryIO, place: int, length: int) -> int:
    """Where the last of the segments ends that an index of segments knows; 0 for one that is cut
    short itself.
    """
    file.seek(place)
    box = file.read(min(length, _LARGEST_SIDX))
    head = 4 + 4 + (8 if int.from_bytes(box[:4], "big") == 1 else 0)
    wide = box[head : head + 1] != b"\0"  # version 0 spells its times in 4 bytes, later ones in 8
    offset_at = head + 4 + 8 + (8 if wide else 4)
    first_at = offset_at + (8 if wide else 4) + 4
    if len(box) < first_at:
        return 0
    offset = int.from_bytes(box[offset_at : first_at - 4], "big")
    count = int.from_bytes(box[first_at - 2 : first_at], "big")
    sizes = [
        int.from_bytes(box[at : at + 4], "big") & 0x7FFFFFFF
        for at in range(first_at, len(box) - 11, 12)
    ]
    return place + length + offset + sum(sizes[:count])


def _matroska(file: BinaryIO, size_bytes: int) -> str:
    file.seek(4)
    header = _vint(file)
    file.seek(header or 0, os.SEEK_CUR)
    if header is None or file.read(4) != _SEGMENT:
        return _ends_at("the header", file.tell() + 1, size_bytes)
    length = _vint(file)
    begin = file.tell()
    return (
        _live_matroska(file, begin, size_bytes)
        if length is None
        else _ends_at("the segment", begin + length, size_bytes)
    )


def _live_matroska(file: BinaryIO, place: int, size_bytes: int) -> str:
    """From element to element: one of unknown size (a live cluster) is entered, any other is passed
    over.
    """
    while place < size_bytes:
        file.seek(place)
        head = file.read(_LONGEST_EBML_HEAD)
        id_bytes = 9 - head[0].bit_length()
        if id_bytes > 4:
            return ""  # no element begins so: rubbish, and no end that could be missed
        size_width = (
            9 - head[id_bytes].bit_length() if len(head) > id_bytes and head[id_bytes] else 1
        )
        begin = place + id_bytes + size_width
        if begin > size_bytes:
            return _ends_at("the last element's head", begin, size_bytes)
        length = _vint(io.BytesIO(head[id_bytes:]))
        if cut := _ends_at(f"the element at byte {place:,}", begin + (length or 0), size_bytes):
            return cut
        place = begin + (length or 0)
    return ""


def _vint(file: BinaryIO) -> int | None:
    """A number as EBML writes it; None for `unknown`, and at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    rest = file.read(width - 1)
    bits = 7 * width
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _avi(file: BinaryIO, size_bytes: int) -> str:
    place = 0
    while place + 8 <= size_bytes:
        file.seek(place)
        head = file.read(8)
        if head[:4] != b"RIFF":
            break
        place += 8 + int.from_bytes(head[4:8], "little")
    return _ends_at("the RIFF chunk", place, size_bytes)


def _flv(file: BinaryIO, size_bytes: int) -> str:
    file.seek(max(size_bytes - 4, 0))
    length = int.from_bytes(file.read(4), "big")
    if 11 <= length <= size_bytes - 4:
        file.seek(size_bytes - 4 - length)
        head = file.read(4)
        if head[0] & 0x1F in _FLV_TAGS and int.from_bytes(head[1:4], "big") + 11 == length:
            return ""
    return "the last tag is cut"


def _ogg(file: BinaryIO, size_bytes: int) -> str:
    file.seek(max(size_bytes - _LARGEST_OGG_PAGE, 0))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) != 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return "the last page is cut"
    return "" if page[5] & 4 else "the last page is not marked as last"


def _mpegts(file: BinaryIO, size_bytes: int) -> str:
    packet_bytes, offset = ts_layout(file.read(HEAD_BYTES)) or (TS_PACKET_BYTES, 0)
    if rest := size_bytes % packet_bytes:
        return f"the last packet has {rest} of {packet_bytes} bytes"
    file.seek(0)
    chunks = iter(lambda: file.read(packet_bytes * _TS_CHUNK_PACKETS), b"")
    packets = size_bytes // packet_bytes
    begun = sum(chunk[offset::packet_bytes].count(_TS_SYNC) for chunk in chunks)
    return (
        f"{packets - begun} of its {packets:,} packets do not begin as packets do"
        if begun < packets
        else ""
    )


_CHECKS: dict[str | None, Callable[[BinaryIO, int], str]] = {
    "mov": _mov,
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "ogg": _ogg,
    "mpegts": _mpegts,
}
