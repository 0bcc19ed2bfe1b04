"""Counts the packets of a media file without decoding it, and prints JSON.

Run as `python -m pipeline.media.container.packet_counts FILE`. It is a program of its own, started
for each download, because a demuxer may hang or crash on a hostile file; it does not import numpy,
which halves its start-up time.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import av.container
import av.error
import av.video.stream

from pipeline.media.container.container_formats import sniff
from pipeline.media.container.lengths import declared_lengths, missing_duration, unread_bytes
from pipeline.media.container.packets import Tally, video_packets
from pipeline.media.container.streams import choose_stream, open_container

MAX_MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class PacketCounts:
    """The result of one pass over a file."""

    opens: bool
    """Whether it has a header and a video stream."""
    packets: int = 0
    """Of the video stream, as all that follows except the last three."""
    errors: int = 0
    """Packets that the demuxer could not read, or marked as damaged."""
    declared_frames: int | None = None
    declared_seconds: float | None = None
    covered_seconds: float = 0.0
    """From the first packet's start to the last one's end."""
    index_end: int = 0
    """The byte where the last picture of the index ends; 0 if there is no index."""
    longest_seconds: float = 0.0
    """From the first packet's start to the last one's end, of all streams."""
    lacks: str = ""
    """Errors of the demuxer, and what all streams together lack of their stated length, in words.
    """
    problem: str = ""
    """Why it does not open."""


def count_packets(path: Path) -> PacketCounts:
    """Count the packets of the stream that a decoder would choose."""
    container = sniff(path)
    if container is None:
        return PacketCounts(False, problem="its container is not supported")
    tally = Tally()
    try:
        with open_container(path, container, tally.demuxer_errors) as opened:
            stream = choose_stream(opened, path)
            if stream is None:
                return PacketCounts(False, problem="no video stream")
            declared = declared_lengths(opened, stream, container)
            covered_seconds = _read_all(opened, stream, tally)
            lacks = (
                tally.demuxer_errors.summary,
                str(missing_duration(declared.file_seconds, tally) or ""),
                unread_bytes(container, path.stat().st_size, tally),
            )
            return PacketCounts(
                opens=True,
                packets=tally.packets,
                errors=tally.damaged_packets + tally.decode_errors,
                declared_frames=declared.frames,
                declared_seconds=declared.seconds,
                covered_seconds=covered_seconds,
                index_end=declared.index_end,
                longest_seconds=max(tally.end_seconds - tally.first_seconds, 0.0),
                lacks="; ".join(filter(None, lacks)),
            )
    except av.error.FFmpegError as error:
        return PacketCounts(False, problem=str(error.strerror))


def _read_all(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, tally: Tally
) -> float:
    """Read and count all packets; the seconds from the stream's first to the end of its last."""
    start, end = math.inf, -math.inf
    tick_seconds = float(stream.time_base or 0)
    try:
        for packet in video_packets(opened, stream, tally, every_stream=True):
            if packet.pts is None:
                continue
            start = min(start, packet.pts * tick_seconds)
            end = max(end, (packet.pts + (packet.duration or 0)) * tick_seconds)
    except av.error.FFmpegError:
        tally.decode_errors += 1
    return max(end - start, 0.0)


def main() -> None:
    """Count one file. Memory is limited before anything of the file is read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A hostile header may ask for any amount of memory.
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    sys.stdout.write(json.dumps(asdict(count_packets(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
