"""Reads a video file's frames in presentation order, with their own times.

Pixels are converted only on request. Of a damaged file, the frames that FFmpeg can decode are
returned, and what is missing is counted. To add a decoder, write a file in `backends/` and add its
function to `BACKENDS` and its name to `BACKEND_NAMES`; all backends must return bit-equal frames.
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
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.probe import Probe, check_pixels, check_seconds, probe
from storage.base.errors import VideoError
from storage.base.video_status import failure_status

MAX_DROPPED_SHARE = 0.05
"""Frames whose times repeat or go back are dropped. A larger share makes all times unreliable."""


@dataclass(frozen=True)
class DecodeSummary:
    """Counts and times of one pass over a file. Stored with every video: never rename a field."""

    frames_decoded: int
    """Frames returned."""
    frames_declared: int | None
    """By the header, without those that an edit list hides; None if it does not say."""
    frames_lost: int
    """Frames that could not be decoded, of those that the header, or the packets, promise."""
    frames_dropped: int
    """Frames that decoded, but whose time is not after that of the frame before them."""
    packets: int
    """Compressed pictures in the file; some codecs contain a few that are never shown."""
    decode_errors: int
    """Packets that gave an error instead of a picture."""
    damaged_packets: int
    """Packets that the container itself marks as damaged."""
    damaged_pictures: int
    """Pictures that the decoder flags as damaged: it returned them with parts concealed."""
    clock_jumps: int
    """Places where the stream's clock jumped and was continued, as ffmpeg does.

    Joined recordings and flipped bits cause them.
    """
    file_damage: str
    """What is missing by the file's own sizes and lengths, and the demuxer's complaints.

    Empty if the file is whole.
    """
    first_pts_seconds: float
    """When the first frame is shown. All times are seconds since the container's start."""
    end_seconds: float
    """When the last frame ends."""
    covered_seconds: float
    """From the first frame's start to the last one's end, without the gaps between."""
    gaps_seconds: tuple[tuple[float, float], ...]
    """Stretches `[start, end)` without a picture, in order, at most `frame_timing.MAX_GAPS`."""
    gaps_unlisted: int
    """Gaps beyond those listed; `covered_seconds` excludes them too."""
    salvaged_by: str
    """Which decoder replaced the backend, from which frame on, and why; usually empty."""


BACKENDS: dict[str, Backend] = {
    "pyav": pyav_frames,
    "torchcodec": torchcodec_frames,
    "decord": decord_frames,
    "nvdec": nvdec_frames,
}
"""Name of a decoder, as in `[decode] backend` → its function from a file to frames.

`decode_settings.BACKEND_NAMES` has the same names.
"""


def get_backend(name: str) -> Backend:
    """The backend of that name. Raises ValueError, which lists the known names."""
    if name not in BACKENDS:
        raise ValueError(f"unknown decoder {name!r}; known decoders are {', '.join(BACKENDS)}")
    return BACKENDS[name]


