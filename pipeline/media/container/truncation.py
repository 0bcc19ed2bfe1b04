"""Finds out whether a media file ends before its own container says it ends.

The sizes in the file's headers are compared with the file, to the byte; no frame is decoded. A live
Matroska states no size of the whole, but its elements state theirs: cut between two of them it
looks complete, and only counts of packets show it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.media.container.container_formats import HEAD_BYTES, TS_PACKET_BYTES, sniff, ts_layout

_LARGEST_OGG_PAGE = 65536
_LARGEST_SIDX = 1 << 20
_TS_SYNC = b"\x47"
_TS_CHUNK_PACKETS = 8192
_LONGEST_EBML_HEAD = 12
_FLV_TAGS = (8, 9, 18)
_SEGMENT = b"\x18\x53\x80\x67"


_MOV_HEAD_BYTES = 8
_LONGEST_EBML_ID = 4
_OGG_HEAD_BYTES = 27


def missing_bytes(path: Path) -> str:
    """What is missing at the end of the file, in words; empty if nothing is, or it is unknown."""
    container = sniff(path)
    check = _CHECKS.get(container)
    if check is None:
        return ""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        return check(file, size_bytes)


def _if_beyond(what: str, end: int, size_bytes: int) -> str:
    """A message if `what` ends at a byte that the file does not have."""
    if end <= size_bytes:
        return ""
    return f"{what} says it ends at byte {end:,}, the file has {size_bytes:,}"


class _MovBox(NamedTuple):
    """The head of a box: its name and size in bytes, both as they stand in the file."""

    name: bytes
    size_bytes: int


def _read_box(file: BinaryIO, place: int) -> _MovBox:
    file.seek(place)
    head = file.read(16)
    size_bytes = int.from_bytes(head[:4], "big")
    if size_bytes == 1:
        # The size does not fit in 4 bytes; it follows in 8.
        size_bytes = int.from_bytes(head[8:16], "big")
    return _MovBox(head[4:8], size_bytes)


def _mov(file: BinaryIO, size_bytes: int) -> str:
    place = 0
    names: list[bytes] = []
    second_moov_at = 0
    while place < size_bytes:
        box = _read_box(file, place)
        if box.name == b"moov" and b"moov" in names and not second_moov_at:
            second_moov_at = place
        names.append(box.name)
        cut = _cut_in_box(file, place, box, size_bytes)
        if cut:
            return cut
        if box.size_bytes < _MOV_HEAD_BYTES:
            # 0 means up to the end of the file; other small sizes are not boxes.
            break
        place += box.size_bytes
    return _missing_moov(names, second_moov_at)


def _cut_in_box(file: BinaryIO, place: int, box: _MovBox, size_bytes: int) -> str:
    head_is_cut = place + _MOV_HEAD_BYTES > size_bytes
    if head_is_cut or place + box.size_bytes > size_bytes:
        end = place + max(box.size_bytes, _MOV_HEAD_BYTES)
        return _if_beyond(f"box {box.name!r}", end, size_bytes)
    if box.name == b"sidx" and box.size_bytes >= _MOV_HEAD_BYTES:
        end = _end_by_sidx(file, place, box.size_bytes)
        return _if_beyond("the segment index", end, size_bytes)
    return ""


def _missing_moov(names: list[bytes], second_moov_at: int) -> str:
    if b"moov" not in names:
        return "there is no moov box, which says where the frames are"
    # A live recording may repeat its moov; its frames are described by moof boxes, which are all
    # read.
    is_live = b"moof" in names
    if second_moov_at and names.count(b"mdat") > 1 and not is_live:
        return (
            f"a second moov box at byte {second_moov_at:,} is not read, "
            "nor are the frames that it describes"
        )
    return ""


def _end_by_sidx(file: BinaryIO, place: int, length: int) -> int:
    """Where the last segment of a segment index ends; 0 if the index itself is cut short."""
    file.seek(place)
    box = file.read(min(length, _LARGEST_SIDX))
    has_long_size = int.from_bytes(box[:4], "big") == 1
    head_bytes = 4 + 4 + (8 if has_long_size else 0)
    # Version 0 has times of 4 bytes, later versions of 8.
    time_bytes = 4 if box[head_bytes : head_bytes + 1] == b"\0" else 8
    # Version and flags, then the stream's id and its time scale, then the earliest time.
    offset_at = head_bytes + 4 + 8 + time_bytes
    first_at = offset_at + time_bytes + 4
    if len(box) < first_at:
        return 0
    offset = int.from_bytes(box[offset_at : first_at - 4], "big")
    count = int.from_bytes(box[first_at - 2 : first_at], "big")
    # The first bit of a size says what kind of segment it is.
    sizes = [
        int.from_bytes(box[at : at + 4], "big") & 0x7FFFFFFF
        for at in range(first_at, len(box) - 11, 12)
    ]
    return place + length + offset + sum(sizes[:count])


def _matroska(file: BinaryIO, size_bytes: int) -> str:
    file.seek(4)
    header_bytes = _read_vint(file)
    file.seek(header_bytes or 0, os.SEEK_CUR)
    if header_bytes is None or file.read(4) != _SEGMENT:
        return _if_beyond("the header", file.tell() + 1, size_bytes)
    segment_bytes = _read_vint(file)
    start = file.tell()
    if segment_bytes is None:
        return _live_matroska(file, start, size_bytes)
    return _if_beyond("the segment", start + segment_bytes, size_bytes)


def _live_matroska(file: BinaryIO, place: int, size_bytes: int) -> str:
    """Walk over the elements: one of unknown size (a live cluster) is entered, others skipped."""
    while place < size_bytes:
        file.seek(place)
        head = file.read(_LONGEST_EBML_HEAD)
        id_bytes = _vint_width(head[0])
        if id_bytes > _LONGEST_EBML_ID:
            return ""  # not an element, so its end cannot be missing
        has_size = len(head) > id_bytes and head[id_bytes] != 0
        width = _vint_width(head[id_bytes]) if has_size else 1
        start = place + id_bytes + width
        if start > size_bytes:
            return _if_beyond("the last element's head", start, size_bytes)
        length = _read_vint(io.BytesIO(head[id_bytes:]))
        end = start + (length or 0)
        if cut := _if_beyond(f"the element at byte {place:,}", end, size_bytes):
            return cut
        place = end
    return ""


def _vint_width(first_byte: int) -> int:
    """Bytes of an EBML number: one more than the leading zero bits of its first byte."""
    return 9 - first_byte.bit_length()


def _read_vint(file: BinaryIO) -> int | None:
    """An EBML number; None for `unknown`, and at the end of the file."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = _vint_width(first[0])
    rest = file.read(width - 1)
    # Each byte gives one bit to the width; all other bits set to 1 mean `unknown`.
    mask = (1 << (7 * width)) - 1
    value = int.from_bytes(first + rest, "big") & mask
    return None if value == mask else value


