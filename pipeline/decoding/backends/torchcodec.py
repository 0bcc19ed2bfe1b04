"""Frames by torchcodec, which uses the system's FFmpeg libraries.

It stops at the first damage, so every frame is checked and PyAV takes over. A decoder process needs
700 MB with it, because it imports torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.fallback import ReaderFailed, WholeFileReader, guarded_frames
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally
from pipeline.media.probe import Probe
from storage.base.errors import SystemicFault


def torchcodec_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by torchcodec while they match the packets, then by PyAV."""
    return guarded_frames(path, probed, tally, _Reader)


class _Reader(WholeFileReader):
    library = "torchcodec"

    def __init__(self, path: Path, probed: Probe) -> None:
        decoder = load_decoder()
        try:
            # One thread, as several workers decode in parallel.
            frames = decoder(
                str(path.absolute()),
                stream_index=probed.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
            )
        except (RuntimeError, ValueError) as error:
            raise ReaderFailed("torchcodec cannot open it") from error
        super().__init__(frames, (RuntimeError, IndexError))

    def read(self, index: int) -> tuple[Frame, float | None]:
        frame = self.frames.get_frame_at(index)
        return np.asarray(frame.data.numpy(), np.uint8), frame.pts_seconds


@functools.cache
def load_decoder() -> Any:
    """torchcodec's decoder class. Raises SystemicFault if it or its FFmpeg is missing."""
    try:
        from torchcodec.decoders import VideoDecoder  # takes seconds and 700 MB
    except (ImportError, OSError, RuntimeError) as error:
        raise _unloadable(error) from error
    try:
        # FFmpeg is searched for when the first decoder is made, not at import.
        VideoDecoder(b"")
    except (RuntimeError, ValueError) as error:
        if "libtorchcodec" in str(error):
            raise _unloadable(error) from error
    return VideoDecoder


def _unloadable(error: BaseException) -> SystemicFault:
    return SystemicFault(
        f"[decode] backend torchcodec cannot be loaded: {first_line(error)}. It needs FFmpeg's "
        "shared libraries (apt-get install ffmpeg); or set backend = pyav, which has its own"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the library's own traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
