"""What a video says of its stored pixels: their shape, their lines, their colours. Facts to keep;
nothing here acts on them.

Networks see stored pixels, turned upright: anamorphic pictures are not stretched, interlaced ones
not woven anew, and HDR is not mapped to SDR. Names are those that ffprobe prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av.video.frame
import av.video.stream

UNKNOWN = "unknown"
_FIELD_ORDERS = (UNKNOWN, "progressive", "tt", "bb", "tb", "bt")
_RANGES = (UNKNOWN, "tv", "pc")
_MATRICES = (
    "gbr", "bt709", UNKNOWN, "reserved", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco", "bt2020nc", "bt2020c",
    "smpte2085", "chroma-derived-nc", "chroma-derived-c", "ictcp",
)  # fmt: skip
_TRANSFERS = (
    "reserved", "bt709", UNKNOWN, "reserved", "bt470m", "bt470bg", "smpte170m", "smpte240m", "linear", "log100",
    "log316", "iec61966-2-4", "bt1361e", "iec61966-2-1", "bt2020-10", "bt2020-12", "smpte2084", "smpte428",
    "arib-std-b67",
)  # fmt: skip
_PRIMARIES = (
    "reserved", "bt709", UNKNOWN, "reserved", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020",
    "smpte428", "smpte431", "smpte432", *["reserved"] * 9, "ebu3213",
)  # fmt: skip


@dataclass(frozen=True)
class PictureFacts:
    """How the film's stored pixels want to be shown."""

    sample_aspect_ratio: tuple[int, int] | None
    """Width to height of one stored pixel; None where nothing is said of it, which players take for
    square.
    """
    field_order: str
    """`progressive`, `tt`, `bb`, `tb`, `bt`, `interlaced` (in an order that is not said), or
    `unknown`.
    """
    transfer: str
    primaries: str
    matrix: str
    range: str
    """`tv` for luma from 16 to 235, `pc` for 0 to 255."""


def picture_facts(
    film: av.video.stream.VideoStream, first: av.video.frame.VideoFrame
) -> PictureFacts:
    """By the header, and by the first picture where that knows more."""
    context = film.codec_context
    ratio = film.sample_aspect_ratio
    order = _named(_FIELD_ORDERS, context.field_order)
    return PictureFacts(
        sample_aspect_ratio=(ratio.numerator, ratio.denominator) if ratio else None,
        field_order="interlaced" if order == UNKNOWN and first.interlaced_frame else order,
        transfer=_told(_TRANSFERS, first.color_trc, context.color_trc),
        primaries=_told(_PRIMARIES, first.color_primaries, context.color_primaries),
        matrix=_told(_MATRICES, first.colorspace, context.colorspace),
        range=_told(_RANGES, first.color_range, context.color_range),
    )


def _told(names: Sequence[str], by_picture: int, by_header: int) -> str:
    name = _named(names, by_picture)
    return _named(names, by_header) if name == UNKNOWN else name


def _named(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(int(number))