def _avi(file: BinaryIO, size_bytes: int) -> str:
    # A large AVI is a row of RIFF chunks.
    place = 0
    while place + 8 <= size_bytes:
        file.seek(place)
        head = file.read(8)
        # Some programs append their own data.
        if head[:4] != b"RIFF":
            break
        place += 8 + int.from_bytes(head[4:8], "little")
    return _if_beyond("the RIFF chunk", place, size_bytes)


def _flv(file: BinaryIO, size_bytes: int) -> str:
    # A file ends with the length of its last tag, and that tag begins with its own length.
    file.seek(max(size_bytes - 4, 0))
    length = int.from_bytes(file.read(4), "big")
    if 11 <= length <= size_bytes - 4:
        file.seek(size_bytes - 4 - length)
        head = file.read(4)
        is_tag = head[0] & 0x1F in _FLV_TAGS
        if is_tag and int.from_bytes(head[1:4], "big") + 11 == length:
            return ""
    return "the last tag is cut"


def _ogg(file: BinaryIO, size_bytes: int) -> str:
    file.seek(max(size_bytes - _LARGEST_OGG_PAGE, 0))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEAD_BYTES:
        return "the last page is cut"
    # Byte 26 is the number of segments, whose sizes follow.
    segments = page[26]
    sizes = page[_OGG_HEAD_BYTES : _OGG_HEAD_BYTES + segments]
    if len(page) != _OGG_HEAD_BYTES + segments + sum(sizes):
        return "the last page is cut"
    is_marked_as_last = page[5] & 4
    return "" if is_marked_as_last else "the last page is not marked as last"


def _mpegts(file: BinaryIO, size_bytes: int) -> str:
    packet_bytes, offset = ts_layout(file.read(HEAD_BYTES)) or (TS_PACKET_BYTES, 0)
    # A transport stream states no size, but all its packets are equally long.
    if rest := size_bytes % packet_bytes:
        return f"the last packet has {rest} of {packet_bytes} bytes"
    file.seek(0)
    packets = size_bytes // packet_bytes
    synced = 0
    while chunk := file.read(packet_bytes * _TS_CHUNK_PACKETS):
        synced += chunk[offset::packet_bytes].count(_TS_SYNC)
    if synced == packets:
        return ""
    return f"{packets - synced} of its {packets:,} packets do not begin as packets do"


_CHECKS: dict[str | None, Callable[[BinaryIO, int], str]] = {
    "mov": _mov,
    "matroska": _matroska,
    "avi": _avi,
    "flv": _flv,
    "ogg": _ogg,
    "mpegts": _mpegts,
}
