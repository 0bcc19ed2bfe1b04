"""Counts the packets of a media file without decoding it: `python -m pipeline.media.packet_counts FILE` prints JSON.

A program of its own, started by `pipeline.download.integrity` for each download, because a demuxer that meets a hostile
file may hang or die; without numpy it starts in half the time. Decides nothing.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import av.container
import av.error
import av.video.stream

from pipeline.media.container_formats import sniff
from pipeline.media.probe import choose_stream, open_container

MAX_MEMORY_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class Count:
    """One pass over the video stream of a file."""

    opens: bool
    """Whether it has a header and a video stream."""
    packets: int = 0
    errors: int = 0
    """Packets that the demuxer gave up on, or marked as damaged."""
    declared_frames: int | None = None
    declared_seconds: float | None = None
    covered_seconds: float = 0.0
    """From the first packet's start to the last one's end."""
    problem: str = ""


def count(path: Path) -> Count:
    """Count the packets of the stream that a decoder would choose."""
    container = sniff(path)
    if container is None:
        return Count(False, problem="no container we open")
    try:
        with open_container(path, container) as opened:
            stream = choose_stream(opened)
            if stream is None:
                return Count(False, problem="no video stream")
            overall = None if opened.duration is None else opened.duration / av.time_base
            return _count_stream(opened, stream, overall)
    except av.error.FFmpegError as error:
        return Count(False, problem=str(error.strerror))


def _count_stream(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, overall_seconds: float | None
) -> Count:
    packets = errors = 0
    start, end = float("inf"), float("-inf")
    base = float(stream.time_base or 0)
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            packets += 1
            errors += packet.is_corrupt
            if packet.pts is not None:
                start = min(start, packet.pts * base)
                end = max(end, (packet.pts + (packet.duration or 0)) * base)
    except av.error.FFmpegError:
        errors += 1
    declared = overall_seconds if stream.duration is None else stream.duration * base
    covered = max(end - start, 0.0) if packets else 0.0
    return Count(True, packets, errors, stream.frames or None, declared, covered)


def main() -> None:
    """Count one file. Limits are set first; nothing of the file's is believed before."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    sys.stdout.write(json.dumps(asdict(count(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
