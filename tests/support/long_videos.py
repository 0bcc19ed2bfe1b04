"""Videos of any number of frames for next to nothing: one encoded picture, written as often as
there are frames.
"""

from __future__ import annotations

import functools
import io
import itertools
import re

import av
import numpy as np


@functools.lru_cache(maxsize=1)
def _picture() -> tuple[bytes, bytes]:
    """One H.264 key picture of 64x48, and the header that decodes it."""
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        options = {"crf": "45", "x264-params": "keyint=1:repeat-headers=0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, dtype=np.uint8), format="rgb24")
        packets = [*stream.encode(frame), *stream.encode(None)]
        extradata = stream.codec_context.extradata
        assert extradata is not None
        return _without_notes(bytes(packets[0])), extradata


def _without_notes(packet: bytes) -> bytes:
    """The packet without what the encoder tells of itself (NAL units of type 6), which is most of
    it.
    """
    units = [unit for unit in re.split(rb"\x00{2,3}\x01", packet) if unit]
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units if unit[0] & 31 != 6)


def video_of(n_frames: int, seconds: float) -> bytes:
    """An MP4 with so many frames, evenly over so many seconds; some 60 bytes a frame."""
    picture, header = _picture()
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.extradata = header
        container.start_encoding()
        base = stream.time_base
        assert base is not None
        at = [round(number * seconds / n_frames / base) for number in range(n_frames + 1)]
        for start, end in itertools.pairwise(at):
            packet = av.Packet(picture)
            packet.stream, packet.time_base = stream, base
            packet.pts = packet.dts = start
            packet.duration = end - start
            packet.is_keyframe = True
            container.mux(packet)
    return file.getvalue()
