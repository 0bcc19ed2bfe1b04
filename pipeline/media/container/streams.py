"""Opens a file with one demuxer, and says which of its streams is the film: the one that ffmpeg
would choose, no cover.

A file may hold several video streams: a cover, a preview, thumbnails, a second camera. Refuses to
know packets' times and pictures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error
import av.stream
import av.video.stream

from pipeline.media.container.container_formats import sniff
from pipeline.media.container.demuxer_errors import DemuxerErrors

LISTED_STREAMS = 32
"""Streams beside the film that are told of one file; a hostile one has thousands."""

# ffmpeg's own weights (`map_auto_video` in fftools/ffmpeg_mux_init.c), in pixels.
_HAS_PACKETS_PIXELS = 100_000_000
_IS_DEFAULT_PIXELS = 5_000_000

_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "tiff", "gif", "jpeg2000"}
"""What covers are kept in. Of these only a stream of a single picture is a cover: MJPEG films have
many.
"""

PROBED_BYTES = 5_000_000
PROBED_SECONDS = 5.0
_PROBED_SECONDS_OF = {"flv": 90.0, "mpegts": 7.0}
"""How much of a file FFmpeg looks at before it chooses: its defaults for `probesize` and
`analyzeduration`.
"""


@dataclass(frozen=True)
class OtherStream:
    """A stream that is not the film."""

    index: int
    kind: str
    """`video`, `audio`, `subtitle`, `data`, `attachment`; empty if FFmpeg does not know it."""
    codec: str
    """Empty where FFmpeg has no decoder for it."""
    width: int
    """Pixels as stored; 0 for what is no video."""
    height: int
    is_default: bool
    is_attached_picture: bool
    """A cover, or thumbnails of chapters: never the film."""


def open_container(
    path: Path, container: str, demuxer_errors: DemuxerErrors | None = None
) -> av.container.InputContainer:
    """Open with exactly this demuxer, from this one file; its `demuxer_errors` are counted. Raises
    av.error.FFmpegError.

    Titles and names of streams may be in any encoding: they are never read, so what is not UTF-8 in
    them is replaced.
    """
    only = {"protocol_whitelist": "file", "format_whitelist": container}
    with demuxer_errors or DemuxerErrors():
        return av.open(
            f"file:{path.absolute()}", format=container, options=only, metadata_errors="replace"
        )


def choose_stream(
    opened: av.container.InputContainer, path: Path
) -> av.video.stream.VideoStream | None:
    """The video stream that `ffmpeg -i FILE` would take, covers aside; None where there is none but
    covers.

    That is the one of most pixels; to be marked as default counts 5 million of them, to have a
    packet among the first of the file 100 million; of equals the first one. A stream that nothing
    here decodes is taken only if there is no other. Beside a stream that moves, a single still
    picture is a cover, also where no flag says so: ffmpeg would take it, since its own Matroska
    muxer marks the first stream as default. `path` is what was opened.
    """
    moving = [stream for stream in opened.streams.video if not _is_attached_picture(stream)]
    if len(moving) < 2:
        return next(iter(moving), None)
    known = [stream for stream in moving if _has_decoder(stream)]
    packets = _first_packets(path, {stream.index for stream in known})
    if any(count > 1 for count in packets.values()):
        known = [stream for stream in known if not _is_still_picture(stream, packets)]
    return max(known or moving, key=lambda stream: _score(stream, packets))  # the first of equals


def video_stream_at(opened: av.container.InputContainer, index: int) -> av.video.stream.VideoStream:
    """The stream of that number. Raises TypeError where it is no video: another file than the one
    that was probed.
    """
    stream = opened.streams[index]
    if not isinstance(stream, av.video.stream.VideoStream):
        raise TypeError(f"stream {index} of the probe is {stream.type}, not video: another file?")
    return stream


def other_streams(
    opened: av.container.InputContainer, film: av.stream.Stream
) -> tuple[OtherStream, ...]:
    """What else a file holds, in its own order, at most `LISTED_STREAMS`."""
    others = [stream for stream in opened.streams if stream.index != film.index]
    return tuple(_told(stream) for stream in others[:LISTED_STREAMS])


def _told(stream: av.stream.Stream) -> OtherStream:
    size = (0, 0)
    if isinstance(stream, av.video.stream.VideoStream) and _has_decoder(stream):
        size = (stream.codec_context.width, stream.codec_context.height)
    return OtherStream(
        index=stream.index,
        kind=stream.type or "",
        codec=stream.codec_context.name if _has_decoder(stream) else "",
        width=size[0],
        height=size[1],
        is_default=bool(stream.disposition & av.stream.Disposition.default),
        is_attached_picture=_is_attached_picture(stream),
    )


def _is_attached_picture(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _has_decoder(stream: av.stream.Stream) -> bool:
    return getattr(stream, "codec_context", None) is not None


def _is_still_picture(stream: av.video.stream.VideoStream, packets: dict[int, int]) -> bool:
    return stream.codec_context.name in _STILL_CODECS and packets.get(stream.index) == 1


def _score(stream: av.video.stream.VideoStream, packets: dict[int, int]) -> int:
    if not _has_decoder(stream):
        return 0
    pixels = stream.codec_context.width * stream.codec_context.height
    marked = bool(stream.disposition & av.stream.Disposition.default)
    return pixels + _HAS_PACKETS_PIXELS * (stream.index in packets) + _IS_DEFAULT_PIXELS * marked


def _first_packets(path: Path, wanted: set[int]) -> dict[int, int]:
    """Packets of the `wanted` streams that come while FFmpeg would look at the file's beginning;
    absent for none.
    """
    container = sniff(path) or ""
    limit_seconds = _PROBED_SECONDS_OF.get(container, PROBED_SECONDS)
    found: Counter[int] = Counter()
    first_seconds: dict[int, float] = {}
    read_bytes = 0
    try:
        with open_container(path, container) as opened:
            for packet in opened.demux():
                if packet.stream_index in wanted and packet.size:
                    found[packet.stream_index] += 1
                read_bytes += packet.size
                if packet.dts is not None and packet.time_base is not None:
                    at_seconds = float(packet.dts * packet.time_base)
                    lasted = at_seconds - first_seconds.setdefault(packet.stream_index, at_seconds)
                    if lasted >= limit_seconds:
                        break
                if all(found[index] > 1 for index in wanted) or read_bytes >= PROBED_BYTES:
                    break
    except av.error.FFmpegError:
        pass  # what came before the damage is what FFmpeg sees too
    return found
