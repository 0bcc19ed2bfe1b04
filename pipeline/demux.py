"""What a media file holds, counted without decoding it: `python -m pipeline.demux FILE` prints one line of JSON.

A program of its own, started by `pipeline.accept`, because a demuxer that meets a hostile file may hang or die; a
decode child asks it when pictures are shown. Decides nothing.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import av.container
import av.error
import av.video.stream

from pipeline.backends.frame import seconds
from pipeline.containers import sniff
from pipeline.probe import Probe, choose_stream, open_container
from pipeline.segments import Pictures

MAX_MEMORY_BYTES = 4 * 1024**3
SHORTEST_SECONDS = 1e-3
"""A lone picture of which nothing says how long it is shown."""


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


def picture_times(path: Path, probed: Probe, beat: Callable[[], None], max_frames: int) -> Pictures | None:
    """When every picture of a file is shown, from its packets; None where they do not say.

    That is so where a packet has no time, two have the same, or there are more than `max_frames`. Past damage nothing
    is read: what is behind it, the header's count still promises.
    """
    ticks: list[tuple[int, int]] = []
    discarded = 0
    try:
        with open_container(path, probed.container) as container:
            for packet in container.demux(container.streams[probed.stream_index]):
                beat()
                if packet.size == 0:
                    continue
                discarded += packet.is_discard
                if len(ticks) > max_frames or (packet.pts is None and not packet.is_discard):
                    return None
                if packet.pts is not None and not packet.is_discard:
                    ticks.append((packet.pts, packet.duration or 0))
    except av.error.FFmpegError:
        pass  # the packets so far are the pictures that there are
    ticks.sort()
    times = tuple(seconds(pts, probed.time_base) for pts, _ in ticks)
    if not times or len(set(times)) < len(times):
        return None
    lasts = ticks[-1][1] or (ticks[-1][0] - ticks[-2][0] if len(ticks) > 1 else 0)
    end_seconds = seconds(ticks[-1][0] + lasts, probed.time_base) if lasts else times[-1] + _one_frame(probed)
    declared = None if probed.header_frames is None else max(0, probed.header_frames - discarded)
    return Pictures(times, end_seconds, declared)


def _one_frame(probed: Probe) -> float:
    return 1 / probed.header_frames_per_second if probed.header_frames_per_second else SHORTEST_SECONDS


def main() -> None:
    """Count one file. Limits are set first; nothing of the file's is believed before."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    sys.stdout.write(json.dumps(asdict(count(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