class VideoReader:
    """One pass over one file: iterate it once for the frames, then call `summary`.

    Raises VideoError with the statuses of `probe`, too_long, too_many_pixels, and bad_timestamps
    from `summary`. The last frame ends after its own duration. If the stream gives none, it lasts
    as long as the frame before it. A single frame without a duration lasts one frame at the
    header's rate; without that rate, its timestamps are bad.
    """

    def __init__(
        self,
        video_id: str,
        path: Path,
        *,
        backend: str,
        limits: DecodeLimits,
        heartbeat: Callable[[], None],
    ) -> None:
        # Raises VideoError for files that are not a video, or too long or large by their header.
        self.probe = probe(video_id, path, limits)
        self._video_id = video_id
        self._path = path
        self._limits = limits
        self._tally = Tally(heartbeat=heartbeat)
        self._frames = get_backend(backend)(path, self.probe, self._tally)
        self._timing = FrameTiming()

    def __iter__(self) -> Iterator[DecodedFrame]:
        try:
            frames = spread_equal_frames(self._frames, coarse_tick_seconds(self.probe))
            for frame in frames:
                self._check(frame)
                index = self._timing.frames
                if self._timing.accept(frame, self._is_damaged):
                    # Dropped frames leave no hole in the numbers.
                    yield frame if frame.index == index else replace(frame, index=index)
        except av.error.FFmpegError as error:
            status = failure_status("unreadable", str(error.strerror))
            raise VideoError(self._video_id, status) from error

    @property
    def _is_damaged(self) -> bool:
        dropped = self._tally.timeless_frames + self._timing.frames_dropped
        return self._tally.damaged or dropped > 0

    def _check(self, frame: DecodedFrame) -> None:
        # Checked for every frame: headers may be wrong, and pictures may change size.
        check_pixels(self._video_id, frame.width, frame.height, self._limits)
        first = self._timing.first_seconds
        since_first = 0.0 if first is None else frame.pts_seconds - first
        check_seconds(self._video_id, since_first, self._limits)
        if frame.index >= self._limits.max_frames:
            status = failure_status("too_long", f"more than {self._limits.max_frames} frames")
            raise VideoError(self._video_id, status)

    def summary(self) -> DecodeSummary:
        """Counts and times of the pass, to be called after the last frame.

        Raises VideoError if there was no frame, or if the times are unreliable.
        """
        timing, tally = self._timing, self._tally
        # Frames without a usable time were decoded: they count as dropped, not as lost.
        dropped = timing.frames_dropped + tally.timeless_frames
        self._check_times(timing.frames, dropped)
        end_seconds = self._end_seconds()
        lost = self._frames_lost(timing.frames + dropped)
        lossy = lost > 0 or self._is_damaged
        gaps = timing.gaps(self._probe_with_promised_end(), end_seconds, lossy=lossy)
        first_seconds = timing.first_seconds or 0.0
        return DecodeSummary(
            frames_decoded=timing.frames,
            frames_declared=self._frames_declared(),
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
            covered_seconds=end_seconds - first_seconds - timing.inner_gaps_seconds,
            gaps_seconds=gaps,
            gaps_unlisted=timing.gaps_unlisted,
            salvaged_by=tally.salvaged_by,
        )

    def _check_times(self, accepted: int, dropped: int) -> None:
        decoded = accepted + dropped
        if decoded == 0:
            problem = f"none of {self._tally.packets} packets decodes"
            raise VideoError(self._video_id, failure_status("unreadable", problem))
        if dropped > MAX_DROPPED_SHARE * decoded:
            problem = (
                f"{dropped} of {decoded} frames have no time after the frame before them, "
                f"allowed {MAX_DROPPED_SHARE:.0%} of all"
            )
            raise VideoError(self._video_id, failure_status("bad_timestamps", problem))

    def _file_damage(self) -> str:
        """What a download would be rejected for. Files of a folder are only described by it."""
        size_bytes, index_end = self._path.stat().st_size, self.probe.index_end
        truncation = missing_bytes(self._path)
        # Reported only if nothing else does: a truncated file lacks what its index lists, too.
        index_problem = ""
        if index_end > size_bytes and not truncation:
            index_problem = (
                f"its index knows pictures up to byte {index_end:,}, the file has {size_bytes:,}"
            )
        problems = (
            truncation,
            index_problem,
            self._tally.demuxer_errors.summary,
            str(self._missing_duration() or ""),
            unread_bytes(self.probe.container, size_bytes, self._tally),
        )
        return "; ".join(filter(None, problems))

    def _missing_duration(self) -> MissingDuration | None:
        return missing_duration(self.probe.header_file_seconds, self._tally)

    def _probe_with_promised_end(self) -> Probe:
        """The probe with the best known length of the film, for gaps at the end.

        If the header states no length of the film and the file is cut, its length of the file is
        taken. Where the clock jumps, no length is comparable.
        """
        if self._tally.clock_jumps:
            return replace(self.probe, header_seconds=None)
        missing = self._missing_duration()
        if self.probe.header_seconds is None and missing:
            return replace(self.probe, header_seconds=missing.wanted_seconds)
        return self.probe

    def _frames_declared(self) -> int | None:
        header_frames = self.probe.header_frames
        if header_frames is None:
            return None
        return max(0, header_frames - self._tally.discarded_packets)

    def _frames_lost(self, decoded: int) -> int:
        declared = self._frames_declared()
        if declared is not None:
            return max(0, declared - decoded)
        if not self._is_damaged:
            # Some codecs hold packets that are never shown: their number alone shows no loss.
            return 0
        shown_packets = self._tally.packets - self._tally.discarded_packets
        return max(0, shown_packets - decoded)

    def _end_seconds(self) -> float:
        last = self._timing.last
        duration = self._last_frame_seconds()
        if last is None or duration is None:
            status = failure_status("bad_timestamps", "its only frame has no duration")
            raise VideoError(self._video_id, status)
        return last.pts_seconds + duration

    def _last_frame_seconds(self) -> float | None:
        last = self._timing.last
        own_duration = None if last is None else last.duration_seconds
        known = own_duration or self._timing.step_seconds
        if known:
            return known
        rate = self.probe.header_frames_per_second
        return 1 / rate if rate else None
