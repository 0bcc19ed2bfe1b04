"""Frames by NVDEC, the decoder of NVIDIA GPUs, through PyAV.

It is used only for pixel formats that it decodes bit for bit, and every frame is checked. Pictures
are copied back and converted on the CPU, like PyAV's own. NVDEC conceals damage inside a picture
without reporting it: for files that may be damaged, choose pyav.
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
"""It returns this format as nv12: the same numbers in another order."""


def nvdec_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Frames by NVDEC while they match the packets, then by PyAV."""
    return guarded_frames(path, probed, tally, _Reader)


class _Reader:
    count = None

    def __init__(self, path: Path, probed: Probe) -> None:
        if probed.pixel_format != PIXEL_FORMAT:
            raise ReaderFailed(f"NVDEC's pictures are not those of {probed.pixel_format}")
        only = {"protocol_whitelist": "file", "format_whitelist": probed.container}
        # With a fallback, FFmpeg would decode on the CPU without a word.
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
                f"[decode] backend nvdec cannot be used: {error}. It needs an NVIDIA GPU and its "
                "driver's libnvcuvid; set backend = pyav"
            ) from error
        stream = container.streams[probed.stream_index]
        if not isinstance(stream, av.video.stream.VideoStream):
            raise ReaderFailed(f"NVDEC does not decode {probed.codec}")
        if not stream.codec_context.is_hwaccel:
            raise ReaderFailed(f"NVDEC does not decode {probed.codec}")
        self._context = stream.codec_context
        self._frames = container.decode(stream)
        self._tick_seconds = probed.time_base[0] / probed.time_base[1]
        self._display_matrix = probed.display_matrix
        self._converter = Converter()

    def next(self) -> tuple[Frame, float | None]:
        try:
            picture = next(self._frames, None)
        except (av.error.FFmpegError, RuntimeError) as error:
            raise ReaderFailed(f"NVDEC: {error}") from error
        if not isinstance(picture, VideoFrame):
            raise ReaderFailed("NVDEC gives no further frame")
        seconds = None if picture.pts is None else picture.pts * self._tick_seconds
        # A picture that is copied back from a GPU has lost these.
        picture.colorspace = self._context.colorspace
        picture.color_range = self._context.color_range
        return turn_upright(self._converter(picture), self._display_matrix), seconds
