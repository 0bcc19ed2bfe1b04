"""One pass over a file's packets: the film's, in the order they come, what was found wrong on the
way, its pictures.

The clock of a transport stream or of an Ogg file may jump back, where two recordings were joined,
or by a flipped bit. ffmpeg then lets the clock go on, and so does this module, for every reader of
packets. Refuses to know samplings, backends and processes.
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
"""No film has a gap of an hour: another recording begins."""
MAX_RETRIES = 100
"""A demuxer may ask to be asked again; ffmpeg does so for ever."""

Packet: TypeAlias = "av.packet.Packet[av.video.stream.VideoStream]"


@dataclass
class Tally:
    """Counts of one pass over a file, and who is told that the pass is alive."""

    packets: int = 0
    discarded_packets: int = 0
    """Packets that an edit list hides: the header may count them, and nobody is to see them."""
    damaged_packets: int = 0
    """Packets that the demuxer itself calls damaged; a picture may still come of one."""
    decode_errors: int = 0
    damaged_pictures: int = 0
    """Pictures that the decoder itself calls damaged: something in them was made up."""
    timeless_frames: int = 0
    """Pictures that say neither when they are shown nor when they are decoded."""
    clock_jumps: int = 0
    """Places where the film's clock jumped, and was made to go on; single times that were mended
    count too.
    """
    first_seconds: float = math.inf
    """When the first packet begins, on the file's own clock: of any stream, or of the film (see
    `video_packets`).
    """
    end_seconds: float = -math.inf
    """When the last such packet ends."""
    end_byte: int = 0
    """Where the last packet ends in the file, in containers of `ONE_LENGTH_CONTAINERS`."""
    demuxer_errors: DemuxerErrors = field(default_factory=DemuxerErrors)
    """Of the demuxer, while it opened the file and read it."""
    salvaged_by: str = ""
    """What took over from a backend that could not go on, from where, and why."""
    heartbeat: Callable[[], None] = lambda: None

    @property
    def damaged(self) -> bool:
        """Whether anything was found broken so far."""
        return (
            self.decode_errors
            + self.damaged_packets
            + self.damaged_pictures
            + self.demuxer_errors.count
            > 0
        )

    def start_over(self, salvaged_by: str) -> None:
        """Forget the counts of a pass that another one replaces."""
        fresh = Tally(salvaged_by=salvaged_by, heartbeat=self.heartbeat)
        for name, value in vars(fresh).items():
            setattr(self, name, value)


def video_packets(
    opened: av.container.InputContainer,
    film: av.video.stream.VideoStream,
    tally: Tally,
    *,
    every_stream: bool = False,
) -> Iterator[Packet]:
    """The film's packets, without the empty ones.

    `every_stream`: the tally is to know when the first and the last packet of any stream begins and
    ends. Where a container states one length for all its streams it always does, since only
    together they tell whether it is true. Raises av.error.FFmpegError where nothing behind a damage
    can be read.
    """
    container = opened.format.name.partition(",")[0]
    found = _counted(opened, film, tally, others=every_stream or container in ONE_LENGTH_CONTAINERS)
    if container not in JUMPING_CONTAINERS or not film.time_base:
        return found
    return _Clock(film, float(film.time_base), tally).continued(found)


def _counted(
    opened: av.container.InputContainer,
    film: av.video.stream.VideoStream,
    tally: Tally,
    *,
    others: bool,
) -> Iterator[Packet]:
    ticks = [float(stream.time_base or 0) for stream in opened.streams]
    for packet in _every_packet(opened, () if others else (film,), tally.demuxer_errors):
        tally.heartbeat()
        if packet.size == 0:
            continue
        if packet.pts is not None:
            tick = ticks[packet.stream_index]
            tally.first_seconds = min(tally.first_seconds, packet.pts * tick)
            tally.end_seconds = max(tally.end_seconds, (packet.pts + (packet.duration or 0)) * tick)
        if others and packet.pos is not None:
            tally.end_byte = max(tally.end_byte, packet.pos + packet.size)
        if packet.stream_index == film.index:
            tally.packets += 1
            tally.discarded_packets += packet.is_discard
            tally.damaged_packets += packet.is_corrupt
            yield packet


def _every_packet(
    opened: av.container.InputContainer,
    streams: tuple[av.stream.Stream, ...],
    demuxer_errors: DemuxerErrors,
) -> Iterator[Any]:
    """Packets of these streams; of all, where none is named."""
    packets, retries = opened.demux(*streams), 0
    while True:
        try:
            with demuxer_errors:
                packet = next(packets, None)
        except av.error.BlockingIOError:
            # Nothing here blocks: the demuxer skipped something, and goes on behind it.
            packets, retries = opened.demux(*streams), retries + 1
            if retries > MAX_RETRIES:
                return
            continue
        if packet is None:
            return
        yield packet


class _Clock:
    """Lets the film's clock go on where the file's jumps. A packet that seems to jump waits for the
    one behind it.
    """

    def __init__(
        self, film: av.video.stream.VideoStream, tick_seconds: float, tally: Tally
    ) -> None:
        self._tally = tally
        per_second = 1 / tick_seconds
        self._back = round(BACK_SECONDS * per_second)
        self._ahead = round(AHEAD_SECONDS * per_second)
        self._far_ahead = round(FAR_AHEAD_SECONDS * per_second)
        self._usual_step = round(per_second / float(film.average_rate)) if film.average_rate else 0
        self._offset = 0
        """What the file's ticks lack to be ours."""
        self._last: int | None = None
        self._next = 0
        """When the last packet was decoded, and when the next one should be, in our ticks."""

    def continued(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """The same packets, in our ticks. Where reading fails, what waited comes first."""
        waiting: Packet | None = None
        try:
            for packet in packets:
                if waiting is not None:
                    self._settle(waiting, packet)
                    yield self._moved(waiting)
                    waiting = None
                if self._fits(packet.dts):
                    yield self._moved(packet)
                else:
                    waiting = packet
        except av.error.FFmpegError:
            if waiting is not None:
                self._settle(waiting, None)
                yield self._moved(waiting)
            raise
        if waiting is not None:
            self._settle(waiting, None)
            yield self._moved(waiting)

    def _fits(self, dts: int | None) -> bool:
        if dts is None or self._last is None:
            return True
        return self._last - self._back <= dts + self._offset <= self._next + self._ahead

    def _settle(self, packet: Packet, following: Packet | None) -> None:
        """Decide about a packet that seems to jump: it alone does, the clock does, or there is a
        gap.
        """
        dts = packet.dts or 0
        if following is not None and following.dts is not None and self._fits(following.dts):
            late = 0 if packet.pts is None else packet.pts - dts
            packet.dts = self._next - self._offset
            packet.pts = packet.dts + (late if 0 <= late <= self._ahead else 0)
            self._tally.clock_jumps += 1
        elif not self._next + self._ahead < dts + self._offset <= self._next + self._far_ahead:
            self._offset = self._next - dts
            self._tally.clock_jumps += 1

    def _moved(self, packet: Packet) -> Packet:
        if packet.pts is not None:
            packet.pts += self._offset
        if packet.dts is not None:
            packet.dts = self._last = packet.dts + self._offset
            self._next = self._last + (packet.duration or self._usual_step)
        return packet


def av_frames(
    opened: av.container.InputContainer, film: av.video.stream.VideoStream, tally: Tally
) -> Iterator[av.video.frame.VideoFrame]:
    """Every picture FFmpeg can give, past damage: a packet that fails is counted, and the next one
    tried.

    A picture whose time alone lies far ahead of the times around it is put between those. Raises
    MemoryError where memory ran out: that says nothing of the packet.
    """
    tick = float(film.time_base or 0)
    ahead = round(AHEAD_SECONDS / tick) if tick else 0
    held: av.video.frame.VideoFrame | None = None
    last: int | None = None
    for picture in _decoded(opened, film, tally):
        if held is not None:
            if _between(last, held, picture):
                tally.clock_jumps += 1
            yield held
            last, held = held.pts, None
        if ahead and last is not None and picture.pts is not None and picture.pts - last > ahead:
            held = picture
            continue
        yield picture
        last = picture.pts if picture.pts is not None else last
    if held is not None:
        yield held


def _between(
    last: int | None, held: av.video.frame.VideoFrame, following: av.video.frame.VideoFrame
) -> bool:
    """Put a picture between the times around it, if they say that its own is wrong."""
    if (
        last is None
        or held.pts is None
        or following.pts is None
        or not last < following.pts <= held.pts
    ):
        return False
    held.pts = last + (following.pts - last) // 2
    return True


def _decoded(
    opened: av.container.InputContainer, film: av.video.stream.VideoStream, tally: Tally
) -> Iterator[av.video.frame.VideoFrame]:
    film.codec_context.thread_count = 1
    packets = video_packets(opened, film, tally)
    ended = False
    while not ended:
        packet = _next_packet(packets, tally)
        ended = packet is None  # and the decoder gives the pictures it still holds
        try:
            pictures = film.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            _count_error(error, tally)
            continue
        for picture in pictures:
            tally.damaged_pictures += picture.is_corrupt
            yield picture


def _next_packet(packets: Iterator[Packet], tally: Tally) -> Packet | None:
    """None at the end, and where nothing behind a damage can be read."""
    try:
        return next(packets, None)
    except av.error.FFmpegError as error:
        _count_error(error, tally)
        return None


def _count_error(error: av.error.FFmpegError, tally: Tally) -> None:
    if error.errno == errno.ENOMEM:
        raise MemoryError(str(error.strerror)) from error
    tally.decode_errors += 1
