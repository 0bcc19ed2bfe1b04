"""A file → its frames in presentation order, with their own times; pixels are converted only where
asked for.

What FFmpeg delivers of a damaged file is delivered, and what is missing is counted. Refuses to know
samplings, windows and processes. To add a decoder: write a file in `backends/` and add its function
to `BACKENDS`; all must be bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av.error

from pipeline.decoding.backends.decord import decord_frames
from pipeline.decoding.backends.frame import Backend, DecodedFrame
from pipeline.decoding.backends.nvdec import nvdec_frames
from pipeline.decoding.backends.pyav import pyav_frames
from pipeline.decoding.backends.torchcodec import torchcodec_frames
from pipeline.decoding.frame_timing import FrameTiming, coarse_tick_seconds, spread_equal_frames
from pipeline.media.container.lengths import MissingDuration, missing_duration, unread_bytes
from pipeline.media.container.packets import Tally
from pipeline.media.container.truncation import missing_bytes
from pipeline.media.probe import DecodeLimits, Probe, check_pixels, check_seconds, probe
from storage.base.errors import VideoError
from storage.base.video_status import failure_status

MAX_DROPPED_SHARE = 0.05
"""Frames whose times repeat or go back are dropped and counted; with more of them than this, no
time is believed.
"""


@dataclass(frozen=True)
class DecodeSummary:
    """What became of one pass over a file: what came, what was lost, and which time has
    pictures.
    """

    frames_decoded: int
    """Frames handed out."""
    frames_declared: int | None
    """By the header, without those an edit list hides; None where it does not say."""
    frames_lost: int
    """Frames that the header, or else the packets of a damaged stream, promised and nobody could
    decode.
    """
    frames_dropped: int
    """Frames that decoded, but without a time after the frame before them."""
    packets: int
    """Compressed pictures found in the file; some codecs hold a few that are never shown."""
    decode_errors: int
    """Packets that gave an error instead of a picture."""
    damaged_packets: int
    """Packets that the container itself marks as damaged."""
    damaged_pictures: int
    """Pictures that the decoder itself calls damaged: they came, and something in them was made
    up.
    """
    clock_jumps: int
    """Places where the stream's clock jumped and was made to go on, as ffmpeg does: joined
    recordings, flipped bits.
    """
    file_damage: str
    """What the file lacks by its own sizes and lengths, and what its demuxer complains of, in
    words; else empty.
    """
    first_pts_seconds: float
    """When the first frame is shown, in seconds since the container's start, as all times here."""
    end_seconds: float
    """When the last frame ends."""
    covered_seconds: float
    """From the first frame's start to the last one's end, without the gaps between; alike in every
    container.
    """
    gaps_seconds: tuple[tuple[float, float], ...]
    """Stretches `[start, end)` that a damaged stream has no picture for, in order, at most
    `frame_timing.MAX_GAPS`.
    """
    gaps_unlisted: int
    """Gaps beyond those listed; `covered_seconds` knows them."""
    salvaged_by: str
    """Empty, or what took over from the backend, from which frame on, and why."""


BACKENDS: dict[str, Backend] = {
    "pyav": pyav_frames,
    "torchcodec": torchcodec_frames,
    "decord": decord_frames,
    "nvdec": nvdec_frames,
}
"""Name of a decoder, as in the configuration → its frames of a file."""


def get_backend(name: str) -> Backend:
    """The backend of that name. Raises ValueError that lists the names there are."""
    if name not in BACKENDS:
        raise ValueError(f"unknown decoder {name!r}; known decoders are {', '.join(BACKENDS)}")
    return BACKENDS[name]


