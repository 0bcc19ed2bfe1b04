"""Counts the packets of a media file without decoding it: `python -m
pipeline.media.container.packet_counts FILE` prints JSON.

A program of its own, started by `pipeline.download.integrity` for each download, because a demuxer
that meets a hostile file may hang or die; without numpy it starts in half the time. Decides
nothing.
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
    """One pass over a file."""

    opens: bool
    """Whether it has a header and a video stream."""
    packets: int = 0
    """Of the film, as all that follows but the last three."""
    errors: int = 0
    """Packets that the demuxer gave up on, or marked as damaged."""
    declared_frames: int | None = None
    declared_seconds: float | None = None
    covered_seconds: float = 0.0
    """From the first packet's start to the last one's end."""
    index_end: int = 0
    """The byte where the last picture that the index knows ends; 0 where it knows none."""
    longest_seconds: float = 0.0
    """From the first packet's start to the last one's end, of all streams."""
    lacks: str = ""
    """What the demuxer complains of, and what all streams together lack of the length stated for
    them, in words.
    """
    problem: str = ""


def count_packets(path: Path) -> PacketCounts:
    """Count the packets of the stream that a decoder would choose."""
    container = sniff(path)
    if container is None:
        return PacketCounts(False, problem="no container we open")
    tally = Tally()
    try:
        with open_container(path, container, tally.demuxer_errors) as opened:
            film = choose_stream(opened, path)
            if film is None:
                return PacketCounts(False, problem="no video stream")
            said = declared_lengths(opened, film, container)
            covered_seconds = _covered_seconds(opened, film, tally)
            lacks = (
                tally.demuxer_errors.summary,
                str(missing_duration(said.file_seconds, tally) or ""),
                unread_bytes(container, path.stat().st_size, tally),
            )
            return PacketCounts(
                opens=True,
                packets=tally.packets,
                errors=tally.damaged_packets + tally.decode_errors,
                declared_frames=said.frames,
                declared_seconds=said.seconds,
                covered_seconds=covered_seconds,
                index_end=said.index_end,
                longest_seconds=max(tally.end_seconds - tally.first_seconds, 0.0),
                lacks="; ".join(filter(None, lacks)),
            )
    except av.error.FFmpegError as error:
        return PacketCounts(False, problem=str(error.strerror))


def _covered_seconds(
    opened: av.container.InputContainer, film: av.video.stream.VideoStream, tally: Tally
) -> float:
    """From the film's first packet to the end of its last, which it reads for that, and counts."""
    start, end = math.inf, -math.inf
    base = float(film.time_base or 0)
    try:
        for packet in video_packets(opened, film, tally, every_stream=True):
            if packet.pts is not None:
                start = min(start, packet.pts * base)
                end = max(end, (packet.pts + (packet.duration or 0)) * base)
    except av.error.FFmpegError:
        tally.decode_errors += 1
    return max(end - start, 0.0)


def main() -> None:
    """Count one file. Limits are set first; nothing of the file's is believed before."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    sys.stdout.write(json.dumps(asdict(count_packets(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
