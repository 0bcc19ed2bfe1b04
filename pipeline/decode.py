"""A file → its frames in presentation order, with their own times; pixels are converted only where asked for.

What FFmpeg delivers of a damaged file is delivered, and what is missing is counted. Refuses to know samplings, windows
and processes. To add a decoder: write a function like `pyav_frames` and add it to `BACKENDS`; all must be bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av.error
import av.video.frame
import av.video.stream
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from models.extractors.spec import Frame
from pipeline.clips import BadTimestamps, check_next
from pipeline.probe import (
    DecodeLimits,
    Probe,
    Tally,
    av_frames,
    check_pixels,
    check_seconds,
    open_container,
    probe,
)
from storage.errors import VideoError
from storage.verdicts import failed


@dataclass(frozen=True)
class DecodedFrame:
    """One frame, still in the decoder's own pixel format."""

    index: int
    """0 for the first frame that decodes."""
    pts_seconds: float
    """When it is shown, on the stream's own clock."""
    duration_seconds: float | None
    """How long, if the stream says so."""
    width: int
    """Upright."""
    height: int
    to_rgb: Callable[[], Frame]
    """Pays for the conversion: uint8 `(height, width, 3)`, upright."""


@dataclass(frozen=True)
class Summary:
    """What became of one pass over a file."""

    frames_decoded: int
    frames_declared: int | None
    """By the header; None where it does not say."""
    packets: int
    """Compressed pictures found in the file; some codecs hold a few that are never shown."""
    decode_errors: int
    first_pts_seconds: float
    end_seconds: float
    """When the last frame ends."""

    @property
    def covered_seconds(self) -> float:
        """From the first frame's start to the last one's end."""
        return self.end_seconds - self.first_pts_seconds

    @property
    def frames_lost(self) -> int:
        """Frames that the header, or else the packets of a damaged stream, promised and nobody could decode."""
        promised = self.frames_declared if self.frames_declared is not None else self.packets
        return max(0, promised - self.frames_decoded)


Backend = Callable[[Path, Probe, Tally], Iterator[DecodedFrame]]
"""(file, its probe, counts to keep) → its frames. Raises BadTimestamps for a frame without a time."""


def _seconds(ticks: int, time_base: tuple[int, int]) -> float:
    return ticks * time_base[0] / time_base[1]


def _to_rgb(reformatter: VideoReformatter, frame: av.video.frame.VideoFrame, signs: tuple[int, int, int, int]) -> Frame:
    """Bit for bit what `ffmpeg -pix_fmt rgb24` writes: its default is bicubic, PyAV's is not."""
    converted = reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
    return turn_upright(np.asarray(converted.to_ndarray(), np.uint8), signs)


def turn_upright(pixels: NDArray[np.uint8], signs: tuple[int, int, int, int]) -> Frame:
    """Apply a display matrix's signs (a, b, c, d) to stored pixels `(H, W, 3)`, as FFmpeg's autorotate does."""
    a, b, c, d = signs
    if a == 0:
        pixels = pixels.transpose(1, 0, 2)
    if -1 in (a, c):
        pixels = pixels[:, ::-1]
    if -1 in (b, d):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def pyav_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by PyAV, one thread.

    Where a container stores decoding times only (AVI with B-frames), those give the frames' times, as in FFmpeg: steps
    are right, and all frames may be late by the same few.
    """
    reformatter, signs = VideoReformatter(), probed.display_matrix
    with open_container(path, probed.container) as container:
        stream = container.streams[probed.stream_index]
        if not isinstance(stream, av.video.stream.VideoStream):
            raise TypeError(f"stream {probed.stream_index} of the probe is {stream.type}, not video: another file?")
        for index, frame in enumerate(av_frames(container, stream, tally)):
            ticks = frame.pts if frame.pts is not None else frame.dts
            if ticks is None:
                raise BadTimestamps(f"frame {index} has no time")
            turned = signs[0] == 0
            yield DecodedFrame(
                index=index,
                pts_seconds=_seconds(ticks, probed.time_base),
                duration_seconds=_seconds(frame.duration, probed.time_base) if frame.duration else None,
                width=frame.height if turned else frame.width,
                height=frame.width if turned else frame.height,
                to_rgb=partial(_to_rgb, reformatter, frame, signs),
            )


BACKENDS: dict[str, Backend] = {"pyav": pyav_frames}
"""Name of a decoder, as in the configuration → its frames of a file."""


def backend_named(name: str) -> Backend:
    """The backend of that name. Raises ValueError that lists the names there are."""
    if name not in BACKENDS:
        raise ValueError(f"unknown decoder {name!r}; known decoders are {', '.join(BACKENDS)}")
    return BACKENDS[name]


class Decoding:
    """One pass over one file: iterate it once for the frames, then ask for the `summary`.

    Raises VideoError with the verdicts of `probe`, and bad_timestamps where frames come without rising times. The last
    frame ends after its own duration; where the stream gives none, after as long as the frame before it was shown; a
    lone frame without a duration lasts one frame at the header's rate, and without that rate has bad timestamps.
    """

    def __init__(
        self, video_id: str, path: Path, *, backend: str, limits: DecodeLimits, beat: Callable[[], None]
    ) -> None:
        self.probe = probe(video_id, path, limits)
        self._video_id = video_id
        self._limits = limits
        self._tally = Tally(beat=beat)
        self._frames = backend_named(backend)(path, self.probe, self._tally)
        self._count = 0
        self._first: float | None = None
        self._gap: float | None = None
        self._last: DecodedFrame | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        try:
            for frame in self._frames:
                self._note(frame)
                yield frame
        except BadTimestamps as error:
            raise VideoError(self._video_id, failed("bad_timestamps", str(error))) from error
        except av.error.FFmpegError as error:
            raise VideoError(self._video_id, failed("unreadable", str(error.strerror))) from error

    def _note(self, frame: DecodedFrame) -> None:
        previous = None if self._last is None else self._last.pts_seconds
        check_next(previous, frame.pts_seconds, frame.index)
        check_pixels(self._video_id, frame.width, frame.height, self._limits)
        if self._first is None:
            self._first = frame.pts_seconds
        check_seconds(self._video_id, frame.pts_seconds - self._first, self._limits)
        self._gap = None if previous is None else frame.pts_seconds - previous
        self._last = frame
        self._count += 1

    def _end_seconds(self, last: DecodedFrame) -> float:
        rate = self.probe.header_frames_per_second
        lasts = last.duration_seconds or self._gap or (1 / rate if rate else None)
        if lasts is None:
            raise VideoError(self._video_id, failed("bad_timestamps", "its only frame has no duration"))
        return last.pts_seconds + lasts

    def summary(self) -> Summary:
        """Counts and times of the pass, once all frames came. Raises VideoError if none did."""
        if self._last is None or self._first is None:
            raise VideoError(self._video_id, failed("unreadable", f"none of {self._tally.packets} packets decodes"))
        return Summary(
            frames_decoded=self._count,
            frames_declared=self.probe.header_frames,
            packets=self._tally.packets,
            decode_errors=self._tally.decode_errors,
            first_pts_seconds=self._first,
            end_seconds=self._end_seconds(self._last),
        )
