"""Reads the header and the first frame of a video file, or says why it is not a video we open.

The first bytes choose the demuxer, and no other is tried: a playlist that poses as a video (HLS,
concat, DASH, SDP) never reaches code that would follow its addresses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import av.video.frame
import av.video.stream
from av.sidedata.sidedata import SideData

from pipeline.media.container.clock import Clock, container_start
from pipeline.media.container.container_formats import CONTAINERS, sniff
from pipeline.media.container.lengths import DeclaredLengths, declared_lengths
from pipeline.media.container.packets import JUMPING_CONTAINERS, Tally, av_frames
from pipeline.media.container.picture_facts import PictureFacts, picture_facts
from pipeline.media.container.streams import (
    OtherStream,
    choose_stream,
    open_container,
    other_streams,
)
from pipeline.media.container.truncation import missing_bytes
from pipeline.media.decode_settings import DecodeLimits
from storage.base.errors import VideoError
from storage.base.video_status import failure_status


@dataclass(frozen=True)
class Probe:
    """What a file says about itself.

    Values named `header_...` may be wrong; they are never used to compute the time of a row.
    """

    container: str
    """A key of `pipeline.media.container.container_formats.CONTAINERS`."""
    codec: str
    stream_index: int
    width: int
    """Pixels of the first frame, upright."""
    height: int
    display_matrix: tuple[int, int, int, int]
    """How stored pixels turn upright: signs of the matrix (a, b, c, d); (1, 0, 0, 1) is as
    stored.
    """
    pixel_format: str
    time_base: tuple[int, int]
    """Seconds of one tick, as numerator and denominator."""
    header_frames: int | None
    header_seconds: float | None
    header_frames_per_second: float | None
    header_start_seconds: float | None
    """When the stream begins, in seconds since the container's start."""
    container_start_seconds: float | None = None
    """What the streams' clocks show when the container starts; None where FFmpeg does not know."""
    clock_origin: tuple[int, int] = (0, 1)
    """The same as numerator and denominator, exact; 0 where FFmpeg does not know."""
    header_file_seconds: float | None = None
    """How long all streams are together, where the container states no length for each."""
    index_end: int = 0
    """The byte where the last picture of the file's index ends; 0 where it has none."""
    picture: PictureFacts | None = None
    """None in a store of an earlier release."""
    other_streams: tuple[OtherStream, ...] = ()
    """What else the file holds, at most `streams.LISTED_STREAMS`."""

    @property
    def clock(self) -> Clock:
        """What turns ticks of the stream into seconds since the container's start."""
        return Clock(Fraction(*self.time_base), Fraction(*self.clock_origin))

    @property
    def rotation_degrees(self) -> int:
        """Counter-clockwise turn that makes stored pixels upright: 0, 90, 180 or 270.

        0 or 90 if they are mirrored too.
        """
        quarter_turns = {
            (1, 0, 0, 1): 0,
            (0, -1, 1, 0): 90,
            (-1, 0, 0, -1): 180,
            (0, 1, -1, 0): 270,
        }
        return quarter_turns.get(self.display_matrix, 90 if self.display_matrix[0] == 0 else 0)


