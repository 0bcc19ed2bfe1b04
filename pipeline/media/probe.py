"""A file → what its header and its first frame say; or the verdict that it is no video we open.

The first bytes choose the demuxer, and no other is ever tried: a playlist that poses as a video
(HLS, concat, DASH, SDP) never reaches a program that would follow its addresses. Refuses to know
samplings, extractors and shards.
"""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
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
from storage.base.errors import VideoError
from storage.base.video_status import failure_status


@dataclass(frozen=True)
class DecodeLimits:
    """What a video may cost us. Beyond pixels, seconds and frames it is rejected, beyond the others
    quarantined.
    """

    max_pixels: int = 7680 * 4320
    """Width times height of a frame."""
    max_seconds: float = 4 * 3600.0
    """Duration, by the header or by the frames' own times."""
    stall_seconds: float = 60.0
    """A decode child silent for so long hangs: by the clock if it uses no CPU time meanwhile, else
    in its CPU time.
    """
    max_wait_seconds: float = 600.0
    """More CPU time of the child for one video counts as hanging too; a long video gets more, see
    the next.
    """
    max_wait_ratio: float = 2.0
    """CPU seconds added for each second of video the header declares, `max_seconds` where it
    declares none.
    """
    max_frames: int = 5_000_000
    """Frames of one video. 12 hours at 60 a second are 2.6 million."""
    max_memory_bytes: int = 2_000_000_000
    """Memory of a decode child, without what it shares with us. It is watched; the kernel stops it
    at twice that.
    """

    def __post_init__(self) -> None:
        if not all(limit > 0 for limit in astuple(self)):
            raise ValueError(f"every limit of decoding must be above 0, got {self}")

    def wait_seconds(self, declared_seconds: float | None) -> float:
        """CPU seconds that one video may take, by the length its header declares."""
        return self.max_wait_seconds + self.max_wait_ratio * (declared_seconds or self.max_seconds)


DEFAULT_LIMITS = DecodeLimits()


@dataclass(frozen=True)
class Probe:
    """What a file says about itself. Values named `header_...` are claims, never used to compute a
    time of a row.
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
    """What the streams' clocks show when the container starts; None where FFmpeg cannot tell."""
    clock_origin: tuple[int, int] = (0, 1)
    """The same as numerator and denominator, exact; 0 where FFmpeg cannot tell."""
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
        """Counter-clockwise turn that makes stored pixels upright: 0, 90, 180, 270; if mirrored, 0
        or 90.
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

    Look at one frame of a video only: PyAV's `side_data` ties the frame and its picture into a
    reference cycle.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(side, SideData):
        return (1, 0, 0, 1)
    matrix = struct.unpack("9i", bytes(side))
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) >= abs(b):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def probe(video_id: str, path: Path, limits: DecodeLimits) -> Probe:
    """Look at the header and decode the first frame.

    Raises VideoError (not_a_video, no_video_stream, too_many_pixels, too_long, unreadable), or
    SystemicFault if the file cannot be read at all.
    """
    name = sniff(path)
    if name is None:
        raise VideoError(
            video_id, failure_status("not_a_video", f"starts like none of {', '.join(CONTAINERS)}")
        )
    try:
        with open_container(path, name) as container:
            stream = choose_stream(container, path)
            if stream is None:
                raise VideoError(
                    video_id,
                    failure_status("no_video_stream", f"{len(container.streams)} other streams"),
                )
            said = declared_lengths(container, stream, name)
            # What a clock that may jump shows at both ends of a file is no length.
            claimed = 0.0 if name in JUMPING_CONTAINERS else said.seconds or 0.0
            _check_header(video_id, stream, claimed, limits)
            return _describe(video_id, name, container, stream, said)
    except av.error.FFmpegError as error:
        cut = missing_bytes(path)
        told = f"{name}: {error.strerror}" + (f"; {cut}" if cut else "")
        raise VideoError(video_id, failure_status("unreadable", told)) from error


def _check_header(
    video_id: str, stream: av.video.stream.VideoStream, claimed_seconds: float, limits: DecodeLimits
) -> None:
    if stream.codec_context is None:
        raise VideoError(video_id, failure_status("unreadable", "no decoder for its codec"))
    check_pixels(video_id, stream.codec_context.width, stream.codec_context.height, limits)
    check_seconds(video_id, claimed_seconds, limits)


def check_pixels(video_id: str, width: int, height: int, limits: DecodeLimits) -> None:
    """Raise VideoError(too_many_pixels) beyond the limit."""
    if width * height > limits.max_pixels:
        raise VideoError(
            video_id,
            failure_status(
                "too_many_pixels",
                f"{width}x{height} is {width * height}, allowed {limits.max_pixels}",
            ),
        )


def check_seconds(video_id: str, seconds: float, limits: DecodeLimits) -> None:
    """Raise VideoError(too_long) beyond the limit."""
    if seconds > limits.max_seconds:
        raise VideoError(
            video_id, failure_status("too_long", f"{seconds:.3f} s, allowed {limits.max_seconds:g}")
        )


def _describe(
    video_id: str,
    name: str,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    said: DeclaredLengths,
) -> Probe:
    frame = next(av_frames(container, stream, Tally()), None)
    if frame is None:
        raise VideoError(
            video_id,
            failure_status(
                "unreadable", f"{name}: no frame of {stream.codec_context.name} decodes"
            ),
        )
    signs = upright_signs(frame)
    turned = signs[0] == 0
    base = stream.time_base or Fraction(1, av.time_base)
    start = container_start(container)
    clock = Clock(base, start or Fraction(0))
    return Probe(
        container=name,
        codec=stream.codec_context.name,
        stream_index=stream.index,
        width=frame.height if turned else frame.width,
        height=frame.width if turned else frame.height,
        display_matrix=signs,
        pixel_format=frame.format.name,
        time_base=(base.numerator, base.denominator),
        header_frames=said.frames,
        header_seconds=said.seconds,
        header_frames_per_second=float(stream.average_rate) if stream.average_rate else None,
        header_start_seconds=None if stream.start_time is None else clock.at(stream.start_time),
        container_start_seconds=None if start is None else clock.origin_seconds,
        clock_origin=(clock.origin.numerator, clock.origin.denominator),
        header_file_seconds=said.file_seconds,
        index_end=said.index_end,
        picture=picture_facts(stream, frame),
        other_streams=other_streams(container, stream),
    )
