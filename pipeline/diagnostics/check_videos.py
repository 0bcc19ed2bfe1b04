"""Decodes files whole, before anything is built, and says what is wrong or unusual with each.

The decoder is that of a build, in its sandbox and with its limits, so the verdicts are the same.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.decoding.events import DecodeEnd
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.video_quality import frame_loss, stream_choice
from pipeline.media.container.picture_facts import PictureFacts
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.media_file import accepted_suffix
from pipeline.media.probe import Probe
from storage.base.errors import VideoError
from storage.base.fingerprint import to_json_value
from storage.base.video_status import failure_status

ODD_RATE_SHARE = 0.02
"""Share by which frames a second of the header and of the pictures may differ."""
FEWEST_FRAMES = 16
"""A clip of C3D; a shorter video gives it no row."""


@dataclass(frozen=True)
class VideoCheck:
    """What is known of one file."""

    path: Path
    problem: str = ""
    """Why a build would reject it: state, reason and detail. Empty if it can be read."""
    damage: str = ""
    """What is lost in it."""
    oddities: tuple[str, ...] = ()
    description: str = ""
    """Container, codec, size, frames a second and length."""

    @property
    def verdict(self) -> str:
        """`unreadable`, `damaged`, `odd` or `fine`."""
        if self.problem:
            return "unreadable"
        if self.damage:
            return "damaged"
        return "odd" if self.oddities else "fine"

    def details(self) -> Iterator[str]:
        """Everything that is known of the file, one sentence each."""
        yield from filter(None, (self.problem, self.damage, *self.oddities, self.description))


def check_videos(
    paths: Sequence[Path], limits: DecodeLimits, decoders: int = 1
) -> Iterator[VideoCheck]:
    """One check for each file, in the order in which they end.

    Raises SystemicFault if no decoder can start.
    """
    free: queue.SimpleQueue[SubprocessDecoder] = queue.SimpleQueue()
    with ExitStack() as stack, ThreadPoolExecutor(decoders) as threads:
        for _ in range(decoders):
            free.put(stack.enter_context(SubprocessDecoder(limits=limits)))

        def check(path: Path) -> VideoCheck:
            decoder = free.get()
            try:
                return _check_video(path, decoder)
            finally:
                free.put(decoder)

        waiting = [threads.submit(check, path) for path in paths]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _check_video(path: Path, decoder: SubprocessDecoder) -> VideoCheck:
    try:
        if not path.is_file():
            raise VideoError(path.name, failure_status("not_found", "there is no such file"))
        accepted_suffix(path, path.name)
        *_, end = decoder.decode("video", path, [])
    except VideoError as error:
        return VideoCheck(path, problem=str(error.status))
    if not isinstance(end, DecodeEnd):
        raise TypeError(f"the last event of a video is its end, got {type(end).__name__}")
    facts = {"probe": to_json_value(end.probe), "decode": to_json_value(end.summary)}
    return VideoCheck(
        path,
        damage=frame_loss(facts),
        oddities=tuple(_oddities(end, stream_choice(facts))),
        description=_describe(end),
    )


def _oddities(end: DecodeEnd, streams: str) -> Iterator[str]:
    if streams:
        yield streams
    if end.probe.display_matrix not in ((1, 0, 0, 1), None):
        yield "it is stored turned, and is shown upright"
    picture = end.probe.picture
    if picture is not None:
        yield from _picture_oddities(picture)
    if _has_uneven_frames(end):
        yield "its frames are not evenly spaced; rows have the times of the frames themselves"
    if end.summary.frames_decoded < FEWEST_FRAMES:
        yield f"it has {end.summary.frames_decoded} frames; a clip of C3D needs {FEWEST_FRAMES}"


def _picture_oddities(picture: PictureFacts) -> Iterator[str]:
    if picture.field_order not in ("progressive", "unknown", "", None):
        yield f"it is interlaced ({picture.field_order})"
    if picture.sample_aspect_ratio not in ((1, 1), (0, 1), None):
        across, down = picture.sample_aspect_ratio
        yield f"its pixels are not square ({across}:{down})"


def _has_uneven_frames(end: DecodeEnd) -> bool:
    rate = end.probe.header_frames_per_second
    measured = frames_per_second(end)
    return bool(rate and measured and abs(measured / rate - 1) > ODD_RATE_SHARE)


def frames_per_second(end: DecodeEnd) -> float | None:
    """Decoded frames over the seconds they cover; None for a single picture."""
    first, last = end.summary.first_pts_seconds, end.summary.end_seconds
    is_single = end.summary.frames_decoded < 2
    if is_single or last <= first:
        return None
    return end.summary.frames_decoded / (last - first)


def _describe(end: DecodeEnd) -> str:
    probe: Probe = end.probe
    rate = frames_per_second(end)
    shown_rate = "one picture" if rate is None else f"{rate:.2f} frames/s"
    return (
        f"{probe.container} {probe.codec} {probe.width}x{probe.height}, {shown_rate}, "
        f"{end.summary.covered_seconds:.2f} s"
    )
