"""How a video's stored pixels are meant to be shown: aspect ratio, field order, colours.

These facts are only recorded. Networks see stored pixels, turned upright: anamorphic pictures are
not stretched, interlaced ones not deinterlaced, and HDR is not mapped to SDR. Names are those that
ffprobe prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av.video.frame
import av.video.stream

UNKNOWN = "unknown"
_FIELD_ORDERS = (UNKNOWN, "progressive", "tt", "bb", "tb", "bt")
_RANGES = (UNKNOWN, "tv", "pc")
# FFmpeg's numbers are indices into these tables of names.
_MATRICES = (
    "gbr", "bt709", UNKNOWN, "reserved", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco",
    "bt2020nc", "bt2020c", "smpte2085", "chroma-derived-nc", "chroma-derived-c", "ictcp",
)  # fmt: skip
_TRANSFERS = (
    "reserved", "bt709", UNKNOWN, "reserved", "bt470m", "bt470bg", "smpte170m", "smpte240m",
    "linear", "log100", "log316", "iec61966-2-4", "bt1361e", "iec61966-2-1", "bt2020-10",
    "bt2020-12", "smpte2084", "smpte428", "arib-std-b67",
)  # fmt: skip
_PRIMARIES = (
    "reserved", "bt709", UNKNOWN, "reserved", "bt470m", "bt470bg", "smpte170m", "smpte240m",
    "film", "bt2020", "smpte428", "smpte431", "smpte432", *["reserved"] * 9, "ebu3213",
)  # fmt: skip


@dataclass(frozen=True)
class PictureFacts:
    """How a video's stored pixels are meant to be shown."""

    sample_aspect_ratio: tuple[int, int] | None
    """Width to height of one stored pixel; None if it is not stated, which players take as square.
    """
    field_order: str
    """`progressive`, `tt`, `bb`, `tb`, `bt`, `interlaced` (in an unknown order), or `unknown`."""
    transfer: str
    primaries: str
    matrix: str
    range: str
    """`tv` for luma from 16 to 235, `pc` for 0 to 255."""


def picture_facts(
    stream: av.video.stream.VideoStream, first: av.video.frame.VideoFrame
) -> PictureFacts:
    """By the first picture, and by the header where the picture does not say."""
    context = stream.codec_context
    ratio = stream.sample_aspect_ratio
    field_order = _name(_FIELD_ORDERS, context.field_order)
    if field_order == UNKNOWN and first.interlaced_frame:
        field_order = "interlaced"
    return PictureFacts(
        sample_aspect_ratio=(ratio.numerator, ratio.denominator) if ratio else None,
        field_order=field_order,
        transfer=_first_known(_TRANSFERS, first.color_trc, context.color_trc),
        primaries=_first_known(_PRIMARIES, first.color_primaries, context.color_primaries),
        matrix=_first_known(_MATRICES, first.colorspace, context.colorspace),
        range=_first_known(_RANGES, first.color_range, context.color_range),
    )


def _first_known(names: Sequence[str], of_picture: int, of_header: int) -> str:
    name = _name(names, of_picture)
    return _name(names, of_header) if name == UNKNOWN else name


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(int(number))
