"""How long a header says that a film and a file are, and whether that much is there.

A container's length is not its picture's: sound, subtitles or a late clock may make it longer. So a
film is held against what is said of itself, and a file against all its streams together. Decides
nothing.
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
"""So much of its length may a file seem to lack: headers round, and speak of sound that players
cut.
"""
LEAST_UNREAD_BYTES = 4096
"""An FLV may end in a few words that are no sound and no picture."""

_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


@dataclass(frozen=True)
class DeclaredLengths:
    """What a header says. Claims, all of them."""

    frames: int | None
    """Of the film, without those that are declared and empty."""
    seconds: float | None
    """Of the film; None where nothing is said of it alone."""
    file_seconds: float | None
    """Of all streams together, in a container of `ONE_LENGTH_CONTAINERS`; else None."""
    index_end: int
    """The byte where the last picture that the index knows ends; 0 where it knows none."""


def declared_lengths(
    opened: av.container.InputContainer, film: av.video.stream.VideoStream, container: str
) -> DeclaredLengths:
    """What the header of an opened file says; `container` is a key of `CONTAINERS`."""
    whole = None if opened.duration is None else opened.duration / av.time_base
    places = (
        [(entry.timestamp, entry.pos + entry.size) for entry in film.index_entries]
        if _has_index(container)
        else []
    )
    return DeclaredLengths(
        frames=_frames(film, container, [timestamp for timestamp, _ in places]),
        seconds=_film_seconds(opened, film, whole, container),
        file_seconds=whole if container in ONE_LENGTH_CONTAINERS else None,
        index_end=max((end for _, end in places), default=0),
    )


def _has_index(container: str) -> bool:
    """Whether opening a file reads an index that knows every picture's place."""
    return container in ("mov", "avi")


def _frames(film: av.video.stream.VideoStream, container: str, timestamps: list[int]) -> int | None:
    """An AVI repeats a picture by an empty one, which it counts: they are the holes in its
    index.
    """
    if container != "avi" or not film.frames or not timestamps:
        return film.frames or None
    holes = max(timestamps) + 1 - len(timestamps)
    return max(0, film.frames - max(0, holes))


def _film_seconds(
    opened: av.container.InputContainer,
    film: av.video.stream.VideoStream,
    whole: float | None,
    container: str,
) -> float | None:
    base = float(film.time_base or 0)
    start = (film.start_time or 0) * base
    if container not in ONE_LENGTH_CONTAINERS:
        if film.duration is None:
            return whole
        # A fragmented mp4, whose header counts no frames: FFmpeg then gives the instant at which
        # the last one ends.
        in_fragments = container == "mov" and not film.frames
        return _from_start(film.duration * base, start) if in_fragments else film.duration * base
    tagged = _tagged_seconds(film)
    if tagged is not None and (whole is None or tagged <= whole + LEAST_TOLERANCE_SECONDS):
        return _from_start(tagged, start)
    alone = not any(_has_times(stream) for stream in opened.streams if stream.index != film.index)
    return _from_start(whole, start) if alone and whole is not None else None


def _tagged_seconds(film: av.stream.Stream) -> float | None:
    """What programs that write Matroska say of one stream."""
    said = _TAG.match(film.metadata.get("DURATION", ""))
    return int(said[1]) * 3600 + int(said[2]) * 60 + float(said[3]) if said else None


def _has_times(stream: av.stream.Stream) -> bool:
    cover = stream.disposition & av.stream.Disposition.attached_pic
    return stream.type in ("video", "audio", "subtitle", "data") and not cover


def _from_start(stated: float, start: float) -> float:
    """Some programs state the instant of the end, others a length; of a clock that starts late the
    first say more.
    """
    return stated - start if 0 < start < stated else stated


@dataclass(frozen=True)
class MissingDuration:
    """A file whose streams all end before the file says that it ends."""

    there_seconds: float
    wanted_seconds: float

    def __str__(self) -> str:
        there, wanted = self.there_seconds, self.wanted_seconds
        return f"all its streams end after {there:.3f} s of {wanted:.3f} s that its header declares"


def missing_duration(file_seconds: float | None, tally: Tally) -> MissingDuration | None:
    """What a file lacks of the length it states for all its streams, once all packets were read;
    None if nothing.
    """
    if file_seconds is None or tally.end_seconds <= tally.first_seconds or tally.clock_jumps:
        return None
    there = tally.end_seconds - tally.first_seconds
    wanted = min(file_seconds, _from_start(file_seconds, tally.first_seconds))
    whole = there >= wanted - max(LEAST_TOLERANCE_SECONDS, wanted * TOLERANCE)
    return None if whole else MissingDuration(there, wanted)


def unread_bytes(container: str, size_bytes: int, tally: Tally) -> str:
    """How much of an FLV nobody reads, in words; empty if nothing of worth. Of two joined ones it
    is the second.
    """
    left = size_bytes - tally.end_byte
    if (
        container != "flv"
        or tally.end_byte == 0
        or left < max(LEAST_UNREAD_BYTES, TOLERANCE * size_bytes)
    ):
        return ""
    return f"reading ends at byte {tally.end_byte:,} of {size_bytes:,}: what is behind it belongs to no stream"
