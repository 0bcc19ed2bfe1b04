"""Parts of a video, one after the other, as a new file: the reel of its highlights.

Pictures are encoded anew (H.264), so that a cut falls where it is asked for and not on the next key frame; sound comes
along where the video has it (AAC). Times are those of features: seconds on the stream's own clock, which need not begin
at 0. Refuses to know why these parts were chosen.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av.error
import ffmpeg
import imageio_ffmpeg

from pipeline.media.container_formats import sniff
from pipeline.media.packet_counts import count
from pipeline.media.probe import choose_stream, open_container
from storage.atomic import adopt, temporary_beside
from storage.errors import SettingsError, SystemicFault, VideoError
from storage.verdicts import failed

Parts = Sequence[tuple[float, float]]
COMPLAINT_LINES = 3
_OPTIONS = {"f": "mp4", "c:v": "libx264", "crf": 20, "preset": "veryfast", "pix_fmt": "yuv420p", "fps_mode": "vfr"}


def cut_reel(video: Path, parts: Parts, into: Path) -> None:
    """Write `parts` of `video`, `[start, end)` seconds in their order, as an mp4 at `into`; whole or not at all.

    SettingsError if `into` is there, or parts are none or outside the video; VideoError if that is none we open;
    SystemicFault, with ffmpeg's own words, if that fails.
    """
    if into.exists():
        raise SettingsError((f"{into} is there already; remove it, or name another file for the reel",))
    if not parts or any(not start < end for start, end in parts):
        raise SettingsError((f"a reel has one part or more, each longer than nothing; got {list(parts)}",))
    if into.suffix.lower() != ".mp4":
        raise SettingsError((f"a reel is an .mp4 file, got {into.name}",))
    container, streams = _streams(video)
    into.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(into)
    try:
        joined = ffmpeg.output(*_cut(video, container, streams, parts), str(temporary), **_OPTIONS)
        # The clock of the stream itself, and not one that begins at the first packet of any stream.
        _run(joined.global_args("-copyts"))
        if not count(temporary).packets:
            raise SettingsError((f"{video} shows nothing in {list(parts)} seconds",))
        adopt(temporary, into)
    finally:
        temporary.unlink(missing_ok=True)


def _streams(video: Path) -> tuple[str, tuple[int, ...]]:
    """The container, and the numbers of the streams that go into the reel: pictures, and sound if there is any."""
    container = sniff(video)
    if container is None:
        raise VideoError(video.stem, failed("not_a_video", "it begins like no container that we open"))
    try:
        with open_container(video, container) as opened:
            # A stream's number is gone once its file is closed.
            chosen = [choose_stream(opened), *opened.streams.audio[:1]]
            numbers = tuple(stream.index for stream in chosen if stream is not None)
    except av.error.FFmpegError as error:
        raise VideoError(video.stem, failed("unreadable", str(error.strerror))) from error
    if chosen[0] is None:
        raise VideoError(video.stem, failed("no_video_stream", ""))
    return container, numbers


def _cut(video: Path, container: str, streams: tuple[int, ...], parts: Parts) -> list[Any]:
    """The streams of the reel, as ffmpeg-python writes graphs."""
    # Exactly this demuxer and this file, as everywhere: a playlist that poses as a video is not followed.
    source = ffmpeg.input(f"file:{video.absolute()}", f=container, protocol_whitelist="file")
    pieces = []
    for start, end in parts:
        pictures = source[str(streams[0])].filter("trim", start=start, end=end).filter("setpts", "PTS-STARTPTS")
        # H.264 with half as many colours wants even sides.
        pieces.append(pictures.filter("pad", "ceil(iw/2)*2", "ceil(ih/2)*2"))
        if len(streams) > 1:
            sound = source[str(streams[1])].filter("atrim", start=start, end=end)
            pieces.append(sound.filter("asetpts", "PTS-STARTPTS"))
    joined = ffmpeg.concat(*pieces, v=1, a=len(streams) - 1).node
    return [joined[number] for number in range(len(streams))]


def _run(stream: Any) -> None:
    command = ffmpeg.compile(stream, cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True)
    options = [command[0], "-nostdin", "-hide_banner", "-loglevel", "error", *command[1:]]
    done = subprocess.run(options, capture_output=True, check=False)
    if done.returncode != 0:
        complaint = "\n".join(done.stderr.decode(errors="replace").splitlines()[:COMPLAINT_LINES])
        raise SystemicFault(f"ffmpeg ended with status {done.returncode} while cutting the reel: {complaint}")
