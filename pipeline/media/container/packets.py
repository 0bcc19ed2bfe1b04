"""Reads and decodes the packets of a file's video stream, and counts what is wrong.

The clock of a transport stream or of an Ogg file may jump back, where two recordings were joined,
or by a flipped bit. ffmpeg then lets the clock continue, and so does this module, for every reader
of packets.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import av.container
import av.error
import av.packet
import av.stream
import av.video.frame
import av.video.stream

from pipeline.media.container.demuxer_errors import DemuxerErrors

JUMPING_CONTAINERS = frozenset({"mpegts", "ogg"})
"""Where ffmpeg expects clocks that jump (`AVFMT_TS_DISCONT`)."""
ONE_LENGTH_CONTAINERS = frozenset({"matroska", "flv"})
"""Containers that state one length, for the longest of their streams."""
BACK_SECONDS = 0.1
"""A decoding time so long before the one before it is a jump back, as in ffmpeg."""
AHEAD_SECONDS = 10.0
"""A decoding time so long after it should come is one of a flipped bit, if the next packet's is not
(ffmpeg's `dts_delta_threshold`); a clock that stays there has a true gap, up to the next.
"""
FAR_AHEAD_SECONDS = 3600.0
"""A video does not have a gap of an hour: another recording begins."""
MAX_RETRIES = 100
"""A demuxer may ask to be asked again; ffmpeg does so for ever."""

Packet: TypeAlias = "av.packet.Packet[av.video.stream.VideoStream]"


@dataclass
class Tally:
    """Counts of one pass over a file, and a function to call while the pass goes on."""

    packets: int = 0
    discarded_packets: int = 0
    """Packets that an edit list hides: the header may count them, and players do not show them."""
    damaged_packets: int = 0
    """Packets that the demuxer calls damaged; a picture may still come of one."""
    decode_errors: int = 0
    damaged_pictures: int = 0
    """Pictures that the decoder calls damaged: a part of them is made up."""
    timeless_frames: int = 0
    """Pictures without a time to be shown or decoded at."""
    clock_jumps: int = 0
    """Places where the stream's clock jumped and was corrected, single times included."""
    first_seconds: float = math.inf
    """When the first packet begins, on the file's own clock: of any stream, or of the video stream
    (see `video_packets`).
    """
    end_seconds: float = -math.inf
    """When the last such packet ends."""
    end_byte: int = 0
    """Where the last packet ends in the file, in containers of `ONE_LENGTH_CONTAINERS`."""
    demuxer_errors: DemuxerErrors = field(default_factory=DemuxerErrors)
    """Messages of the demuxer, while it opened the file and read it."""
    salvaged_by: str = ""
    """Which backend replaced one that failed, from where, and why."""
    heartbeat: Callable[[], None] = lambda: None
    """Called at every packet: a sign of life."""

    @property
    def damaged(self) -> bool:
        """Whether anything was found broken so far."""
        errors = self.decode_errors + self.demuxer_errors.count
        return errors + self.damaged_packets + self.damaged_pictures > 0

    def start_over(self, salvaged_by: str) -> None:
        """Forget the counts of a pass that another one replaces."""
        # The object stays the same: others hold it.
        fresh = Tally(salvaged_by=salvaged_by, heartbeat=self.heartbeat)
        for name, value in vars(fresh).items():
            setattr(self, name, value)

    def count_times(self, packet: Any, tick_seconds: float) -> None:
        """Extend the span of all packets by one of them."""
        if packet.pts is None:
            return
        start = packet.pts * tick_seconds
        end = (packet.pts + (packet.duration or 0)) * tick_seconds
        self.first_seconds = min(self.first_seconds, start)
        self.end_seconds = max(self.end_seconds, end)


def video_packets(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    tally: Tally,
    *,
    every_stream: bool = False,
) -> Iterator[Packet]:
    """The video stream's packets, without the empty ones.

    Args:
        opened: the file.
        stream: its video stream.
        tally: counts the packets.
        every_stream: count when packets of any stream begin and end. That is always done if the
            container states one length for all streams, to compare it with.

    Raises av.error.FFmpegError if nothing behind a damage can be read.
    """
    container = opened.format.name.partition(",")[0]
    every_stream = every_stream or container in ONE_LENGTH_CONTAINERS
    packets = _counted(opened, stream, tally, every_stream=every_stream)
    if container not in JUMPING_CONTAINERS or not stream.time_base:
        return packets
    return _ContinuousClock(stream, float(stream.time_base), tally).correct(packets)


def _counted(
    opened: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    tally: Tally,
    *,
    every_stream: bool,
) -> Iterator[Packet]:
    ticks = [float(each.time_base or 0) for each in opened.streams]
    read_streams = () if every_stream else (stream,)
    for packet in _read_packets(opened, read_streams, tally.demuxer_errors):
        # Before anything else: a long run of empty packets is not a hang.
        tally.heartbeat()
        if packet.size == 0:
            continue
        tally.count_times(packet, ticks[packet.stream_index])
        if every_stream and packet.pos is not None:
            tally.end_byte = max(tally.end_byte, packet.pos + packet.size)
        if packet.stream_index == stream.index:
            tally.packets += 1
            tally.discarded_packets += packet.is_discard
            tally.damaged_packets += packet.is_corrupt
            yield packet


def _read_packets(
    opened: av.container.InputContainer,
    streams: tuple[av.stream.Stream, ...],
    demuxer_errors: DemuxerErrors,
) -> Iterator[Any]:
    """Packets of these streams; of all if none is named."""
    packets = opened.demux(*streams)
    retries = 0
    while True:
        try:
            with demuxer_errors:
                packet = next(packets, None)
        except av.error.BlockingIOError:
            # A file cannot block: the demuxer skipped something, and continues behind it.
            packets = opened.demux(*streams)
            retries += 1
            if retries > MAX_RETRIES:
                return
            continue
        if packet is None:
            return
        yield packet


class _ContinuousClock:
    """Lets the stream's clock continue where the file's clock jumps.

    A packet that seems to jump is held back until the next one shows what happened. "Our" ticks are
    those of the corrected clock.
    """

    def __init__(
        self, stream: av.video.stream.VideoStream, tick_seconds: float, tally: Tally
    ) -> None:
        self._tally = tally
        per_second = 1 / tick_seconds
        self._back = round(BACK_SECONDS * per_second)
        self._ahead = round(AHEAD_SECONDS * per_second)
        self._far_ahead = round(FAR_AHEAD_SECONDS * per_second)
        rate = stream.average_rate
        self._usual_step = round(per_second / float(rate)) if rate else 0
        self._offset = 0
        """Our ticks minus the file's."""
        self._last: int | None = None
        """When the last packet was decoded, in our ticks."""
        self._next = 0
        """When the next packet should be decoded, in our ticks."""

    def correct(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """The same packets in our ticks. If reading fails, the held packet still comes."""
        held: Packet | None = None
        try:
            for packet in packets:
                if held is not None:
                    self._decide(held, packet)
                    yield self._shift(held)
                    held = None
                if self._fits(packet.dts):
                    yield self._shift(packet)
                else:
                    held = packet
        except av.error.FFmpegError:
            if held is not None:
                yield self._shift_last(held)
            raise
        if held is not None:
            yield self._shift_last(held)

    def _fits(self, dts: int | None) -> bool:
        """Whether a decoding time follows the last one, in the file's ticks."""
        if dts is None or self._last is None:
            return True
        ours = dts + self._offset
        return self._last - self._back <= ours <= self._next + self._ahead

    def _decide(self, packet: Packet, following: Packet | None) -> None:
        """Correct a packet that seems to jump: only its time is wrong, or the clock jumped.

        A gap, after which the clock is right, stays.
        """
        if following is not None and following.dts is not None and self._fits(following.dts):
            self._mend_times(packet)
            self._tally.clock_jumps += 1
            return
        dts = packet.dts or 0
        is_gap = self._next + self._ahead < dts + self._offset <= self._next + self._far_ahead
        if not is_gap:
            self._offset = self._next - dts
            self._tally.clock_jumps += 1

    def _mend_times(self, packet: Packet) -> None:
        """Set the times of one packet to those expected."""
        delay = 0 if packet.pts is None else packet.pts - (packet.dts or 0)
        if not 0 <= delay <= self._ahead:
            delay = 0
        packet.dts = self._next - self._offset
        packet.pts = packet.dts + delay

    def _shift_last(self, packet: Packet) -> Packet:
        self._decide(packet, None)
        return self._shift(packet)

    def _shift(self, packet: Packet) -> Packet:
        if packet.pts is not None:
            packet.pts += self._offset
        if packet.dts is not None:
            packet.dts = self._last = packet.dts + self._offset
            self._next = self._last + (packet.duration or self._usual_step)
        return packet


def av_frames(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, tally: Tally
) -> Iterator[av.video.frame.VideoFrame]:
    """Every picture that FFmpeg can decode. A packet that fails is counted and skipped.

    If only the time of one picture lies far ahead of those around it, it is put between them.
    Raises MemoryError if memory ran out, which says nothing about the packet.
    """
    tick_seconds = float(stream.time_base or 0)
    ahead = round(AHEAD_SECONDS / tick_seconds) if tick_seconds else 0
    held: av.video.frame.VideoFrame | None = None
    last: int | None = None
    for picture in _decode(opened, stream, tally):
        if held is not None:
            tally.clock_jumps += _move_between(last, held, picture)
            yield held
            last, held = held.pts, None
        if ahead and _is_far_ahead(picture.pts, last, ahead):
            held = picture
            continue
        yield picture
        if picture.pts is not None:
            last = picture.pts
    if held is not None:
        yield held


def _is_far_ahead(pts: int | None, last: int | None, ahead: int) -> bool:
    return pts is not None and last is not None and pts - last > ahead


def _move_between(
    last: int | None, held: av.video.frame.VideoFrame, following: av.video.frame.VideoFrame
) -> bool:
    """Move a picture between the times around it, if they show that its own is wrong."""
    if last is None or held.pts is None or following.pts is None:
        return False
    if not last < following.pts <= held.pts:
        return False
    held.pts = last + (following.pts - last) // 2
    return True


def _decode(
    opened: av.container.InputContainer, stream: av.video.stream.VideoStream, tally: Tally
) -> Iterator[av.video.frame.VideoFrame]:
    # More threads would decode pictures in another order after damage.
    stream.codec_context.thread_count = 1
    packets = video_packets(opened, stream, tally)
    ended = False
    while not ended:
        packet = _next_packet(packets, tally)
        # None makes the decoder return the pictures that it still holds.
        ended = packet is None
        try:
            pictures = stream.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            _count_error(error, tally)
            continue
        for picture in pictures:
            tally.damaged_pictures += picture.is_corrupt
            yield picture


def _next_packet(packets: Iterator[Packet], tally: Tally) -> Packet | None:
    """The next packet; None at the end, and if nothing behind a damage can be read."""
    try:
        return next(packets, None)
    except av.error.FFmpegError as error:
        _count_error(error, tally)
        return None


def _count_error(error: av.error.FFmpegError, tally: Tally) -> None:
    # The next packet would fail for the same reason, and the video would seem damaged.
    if error.errno == errno.ENOMEM:
        raise MemoryError(str(error.strerror)) from error
    tally.decode_errors += 1
