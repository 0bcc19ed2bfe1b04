"""How long a header says that a video stream and a file are, and whether that much is there.

A container's length is not that of its video stream: sound, subtitles or a late clock may make it
longer. So the stream is compared with what is said of it, and the file with all streams together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import av
import av.container
import av.stream
import av.video.stream

from pipeline.media.container.packets import ONE_LENGTH_CONTAINERS, Tally

LEAST_TOLERANCE_SECONDS = 1.0
TOLERANCE = 0.02
"""The share of its length that a file may lack: headers round, and count sound that players cut."""
LEAST_UNREAD_BYTES = 4096
"""An FLV may end in a few bytes that are neither sound nor picture."""

_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


_INDEXED_CONTAINERS = ("mov", "avi")
"""Containers whose index is read when they are opened, and knows every picture's place."""


@dataclass(frozen=True)
class DeclaredLengths:
    """What a header says. All of it may be wrong."""

    frames: int | None
    """Of the video stream, without frames that are declared and empty."""
    seconds: float | None
    """Of the video stream; None if nothing is said of it separately."""
    file_seconds: float | None
    """Of all streams together, in a container of `ONE_LENGTH_CONTAINERS`; else None."""
    index_end: int
    """The byte where the last picture of the index ends; 0 if there is no index."""


def declared_lengths(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, container: str
) -> DeclaredLengths:
    """What the header of an opened file says of it and of its video stream.

    `container` is a key of `CONTAINERS`.
    """
    file_seconds = None if opened.duration is None else opened.duration / av.time_base
    timestamps: list[int] = []
    ends: list[int] = []
    if container in _INDEXED_CONTAINERS:
        for entry in stream.index_entries:
            timestamps.append(entry.timestamp)
            ends.append(entry.pos + entry.size)
    return DeclaredLengths(
        frames=_frames(stream, container, timestamps),
        seconds=_stream_seconds(opened, stream, file_seconds, container),
        file_seconds=file_seconds if container in ONE_LENGTH_CONTAINERS else None,
        index_end=max(ends, default=0),
    )


def _frames(
    stream: av.video.stream.VideoStream, container: str, timestamps: list[int]
) -> int | None:
    if not stream.frames:
        return None
    if container != "avi" or not timestamps:
        return stream.frames
    # An AVI repeats a picture by an empty one, which its header counts. Empty ones are the holes in
    # its index.
    holes = max(timestamps) + 1 - len(timestamps)
    return max(0, stream.frames - max(0, holes))


def _stream_seconds(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    file_seconds: float | None,
    container: str,
) -> float | None:
    tick_seconds = float(stream.time_base or 0)
    start = (stream.start_time or 0) * tick_seconds
    if container in ONE_LENGTH_CONTAINERS:
        return _seconds_of_one_length(opened, stream, file_seconds, start)
    if stream.duration is None:
        return file_seconds
    seconds = stream.duration * tick_seconds
    # Of a fragmented mp4, whose header counts no frames, FFmpeg gives the time at which the last
    # frame ends.
    is_fragmented = container == "mov" and not stream.frames
    return _without_start(seconds, start) if is_fragmented else seconds


def _seconds_of_one_length(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    file_seconds: float | None,
    start: float,
) -> float | None:
    """In a container that states one length: by the stream's tag, or if it is the only stream."""
    tagged = _tagged_seconds(stream)
    if tagged is not None:
        is_plausible = file_seconds is None or tagged <= file_seconds + LEAST_TOLERANCE_SECONDS
        if is_plausible:
            return _without_start(tagged, start)
    others = [other for other in opened.streams if other.index != stream.index]
    if file_seconds is None or any(map(_has_times, others)):
        return None
    return _without_start(file_seconds, start)


def _tagged_seconds(stream: av.stream.Stream) -> float | None:
    """The DURATION tag, which programs that write Matroska give each stream."""
    match = _TAG.match(stream.metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _has_times(stream: av.stream.Stream) -> bool:
    is_cover = stream.disposition & av.stream.Disposition.attached_pic
    return stream.type in ("video", "audio", "subtitle", "data") and not is_cover


def _without_start(stated: float, start: float) -> float:
    """A length in seconds. Some programs state the time of the end instead, and start late."""
    return stated - start if 0 < start < stated else stated


@dataclass(frozen=True)
class MissingDuration:
    """A file whose streams all end before the end that its header states."""

    there_seconds: float
    wanted_seconds: float

    def __str__(self) -> str:
        there, wanted = self.there_seconds, self.wanted_seconds
        return f"all its streams end after {there:.3f} s of {wanted:.3f} s that its header declares"


def missing_duration(file_seconds: float | None, tally: Tally) -> MissingDuration | None:
    """How much a file lacks of the length stated for all its streams; None if nothing.

    `tally` must have counted all packets. Nothing is said of a file whose clock jumps.
    """
    there = tally.end_seconds - tally.first_seconds
    is_measured = there > 0 and not tally.clock_jumps
    if file_seconds is None or not is_measured:
        return None
    wanted = min(file_seconds, _without_start(file_seconds, tally.first_seconds))
    tolerance = max(LEAST_TOLERANCE_SECONDS, wanted * TOLERANCE)
    if there >= wanted - tolerance:
        return None
    return MissingDuration(there, wanted)


def unread_bytes(container: str, size_bytes: int, tally: Tally) -> str:
    """How much at the end of an FLV belongs to no stream, in words; empty if nothing of worth.

    If two files were joined, that is the second one.
    """
    if container != "flv" or tally.end_byte == 0:
        return ""
    left = size_bytes - tally.end_byte
    if left < max(LEAST_UNREAD_BYTES, TOLERANCE * size_bytes):
        return ""
    return (
        f"reading ends at byte {tally.end_byte:,} of {size_bytes:,}: "
        "what is behind it belongs to no stream"
    )