def upright_signs(frame: av.video.frame.VideoFrame) -> tuple[int, int, int, int]:
    """Signs of the frame's display matrix, rounded to quarter turns and mirrorings.

    Call it for one frame of a video only: PyAV's `side_data` makes a reference cycle of the frame
    and its picture, which keeps their memory.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(side, SideData):
        return (1, 0, 0, 1)
    # A 3x3 matrix in fixed point; its upper left 2x2 part turns and mirrors.
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(side))
    if abs(a) >= abs(b):
        return (_sign(a), 0, 0, _sign(d))
    return (0, _sign(b), _sign(c), 0)


def _sign(value: int) -> int:
    return -1 if value < 0 else 1


def probe(video_id: str, path: Path, limits: DecodeLimits) -> Probe:
    """Read the header and decode the first frame.

    Raises:
        VideoError: not_a_video, no_video_stream, too_many_pixels, too_long, unreadable.
        SystemicFault: the file cannot be read at all.
    """
    name = sniff(path)
    if name is None:
        detail = f"starts like none of {', '.join(CONTAINERS)}"
        raise VideoError(video_id, failure_status("not_a_video", detail))
    try:
        with open_container(path, name) as container:
            return _probe_opened(video_id, path, name, container, limits)
    except av.error.FFmpegError as error:
        detail = f"{name}: {error.strerror}"
        if cut := missing_bytes(path):
            detail += f"; {cut}"
        raise VideoError(video_id, failure_status("unreadable", detail)) from error


def _probe_opened(
    video_id: str,
    path: Path,
    name: str,
    container: av.container.InputContainer,
    limits: DecodeLimits,
) -> Probe:
    stream = choose_stream(container, path)
    if stream is None:
        detail = f"{len(container.streams)} other streams"
        raise VideoError(video_id, failure_status("no_video_stream", detail))
    declared = declared_lengths(container, stream, name)
    declared_seconds = declared.seconds or 0.0
    if name in JUMPING_CONTAINERS:
        # FFmpeg computes it from the clock at both ends of the file, which may jump in between.
        declared_seconds = 0.0
    _check_header(video_id, stream, declared_seconds, limits)
    return _describe(video_id, name, container, stream, declared)


def _check_header(
    video_id: str, stream: av.video.stream.VideoStream, claimed_seconds: float, limits: DecodeLimits
) -> None:
    if stream.codec_context is None:
        raise VideoError(video_id, failure_status("unreadable", "no decoder for its codec"))
    check_pixels(video_id, stream.codec_context.width, stream.codec_context.height, limits)
    check_seconds(video_id, claimed_seconds, limits)


def check_pixels(video_id: str, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise VideoError(too_many_pixels) beyond the limit."""
    pixels = width * height
    if pixels > limits.max_pixels:
        detail = f"{width}x{height} is {pixels}, allowed {limits.max_pixels}"
        raise VideoError(video_id, failure_status("too_many_pixels", detail))


def check_seconds(video_id: str, seconds: float, limits: DecodeLimits) -> None:
    """Raise VideoError(too_long) beyond the limit."""
    if seconds > limits.max_seconds:
        detail = f"{seconds:.3f} s, allowed {limits.max_seconds:g}"
        raise VideoError(video_id, failure_status("too_long", detail))


def _describe(
    video_id: str,
    name: str,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    declared: DeclaredLengths,
) -> Probe:
    codec = stream.codec_context.name
    # A header is only a claim; one decoded frame shows the true size and rotation.
    frame = next(av_frames(container, stream, Tally()), None)
    if frame is None:
        detail = f"{name}: no frame of {codec} decodes"
        raise VideoError(video_id, failure_status("unreadable", detail))
    signs = upright_signs(frame)
    is_on_its_side = signs[0] == 0
    width, height = frame.width, frame.height
    if is_on_its_side:
        width, height = height, width
    time_base = stream.time_base or Fraction(1, av.time_base)
    start = container_start(container)
    clock = Clock(time_base, start or Fraction(0))
    rate = stream.average_rate
    return Probe(
        container=name,
        codec=codec,
        stream_index=stream.index,
        width=width,
        height=height,
        display_matrix=signs,
        pixel_format=frame.format.name,
        time_base=(time_base.numerator, time_base.denominator),
        header_frames=declared.frames,
        header_seconds=declared.seconds,
        header_frames_per_second=float(rate) if rate else None,
        header_start_seconds=None if stream.start_time is None else clock.at(stream.start_time),
        container_start_seconds=None if start is None else clock.origin_seconds,
        clock_origin=(clock.origin.numerator, clock.origin.denominator),
        header_file_seconds=declared.file_seconds,
        index_end=declared.index_end,
        picture=picture_facts(stream, frame),
        other_streams=other_streams(container, stream),
    )
