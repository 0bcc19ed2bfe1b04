"""Cuts parts of a video and joins them to a new file: the reel of its highlights.

Pictures are encoded again (H.264), so that a cut need not fall on a key frame; sound comes along if
the video has it (AAC). Times are those of features and of players: seconds since the container's
start.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av.error
import ffmpeg
import imageio_ffmpeg

from pipeline.media.container.clock import container_start
from pipeline.media.container.container_formats import sniff
from pipeline.media.container.packet_counts import count_packets
from pipeline.media.container.streams import choose_stream, open_container
from storage.base.errors import SettingsError, SystemicFault, VideoError
from storage.base.video_status import failure_status
from storage.files.atomic_write import publish_file, temporary_beside
from storage.files.os_errors import disk_fault

Parts = Sequence[tuple[float, float]]
MESSAGE_LINES = 3
_OPTIONS = {
    "f": "mp4",
    "c:v": "libx264",
    "crf": 20,
    "preset": "veryfast",
    "pix_fmt": "yuv420p",
    # Frames keep their times; a constant rate would repeat or drop some.
    "fps_mode": "vfr",
}


def cut_reel(video: Path, parts: Parts, into: Path) -> None:
    """Write `parts` of `video` as an mp4 at `into`; complete or not at all.

    Args:
        video: the file to cut.
        parts: `[start, end)` in seconds since the container's start.
        into: a file that does not exist yet.

    Raises:
        SettingsError: `into` exists, or `parts` is empty or outside the video.
        VideoError: `video` is not a video we open.
        SystemicFault: ffmpeg failed; the message holds its own words.
    """
    check_place(into)
    if not parts or any(not start < end for start, end in parts):
        raise SettingsError(
            (f"a reel has one part or more, each longer than nothing; got {list(parts)}",)
        )
    source = _source(video)
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_fault(error, into.parent) from error
    temporary = temporary_beside(into.absolute())
    try:
        # With the prefix ffmpeg does not take a colon in a name for a protocol, or a leading dash
        # for an option.
        joined = ffmpeg.output(*_cut(source, parts), f"file:{temporary}", **_OPTIONS)
        # Keep the streams' own clocks: `_cut` adds what they show at the container's start.
        _run(joined.global_args("-copyts"))
        if not count_packets(temporary).packets:
            raise SettingsError((f"{video} shows nothing in {list(parts)} seconds",))
        publish_file(temporary, into.absolute())
    finally:
        temporary.unlink(missing_ok=True)


def check_place(into: Path) -> None:
    """Raise SettingsError unless a reel can be written to `into`, an .mp4 that does not exist."""
    fault = _fault_of_place(into)
    if fault:
        raise SettingsError((fault,))


def _fault_of_place(into: Path) -> str:
    if into.exists() or into.is_symlink():
        return f"{into} is there already; remove it, or name another file for the reel"
    if into.suffix.lower() != ".mp4":
        return f"a reel is an .mp4 file, got {into.name}"
    nearest = next(folder for folder in into.absolute().parents if folder.exists())
    if nearest.is_dir():
        return ""
    return f"{nearest} is not a folder, so {into} cannot be written; name another file for the reel"


@dataclass(frozen=True)
class _Source:
    """What of a file goes into a reel."""

    video: Path
    container: str
    streams: tuple[int, ...]
    """Indices of streams: pictures, and sound if there is any."""
    origin_seconds: float
    """What the streams' clocks show when the container starts."""


def _source(video: Path) -> _Source:
    container = sniff(video)
    if container is None:
        detail = "it begins like no container that we open"
        raise VideoError(video.stem, failure_status("not_a_video", detail))
    try:
        with open_container(video, container) as opened:
            pictures = choose_stream(opened, video)
            if pictures is None:
                raise VideoError(video.stem, failure_status("no_video_stream", ""))
            # A stream's index is gone once its file is closed.
            indices = [stream.index for stream in (pictures, *opened.streams.audio[:1])]
            # Parts count from the container's start, filters from the streams' own zero.
            origin_seconds = float(container_start(opened) or 0)
    except av.error.FFmpegError as error:
        raise VideoError(video.stem, failure_status("unreadable", str(error.strerror))) from error
    return _Source(video, container, tuple(indices), origin_seconds)


def _cut(source: _Source, parts: Parts) -> list[Any]:
    """The streams of the reel, as ffmpeg-python writes graphs."""
    # Exactly this demuxer and this file, as everywhere: a playlist that poses as a video is not
    # followed.
    file = ffmpeg.input(
        f"file:{source.video.absolute()}", f=source.container, protocol_whitelist="file"
    )
    pictures, *sounds = [file[str(index)] for index in source.streams]
    pieces = []
    for part in parts:
        # Digits and a point: ffmpeg reads 1e-05 as one second.
        start, end = (f"{seconds + source.origin_seconds:.6f}" for seconds in part)
        trimmed = pictures.filter("trim", start=start, end=end).filter("setpts", "PTS-STARTPTS")
        # H.264 with half as many colours wants even sides.
        pieces.append(trimmed.filter("pad", "ceil(iw/2)*2", "ceil(ih/2)*2"))
        for sound in sounds:
            trimmed = sound.filter("atrim", start=start, end=end)
            pieces.append(trimmed.filter("asetpts", "PTS-STARTPTS"))
    joined = ffmpeg.concat(*pieces, v=1, a=len(sounds)).node
    return [joined[number] for number in range(len(source.streams))]


def _run(stream: Any) -> None:
    command = ffmpeg.compile(stream, cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True)
    # ffmpeg would otherwise read our standard input, and print its banner to stderr.
    options = [command[0], "-nostdin", "-hide_banner", "-loglevel", "error", *command[1:]]
    done = subprocess.run(options, capture_output=True, check=False)
    if done.returncode == 0:
        return
    lines = done.stderr.decode(errors="replace").splitlines()
    message = "\n".join(lines[:MESSAGE_LINES])
    raise SystemicFault(
        f"ffmpeg ended with status {done.returncode} while cutting the reel: {message}"
    )
