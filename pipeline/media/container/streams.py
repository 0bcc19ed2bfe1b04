"""Opens a file with one demuxer, and chooses the video stream that ffmpeg would choose, no cover.

A file may hold several video streams: a cover, a preview, thumbnails, a second camera.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream
import av.video.stream

from pipeline.media.container.container_formats import sniff
from pipeline.media.container.demuxer_errors import DemuxerErrors

LISTED_STREAMS = 32
"""So many other streams are recorded of a file; a hostile one has thousands."""

# ffmpeg's own weights (`map_auto_video` in fftools/ffmpeg_mux_init.c), in pixels.
_HAS_PACKETS_PIXELS = 100_000_000
_IS_DEFAULT_PIXELS = 5_000_000

_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "tiff", "gif", "jpeg2000"}
"""Codecs of covers. A stream of these is a cover only if it has one picture: MJPEG is video too."""

PROBED_BYTES = 5_000_000
PROBED_SECONDS = 5.0
_PROBED_SECONDS_OF = {"flv": 90.0, "mpegts": 7.0}
"""How much of a file FFmpeg looks at before it chooses: its defaults for `probesize` and
`analyzeduration`.
"""


@dataclass(frozen=True)
class OtherStream:
    """A stream that was not chosen."""

    index: int
    kind: str
    """`video`, `audio`, `subtitle`, `data`, `attachment`; empty if FFmpeg does not know it."""
    codec: str
    """Empty where FFmpeg has no decoder for it."""
    width: int
    """Pixels as stored; 0 if it is not video."""
    height: int
    is_default: bool
    is_attached_picture: bool
    """A cover, or thumbnails of chapters: never chosen."""


def open_container(
    path: Path, container: str, demuxer_errors: DemuxerErrors | None = None
) -> av.container.InputContainer:
    """Open with exactly this demuxer, and only this file. Raises av.error.FFmpegError.

    Args:
        path: the file.
        container: a key of `CONTAINERS`.
        demuxer_errors: counts the demuxer's messages.
    """
    # Without the whitelists a playlist that poses as a video could make FFmpeg open other files.
    only = {"protocol_whitelist": "file", "format_whitelist": container}
    with demuxer_errors or DemuxerErrors():
        # Titles may be in any encoding. They are never read, so faults in them do not matter.
        return av.open(
            f"file:{path.absolute()}", format=container, options=only, metadata_errors="replace"
        )


def choose_stream(
    opened: av.container.InputContainer, path: Path
) -> av.video.stream.VideoStream | None:
    """The video stream that `ffmpeg -i FILE` would take, without covers; None if there is none.

    That is the one with most pixels. Being marked as default counts as 5 million pixels, having a
    packet among the first of the file as 100 million; of equals the first is taken. A stream that
    nothing here decodes is taken only if there is no other. `path` is the opened file.
    """
    streams = [stream for stream in opened.streams.video if not _is_attached_picture(stream)]
    if not streams:
        return None
    if len(streams) == 1:
        # Nothing to choose, so its packets need not be read.
        return streams[0]
    return _highest_score(streams, path)


def _highest_score(
    streams: list[av.video.stream.VideoStream], path: Path
) -> av.video.stream.VideoStream:
    decodable = [stream for stream in streams if _has_decoder(stream)]
    packets = _count_first_packets(path, {stream.index for stream in decodable})
    moving = _without_still_pictures(decodable, packets)

    def score(stream: av.video.stream.VideoStream) -> int:
        return _score(stream, packets)

    # max() returns the first of equals.
    return max(moving or streams, key=score)


def _without_still_pictures(
    streams: list[av.video.stream.VideoStream], packets: Mapping[int, int]
) -> list[av.video.stream.VideoStream]:
    """The streams without covers that no flag marks, if one of the streams moves.

    ffmpeg itself would take such a cover, because its own Matroska muxer marks the first stream as
    default.
    """
    most_packets = max(packets.values(), default=0)
    if most_packets <= 1:
        return streams
    return [stream for stream in streams if not _is_still_picture(stream, packets)]


def video_stream_at(opened: av.container.InputContainer, index: int) -> av.video.stream.VideoStream:
    """The video stream with that index.

    Raises TypeError if it is not video: the file is not the one that was probed.
    """
    stream = opened.streams[index]
    if not isinstance(stream, av.video.stream.VideoStream):
        raise TypeError(f"stream {index} of the probe is {stream.type}, not video: another file?")
    return stream


def other_streams(
    opened: av.container.InputContainer, chosen: av.stream.Stream
) -> tuple[OtherStream, ...]:
    """The other streams of a file in its own order, at most `LISTED_STREAMS`."""
    others = [stream for stream in opened.streams if stream.index != chosen.index]
    return tuple(map(_describe, others[:LISTED_STREAMS]))


def _describe(stream: av.stream.Stream) -> OtherStream:
    width, height = 0, 0
    if isinstance(stream, av.video.stream.VideoStream) and _has_decoder(stream):
        width, height = stream.codec_context.width, stream.codec_context.height
    return OtherStream(
        index=stream.index,
        kind=stream.type or "",
        codec=stream.codec_context.name if _has_decoder(stream) else "",
        width=width,
        height=height,
        is_default=_is_default(stream),
        is_attached_picture=_is_attached_picture(stream),
    )


def _is_default(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def _is_attached_picture(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _has_decoder(stream: av.stream.Stream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _is_still_picture(stream: av.video.stream.VideoStream, packets: Mapping[int, int]) -> bool:
    return stream.codec_context.name in _STILL_CODECS and packets.get(stream.index) == 1


def _score(stream: av.video.stream.VideoStream, packets: Mapping[int, int]) -> int:
    # Its size is unknown without a decoder.
    if not _has_decoder(stream):
        return 0
    pixels = stream.codec_context.width * stream.codec_context.height
    bonus = _HAS_PACKETS_PIXELS * (stream.index in packets)
    bonus += _IS_DEFAULT_PIXELS * _is_default(stream)
    return pixels + bonus


def _count_first_packets(path: Path, indices: set[int]) -> dict[int, int]:
    """Stream → its packets in the beginning of the file that FFmpeg would probe.

    Only streams of `indices` are counted; one without a packet is absent.
    """
    container = sniff(path) or ""
    window = _ProbeWindow(_PROBED_SECONDS_OF.get(container, PROBED_SECONDS))
    packets: Counter[int] = Counter()
    # What comes before damage is what FFmpeg sees too.
    with contextlib.suppress(av.error.FFmpegError), open_container(path, container) as opened:
        for packet in opened.demux():
            if packet.stream_index in indices and packet.size:
                packets[packet.stream_index] += 1
            # Two packets of each stream decide everything.
            is_decided = all(packets[index] > 1 for index in indices)
            if window.is_over_after(packet) or is_decided:
                break
    return packets


class _ProbeWindow:
    """The beginning of a file that FFmpeg reads before it chooses a stream."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._read_bytes = 0
        self._first_seconds: dict[int, float] = {}

    def is_over_after(self, packet: Any) -> bool:
        self._read_bytes += packet.size
        if self._read_bytes >= PROBED_BYTES:
            return True
        if packet.dts is None or packet.time_base is None:
            return False
        seconds = float(packet.dts * packet.time_base)
        first_seconds = self._first_seconds.setdefault(packet.stream_index, seconds)
        return seconds - first_seconds >= self._limit_seconds
