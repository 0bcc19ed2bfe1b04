"""A whole-file reader under guard: each of its frames is held against the packets' own times, and
PyAV takes over.

Libraries that read whole files lose everything behind a damage, invent times, or open what a file's
bytes talk them into. So a reader gets a file only if FFmpeg's own guess is the container we
sniffed, and is dropped at the first difference; PyAV's packet loop then goes on at that frame, and
`Tally.salvaged_by` says why. Knows no library but PyAV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

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
"""So long may a picture be late without any doubt."""
TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""Display matrices without mirroring: whole-file readers turn by these, and ignore the others."""


class ReaderFailed(Exception):
    """A reader cannot deliver a file, or delivered something else than its packets promise."""


class Reader(Protocol):
    """A library's hold on one file, read from its first frame to its last."""

    @property
    def count(self) -> int | None:
        """How many frames it will give; None if only reading tells."""
        ...

    def next(self) -> tuple[Frame, float | None]:
        """The next frame `(H, W, 3)` uint8 RGB, upright, and its time if the library knows. Raises
        ReaderFailed.
        """
        ...


OpenReader = Callable[[Path, Probe], Reader]
"""Raises ReaderFailed for a file that the library cannot read right; SystemicFault if there is no
library.
"""


@dataclass(frozen=True)
class Shown:
    """Times of the packets that are shown, in order, in ticks."""

    pts: NDArray[np.int64]
    durations: NDArray[np.int64]


def guarded_frames(
    path: Path, probed: Probe, tally: Tally, open_reader: OpenReader
) -> Iterator[DecodedFrame]:
    """The reader's frames as long as they are right, then PyAV's. Memory: eight or sixteen bytes a
    frame.
    """
    sent = 0
    try:
        for frame in _checked_frames(path, probed, tally, open_reader):
            yield frame
            sent += 1
    except ReaderFailed as failure:
        tally.start_over(f"pyav from frame {sent}: {failure}")
        yield from islice(pyav_frames(path, probed, tally), sent, None)


def _checked_frames(
    path: Path, probed: Probe, tally: Tally, open_reader: OpenReader
) -> Iterator[DecodedFrame]:
    if probed.display_matrix not in TURNS:
        raise ReaderFailed(f"a mirrored display matrix {probed.display_matrix}")
    if probed.container == "avi":
        raise ReaderFailed("a container that keeps no times of pictures")
    _check_guess(path, probed.container)
    shown, clock = shown_packets(path, probed, tally), probed.clock
    reader = open_reader(path, probed)
    if reader.count not in (None, len(shown.pts)):
        raise ReaderFailed(f"{reader.count} frames by its count, {len(shown.pts)} in the packets")
    for index, (ticks, duration) in enumerate(
        zip(shown.pts.tolist(), shown.durations.tolist(), strict=True)
    ):
        tally.heartbeat()
        rgb, said_seconds = reader.next()
        _check_frame(
            rgb, said_seconds, clock.lasts(ticks), probed
        )  # libraries know the stream's own clock alone
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
    rgb: Frame, said_seconds: float | None, ticks_seconds: float, probed: Probe
) -> None:
    if rgb.shape != (probed.height, probed.width, 3):
        raise ReaderFailed(f"a picture of shape {rgb.shape}, not {probed.width}x{probed.height}")
    tick = probed.time_base[0] / probed.time_base[1]
    if said_seconds is not None and abs(said_seconds - ticks_seconds) > tick / 2:
        raise ReaderFailed(f"a frame at {said_seconds} s, by its packet at {ticks_seconds} s")


def _check_guess(path: Path, container: str) -> None:
    """Such libraries let FFmpeg guess the demuxer: a file whose bytes fit two is not for them."""
    only = {"protocol_whitelist": "file", "format_whitelist": container}
    try:
        av.open(f"file:{path.absolute()}", options=only, metadata_errors="replace").close()
    except av.error.FFmpegError as error:
        raise ReaderFailed(f"FFmpeg's own guess is not {container}") from error


def shown_packets(path: Path, probed: Probe, tally: Tally) -> Shown:
    """Read the packets, decode nothing. Raises ReaderFailed for damage that shows here, and for
    times that do not.
    """
    pts: list[int] = []
    durations: list[int] = []
    try:
        with open_container(path, probed.container, tally.demuxer_errors) as container:
            for packet in video_packets(
                container, video_stream_at(container, probed.stream_index), tally
            ):
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
    _check_stretches(shown, probed)
    return shown


def _sorted(pts: NDArray[np.int64], durations: NDArray[np.int64]) -> Shown:
    order = np.argsort(pts, kind="stable")
    if np.any(np.diff(pts[order]) == 0):
        raise ReaderFailed("two packets with the same time")
    return Shown(pts[order], durations[order])


def _check_stretches(shown: Shown, probed: Probe) -> None:
    """Behind a stretch without packets a decoder may make pictures up, which only PyAV tells."""
    tick = probed.time_base[0] / probed.time_base[1]
    late = np.diff(shown.pts) - shown.durations[:-1]
    if np.any(late * tick > SLACK_SECONDS):
        raise ReaderFailed("a stretch without packets")
