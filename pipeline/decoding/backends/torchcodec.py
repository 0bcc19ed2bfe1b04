"""Frames by torchcodec, over the system's FFmpeg libraries; under guard, since it stops at the
first damage.

Costs a child 700 MB, for it brings torch. Refuses to know packets and times: those are the guard's.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.fallback import ReaderFailed, guarded_frames
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally
from pipeline.media.probe import Probe
from storage.base.errors import SystemicFault


def torchcodec_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by torchcodec as long as it gives what the packets promise, then by PyAV."""
    return guarded_frames(path, probed, tally, _Reader)


class _Reader:
    def __init__(self, path: Path, probed: Probe) -> None:
        decoder = load_decoder()
        try:
            self._frames = decoder(
                str(path.absolute()),
                stream_index=probed.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
            )
        except (RuntimeError, ValueError) as error:
            raise ReaderFailed("torchcodec cannot open it") from error
        self._next = 0

    @property
    def count(self) -> int:
        return len(self._frames)

    def next(self) -> tuple[Frame, float | None]:
        try:
            frame = self._frames.get_frame_at(self._next)
        except (RuntimeError, IndexError) as error:
            raise ReaderFailed(f"torchcodec gives no frame {self._next}") from error
        self._next += 1
        return np.asarray(frame.data.numpy(), np.uint8), frame.pts_seconds


@functools.cache
def load_decoder() -> Any:
    """The class that decodes. Raises SystemicFault where torchcodec, or the FFmpeg it needs, is
    missing.
    """
    try:
        from torchcodec.decoders import VideoDecoder  # seconds, and 700 MB
    except (ImportError, OSError, RuntimeError) as error:
        raise _unloadable(error) from error
    try:
        VideoDecoder(b"")  # FFmpeg is looked for when the first decoder is made, not at import
    except (RuntimeError, ValueError) as error:
        if "libtorchcodec" in str(error):
            raise _unloadable(error) from error
    return VideoDecoder


def _unloadable(error: BaseException) -> SystemicFault:
    return SystemicFault(
        f"[decode] backend torchcodec cannot be loaded: {first_line(error)}. It needs FFmpeg's shared libraries "
        "(apt-get install ffmpeg); or set backend = pyav, which brings its own"
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without the library's own traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
