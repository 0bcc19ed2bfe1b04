"""Checks the frames of whole-file readers against the packets, with PyAV as the fallback.

Libraries that read whole files lose everything after a damage, invent times, or guess the container
from a file's bytes. A reader therefore gets a file only if FFmpeg's own guess is the
container that was detected. It is dropped at the first difference; PyAV then continues at that
frame, and `Tally.salvaged_by` records why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

import av
import av.error
import av.video.stream
import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.decoding.backends.pyav import pyav_frames
from pipeline.media.container.packets import Tally, video_packets
from pipeline.media.container.streams import open_container, video_stream_at
from pipeline.media.probe import Probe

SLACK_SECONDS = 0.5
"""A picture may be this late before the stretch without pictures is doubtful."""
ROTATIONS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""Display matrices without mirroring. Whole-file readers apply these and ignore the others."""


class ReaderFailed(Exception):
    """A reader cannot read a file, or its frames do not match the packets."""


class Reader(Protocol):
    """One file opened by a library, read from its first frame to its last."""

    @property
    def count(self) -> int | None:
        """Number of frames; None if the library does not know it."""
        ...

    def next(self) -> tuple[Frame, float | None]:
        """The next frame, uint8 RGB `(H, W, 3)` and upright, and its time if the library knows it.

        Raises ReaderFailed.
        """
        ...


class WholeFileReader:
    """Base of readers for libraries that know the number of frames and return one at a time."""

    library: ClassVar[str]

    def __init__(self, frames: Any, errors: tuple[type[Exception], ...]) -> None:
        """`frames` is the library's object for the file, `errors` is what it may raise."""
        self.frames = frames
        self._errors = errors
        self._next = 0

    @property
    def count(self) -> int:
        """As `Reader.count`."""
        return len(self.frames)

    def next(self) -> tuple[Frame, float | None]:
        """As `Reader.next`."""
        try:
            frame = self.read(self._next)
        except self._errors as error:
            raise ReaderFailed(f"{self.library} gives no frame {self._next}") from error
        self._next += 1
        return frame

    def read(self, index: int) -> tuple[Frame, float | None]:
        """Frame `index`, which rises by one from call to call. Raises the library's errors."""
        raise NotImplementedError


OpenReader = Callable[[Path, Probe], Reader]
"""Opens a file. Raises ReaderFailed if the library cannot read it correctly.

Raises SystemicFault if the library is not installed.
"""


@dataclass(frozen=True)
class ShownPackets:
    """Times of the packets with a picture to show, in rising order, in ticks of the clock."""

    pts: NDArray[np.int64]
    durations: NDArray[np.int64]


def guarded_frames(
    path: Path, probed: Probe, tally: Tally, open_reader: OpenReader
) -> Iterator[DecodedFrame]:
    """The reader's frames while they are correct, then PyAV's.

    Needs 16 bytes of memory per frame, for the packets' times.
    """
    sent = 0
    try:
        for frame in _checked_frames(path, probed, tally, open_reader):
            yield frame
            sent += 1
    except ReaderFailed as failure:
        tally.start_over(f"pyav from frame {sent}: {failure}")
        # All frames are decoded again: PyAV cannot start in the middle of a damaged file.
        yield from islice(pyav_frames(path, probed, tally), sent, None)


def _checked_frames(
    path: Path, probed: Probe, tally: Tally, open_reader: OpenReader
) -> Iterator[DecodedFrame]:
    if probed.display_matrix not in ROTATIONS:
        raise ReaderFailed(f"a mirrored display matrix {probed.display_matrix}")
    # There is nothing that a reader's times could be compared with.
    if probed.container == "avi":
        raise ReaderFailed("a container that keeps no times of pictures")
    _check_guess(path, probed.container)
    shown = shown_packets(path, probed, tally)
    reader = open_reader(path, probed)
    packet_count = len(shown.pts)
    if reader.count is not None and reader.count != packet_count:
        raise ReaderFailed(f"{reader.count} frames by its count, {packet_count} in the packets")
    clock = probed.clock
    times = zip(shown.pts.tolist(), shown.durations.tolist(), strict=True)
    for index, (ticks, duration) in enumerate(times):
        tally.heartbeat()
        rgb, reader_seconds = reader.next()
        # Libraries know only the stream's own clock, not the container's start.
        _check_frame(rgb, reader_seconds, clock.lasts(ticks), probed)
        yield DecodedFrame(
            index=index,
            pts_seconds=clock.at(ticks),
            duration_seconds=clock.lasts(duration) if duration else None,
            width=probed.width,
            height=probed.height,
            to_rgb=partial(_as_read, rgb),
        )


def _as_read(rgb: Frame) -> Frame:
    return rgb


def _check_frame(
    rgb: Frame, reader_seconds: float | None, packet_seconds: float, probed: Probe
) -> None:
    if rgb.shape != (probed.height, probed.width, 3):
        raise ReaderFailed(f"a picture of shape {rgb.shape}, not {probed.width}x{probed.height}")
    if reader_seconds is None:
        return
    tick = probed.time_base[0] / probed.time_base[1]
    if abs(reader_seconds - packet_seconds) > tick / 2:
        raise ReaderFailed(f"a frame at {reader_seconds} s, by its packet at {packet_seconds} s")


def _check_guess(path: Path, container: str) -> None:
    """Raise ReaderFailed unless FFmpeg would choose this container: such libraries let it guess."""
    only = {"protocol_whitelist": "file", "format_whitelist": container}
    try:
        av.open(f"file:{path.absolute()}", options=only, metadata_errors="replace").close()
    except av.error.FFmpegError as error:
        raise ReaderFailed(f"FFmpeg's own guess is not {container}") from error


def shown_packets(path: Path, probed: Probe, tally: Tally) -> ShownPackets:
    """The packets' times, read without decoding.

    Raises ReaderFailed for damage that shows in the packets, and for missing or repeated times.
    """
    pts: list[int] = []
    durations: list[int] = []
    try:
        with open_container(path, probed.container, tally.demuxer_errors) as container:
            stream = video_stream_at(container, probed.stream_index)
            for packet in video_packets(container, stream, tally):
                if packet.is_corrupt or packet.pts is None:
                    raise ReaderFailed("packets that are damaged or have no time")
                if not packet.is_discard:
                    pts.append(packet.pts)
                    durations.append(packet.duration or 0)
    except av.error.FFmpegError as error:
        raise ReaderFailed("packets that cannot be read") from error
    if tally.demuxer_errors.count:
        raise ReaderFailed(f"its demuxer complains: {tally.demuxer_errors.first}")
    if tally.clock_jumps:
        raise ReaderFailed("a clock that jumps")
    shown = _sorted(np.array(pts, np.int64), np.array(durations, np.int64))
    _check_no_gaps(shown, probed)
    return shown


def _sorted(pts: NDArray[np.int64], durations: NDArray[np.int64]) -> ShownPackets:
    # Packets come in decoding order.
    order = np.argsort(pts, kind="stable")
    if np.any(np.diff(pts[order]) == 0):
        raise ReaderFailed("two packets with the same time")
    return ShownPackets(pts[order], durations[order])


def _check_no_gaps(shown: ShownPackets, probed: Probe) -> None:
    """Raise ReaderFailed for a gap: a decoder may invent pictures after it. Only PyAV says so."""
    tick = probed.time_base[0] / probed.time_base[1]
    late = np.diff(shown.pts) - shown.durations[:-1]
    if np.any(late * tick > SLACK_SECONDS):
        raise ReaderFailed("a stretch without packets")