class VideoReader:
    """One pass over one file: iterate it once for the frames, then ask for the `summary`.

    Raises VideoError with the verdicts of `probe`, too_long, too_many_pixels, and bad_timestamps
    from `summary`. The last frame ends after its own duration; where the stream gives none, after
    as long as the frame before it was shown; a lone frame without a duration lasts one frame at the
    header's rate, and without that rate has bad timestamps.
    """

    def __init__(
        self,
        video_id: str,
        path: Path,
        *,
        backend: str,
        limits: DecodeLimits,
        beat: Callable[[], None],
    ) -> None:
        self.probe = probe(video_id, path, limits)
        self._video_id = video_id
        self._path = path
        self._limits = limits
        self._tally = Tally(heartbeat=beat)
        self._frames = get_backend(backend)(path, self.probe, self._tally)
        self._coverage = FrameTiming()

    def __iter__(self) -> Iterator[DecodedFrame]:
        try:
            for frame in spread_equal_frames(self._frames, coarse_tick_seconds(self.probe)):
                self._check(frame)
                index = self._coverage.frames
                if self._coverage.admit(frame, self._broken):
                    yield frame if frame.index == index else replace(frame, index=index)
        except av.error.FFmpegError as error:
            raise VideoError(
                self._video_id, failure_status("unreadable", str(error.strerror))
            ) from error

    @property
    def _broken(self) -> bool:
        return (
            self._tally.damaged or self._tally.timeless_frames + self._coverage.frames_dropped > 0
        )

    def _check(self, frame: DecodedFrame) -> None:
        check_pixels(self._video_id, frame.width, frame.height, self._limits)
        first = self._coverage.first_seconds
        check_seconds(
            self._video_id, 0.0 if first is None else frame.pts_seconds - first, self._limits
        )
        if frame.index >= self._limits.max_frames:
            raise VideoError(
                self._video_id,
                failure_status("too_long", f"more than {self._limits.max_frames} frames"),
            )

    def summary(self) -> DecodeSummary:
        """Counts and times of the pass, once all frames came. Raises VideoError if none did, or
        times are bad.
        """
        coverage, tally = self._coverage, self._tally
        dropped = coverage.frames_dropped + tally.timeless_frames
        self._check_times(coverage.frames, dropped)
        end_seconds = self._end_seconds()
        declared, lost = self._declared(), self._lost(coverage.frames + dropped)
        gaps = coverage.gaps(self._promised(), end_seconds, lossy=lost > 0 or self._broken)
        first_seconds = coverage.first_seconds or 0.0
        return DecodeSummary(
            frames_decoded=coverage.frames,
            frames_declared=declared,
            frames_lost=lost,
            frames_dropped=dropped,
            packets=tally.packets,
            decode_errors=tally.decode_errors,
            damaged_packets=tally.damaged_packets,
            damaged_pictures=tally.damaged_pictures,
            clock_jumps=tally.clock_jumps,
            file_damage=self._file_damage(),
            first_pts_seconds=first_seconds,
            end_seconds=end_seconds,
            covered_seconds=end_seconds - first_seconds - coverage.inner_gaps_seconds,
            gaps_seconds=gaps,
            gaps_unlisted=coverage.gaps_unlisted,
            salvaged_by=tally.salvaged_by,
        )

    def _check_times(self, kept: int, dropped: int) -> None:
        if kept + dropped == 0:
            raise VideoError(
                self._video_id,
                failure_status("unreadable", f"none of {self._tally.packets} packets decodes"),
            )
        if dropped > MAX_DROPPED_SHARE * (kept + dropped):
            problem = (
                f"{dropped} of {kept + dropped} frames have no time after the frame before them"
            )
            raise VideoError(
                self._video_id,
                failure_status(
                    "bad_timestamps", f"{problem}, allowed {MAX_DROPPED_SHARE:.0%} of all"
                ),
            )

    def _file_damage(self) -> str:
        """What downloads are judged by, told of every file: those of a folder are not refused for
        it.
        """
        size_bytes, index_end = self._path.stat().st_size, self.probe.index_end
        index = f"its index knows pictures up to byte {index_end:,}, the file has {size_bytes:,}"
        cut = missing_bytes(self._path)
        told = (
            cut,
            index if index_end > size_bytes and not cut else "",
            self._tally.demuxer_errors.summary,
            str(self._lacking() or ""),
            unread_bytes(self.probe.container, size_bytes, self._tally),
        )
        return "; ".join(filter(None, told))

    def _lacking(self) -> MissingDuration | None:
        return missing_duration(self.probe.header_file_seconds, self._tally)

    def _promised(self) -> Probe:
        """The header's word on the film's length; where it has none, and the file is cut, its word
        on the file's.

        A clock that jumps measures nothing.
        """
        if self._tally.clock_jumps:
            return replace(self.probe, header_seconds=None)
        if self.probe.header_seconds is None and (lacking := self._lacking()):
            return replace(self.probe, header_seconds=lacking.wanted_seconds)
        return self.probe

    def _declared(self) -> int | None:
        header = self.probe.header_frames
        return None if header is None else max(0, header - self._tally.discarded_packets)

    def _lost(self, came: int) -> int:
        declared = self._declared()
        if declared is not None:
            return max(0, declared - came)
        shown = self._tally.packets - self._tally.discarded_packets
        return max(0, shown - came) if self._broken else 0

    def _end_seconds(self) -> float:
        last, rate = self._coverage.last, self.probe.header_frames_per_second
        own = None if last is None else last.duration_seconds
        lasts = own or self._coverage.step_seconds or (1 / rate if rate else None)
        if last is None or lasts is None:
            raise VideoError(
                self._video_id, failure_status("bad_timestamps", "its only frame has no duration")
            )
        return last.pts_seconds + lasts
