"""Frames by NVDEC, the decoder on an NVIDIA GPU, through PyAV; under guard, and only for what it
decodes to the bit.

Pictures come back to the processor and are converted there, as PyAV's own are. NVDEC hides what is
damaged inside a picture in its own way, and does not tell: where files may be damaged, pyav is the
one to choose. Refuses to know packets and times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import av.video.stream
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

from models.extractors.base.contract import Frame
from pipeline.decoding.backends.fallback import ReaderFailed, guarded_frames
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.decoding.backends.pyav import Converter, turn_upright
from pipeline.media.container.packets import Tally
from pipeline.media.probe import Probe
from storage.base.errors import SystemicFault

PIXEL_FORMAT = "yuv420p"
"""What it gives back as nv12 is then the same numbers in another order. Others are left to PyAV."""


def nvdec_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by NVDEC as long as it gives what the packets promise, then by PyAV."""
    return guarded_frames(path, probed, tally, _Reader)


class _Reader:
    count = None

    def __init__(self, path: Path, probed: Probe) -> None:
        if probed.pixel_format != PIXEL_FORMAT:
            raise ReaderFailed(f"NVDEC's pictures are not those of {probed.pixel_format}")
        only = {"protocol_whitelist": "file", "format_whitelist": probed.container}
        hardware = HWAccel(device_type="cuda", allow_software_fallback=False)
        try:
            container = av.open(
                f"file:{path.absolute()}",
                format=probed.container,
                options=only,
                metadata_errors="replace",
                hwaccel=hardware,
            )
        except (av.error.FFmpegError, RuntimeError) as error:
            raise SystemicFault(
                f"[decode] backend nvdec cannot be used: {error}. It needs an NVIDIA GPU and its driver's libnvcuvid; "
                "set backend = pyav"
            ) from error
        stream = container.streams[probed.stream_index]
        if (
            not isinstance(stream, av.video.stream.VideoStream)
            or not stream.codec_context.is_hwaccel
        ):
            raise ReaderFailed(f"NVDEC does not decode {probed.codec}")
        self._context = stream.codec_context
        self._frames = container.decode(stream)
        self._seconds = probed.time_base[0] / probed.time_base[1]
        self._signs = probed.display_matrix
        self._converter = Converter()

    def next(self) -> tuple[Frame, float | None]:
        try:
            picture = next(self._frames, None)
        except (av.error.FFmpegError, RuntimeError) as error:
            raise ReaderFailed(f"NVDEC: {error}") from error
        if not isinstance(picture, VideoFrame):
            raise ReaderFailed("NVDEC gives no further frame")
        said = None if picture.pts is None else picture.pts * self._seconds
        picture.colorspace = (
            self._context.colorspace
        )  # what is brought back from a GPU leaves these behind
        picture.color_range = self._context.color_range
        return turn_upright(self._converter(picture), self._signs), said
