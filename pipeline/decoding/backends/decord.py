"""Frames by decord 0.6, to compare with features that were made with it.

Its last release is from 2021, with an FFmpeg of that time. It loses the times of streams that start
late, repeats or shifts pictures of transport streams, and rescales pictures that change size. It is
therefore used only for files that it reads correctly, and every frame is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from av.video.frame import VideoFrame

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.fallback import ReaderFailed, WholeFileReader, guarded_frames
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally
from pipeline.media.container.streams import open_container
from pipeline.media.probe import Probe
from storage.base.errors import SystemicFault

CONTAINERS = ("mov", "matroska", "flv")
PIXEL_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p")
"""Formats that were measured to be bit-equal; 10-bit pictures differ by up to 192 levels."""


def decord_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by decord while they match the packets, then by PyAV."""
    return guarded_frames(path, probed, tally, _Reader)


class _Reader(WholeFileReader):
    library = "decord"

    def __init__(self, path: Path, probed: Probe) -> None:
        if probed.container not in CONTAINERS or probed.pixel_format not in PIXEL_FORMATS:
            raise ReaderFailed(f"decord is wrong about {probed.pixel_format} in {probed.container}")
        _check_pictures(path, probed)
        decord, decord_error = load()
        try:
            # One thread, as several workers decode in parallel.
            frames = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1)
        except decord_error as error:
            raise ReaderFailed("decord cannot open it") from error
        super().__init__(frames, (decord_error, StopIteration))

    def read(self, index: int) -> tuple[Frame, float | None]:
        return np.asarray(self.frames.next().asnumpy(), np.uint8), None


def _check_pictures(path: Path, probed: Probe) -> None:
    """Raise ReaderFailed if decord would take another stream, or rescale pictures.

    decord chooses the stream itself, and gives every picture the size of the first. The key frames
    show all sizes there are.
    """
    try:
        with open_container(path, probed.container) as container:
            best = container.streams.best("video")
            if best is None or best.index != probed.stream_index:
                raise ReaderFailed("decord takes another stream")
            best.codec_context.skip_frame = "NONKEY"
            sizes = {
                (picture.width, picture.height)
                for picture in container.decode(best)
                if isinstance(picture, VideoFrame)
            }
    except av.error.FFmpegError as error:
        raise ReaderFailed("key frames that do not decode") from error
    if len(sizes) != 1:
        raise ReaderFailed(f"pictures of {len(sizes)} sizes")


def load() -> tuple[Any, type[Exception]]:
    """The library and its error class. Raises SystemicFault if it is not installed."""
    try:
        import decord
        from decord._ffi.base import DECORDError
    except (ImportError, OSError) as error:
        raise SystemicFault(
            f"[decode] backend decord cannot be loaded: {error}. It exists for Linux on x86-64 "
            "only; set backend = pyav"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord, DECORDError
