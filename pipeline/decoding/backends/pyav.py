"""Frames by PyAV: packet by packet, continuing after damage, in one thread.

The reference for all other backends, and their fallback. PyAV's wheel contains its own FFmpeg.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar

import av.filter
import av.video.frame
import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import Frame
from models.extractors.base.yuv import Planes, to_rgb
from pipeline.decoding.backends.frame import DecodedFrame
from pipeline.media.container.packets import Tally, av_frames
from pipeline.media.container.streams import open_container, video_stream_at
from pipeline.media.probe import Probe


class Converter:
    """Converts decoded pictures to rgb24 as `ffmpeg -pix_fmt rgb24` writes it.

    Uses a filter graph, as ffmpeg does: PyAV's own `reformat` gives other pixels for 10-bit
    and interlaced pictures (up to 107 and 255 levels off), and costs the same.
    """

    def __init__(self) -> None:
        self._kind: tuple[object, ...] = ()
        self._graph = av.filter.Graph()

    def __call__(self, picture: av.video.frame.VideoFrame) -> NDArray[np.uint8]:
        """Pixels as stored, `(H, W, 3)`, in FFmpeg's memory, which lives as long as the array."""
        kind = _kind(picture)
        if kind != self._kind:
            self._kind, self._graph = kind, _graph_for(picture)
        self._graph.vpush(picture)
        rgb = self._graph.vpull()
        height, width = rgb.height, rgb.width
        # FFmpeg pads each line to an aligned length.
        lines = np.frombuffer(memoryview(rgb.planes[0]), np.uint8).reshape(height, -1)
        return lines[:, : 3 * width].reshape(height, width, 3)


def _graph_for(picture: av.video.frame.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    # Several workers decode in parallel already.
    graph.threads = 1
    base = picture.time_base or Fraction(1, av.time_base)
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, name="in", time_base=base
    )
    filters = [graph.add("scale", "flags=bicubic"), graph.add("format", "pix_fmts=rgb24")]
    if picture.format.name == "nv12":
        # A GPU's order of the same numbers. It is changed into the usual one first, because
        # swscale converts each order with different code.
        filters = [graph.add("scale"), graph.add("format", "pix_fmts=yuv420p"), *filters]
    graph.link_nodes(source, *filters, graph.add("buffersink")).configure()
    return graph


def turn_upright(pixels: NDArray[np.uint8], signs: tuple[int, int, int, int]) -> Frame:
    """Apply a display matrix's signs (a, b, c, d) to pixels `(H, W, 3)`, as autorotate does."""
    a, b, c, d = signs
    if a == 0:
        pixels = pixels.transpose(1, 0, 2)
    if -1 in (a, c):
        pixels = pixels[:, ::-1]
    if -1 in (b, d):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _upright_rgb(
    converter: Converter, picture: av.video.frame.VideoFrame, signs: tuple[int, int, int, int]
) -> Frame:
    return turn_upright(converter(picture), signs)


MATRICES = {1: "709", 2: "601", 5: "601", 6: "601"}
"""FFmpeg's number of a colour space → its name in `models.extractors.base.yuv`.

2 is unknown, which swscale treats as 601.
"""
RANGES = {0: False, 1: False, 2: True}
"""FFmpeg's number of a colour range → whether luma is 0 to 255; 0 is unknown."""
AS_STORED = (1, 0, 0, 1)


class PlanesReader:
    """Returns the YUV planes of pictures whose RGB `models.extractors.base.yuv` computes exactly.

    This is checked on the first picture of each kind in a process, because FFmpeg may use other
    code on another processor.
    """

    exact: ClassVar[dict[tuple[object, ...], bool]] = {}
    """Kind of picture → whether RGB from planes is bit-equal to FFmpeg's."""

    def __init__(self, converter: Converter, display_matrix: tuple[int, int, int, int]) -> None:
        self._converter = converter
        self._display_matrix = display_matrix
        self._pixels = np.empty((0, 0), np.uint8)

    def __call__(self, picture: av.video.frame.VideoFrame) -> Planes | None:
        """The planes, or None if RGB must be used. Valid until the next call."""
        if self._display_matrix != AS_STORED or not _has_known_planes(picture):
            return None
        shape = (picture.height * 3 // 2, picture.width)
        if self._pixels.shape != shape:
            # Reused from picture to picture: new memory costs as much as filling it.
            self._pixels = np.empty(shape, np.uint8)
        _copy_planes(picture, self._pixels)
        planes = Planes(self._pixels, MATRICES[picture.colorspace], RANGES[picture.color_range])
        kind = _kind(picture)
        if kind not in self.exact:
            self.exact[kind] = bool(np.array_equal(to_rgb(planes), self._converter(picture)))
        return planes if self.exact[kind] else None


def _has_known_planes(picture: av.video.frame.VideoFrame) -> bool:
    if picture.format.name != "yuv420p" or picture.width % 2 or picture.height % 2:
        return False
    if picture.interlaced_frame:
        return False  # its chroma belongs to every second line
    return picture.colorspace in MATRICES and picture.color_range in RANGES


def _kind(picture: av.video.frame.VideoFrame) -> tuple[object, ...]:
    """What decides which code converts a picture."""
    return (
        picture.width,
        picture.height,
        picture.format.name,
        picture.colorspace,
        picture.color_range,
    )


def _copy_planes(picture: av.video.frame.VideoFrame, pixels: NDArray[np.uint8]) -> None:
    """Copy the planes one below the other into `pixels`, as `to_ndarray` returns them."""
    height, width = picture.height, picture.width
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    flat, start = pixels.reshape(-1), 0
    for plane, (rows, columns) in zip(picture.planes, sizes, strict=True):
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        end = start + rows * columns
        flat[start:end].reshape(rows, columns)[...] = stored[:rows, :columns]
        start = end


def _time(picture: av.video.frame.VideoFrame) -> int | None:
    return picture.dts if picture.pts is None else picture.pts


def _decoding_time(picture: av.video.frame.VideoFrame, last: int | None) -> int | None:
    """The decoding time of the packet that made the decoder return this picture.

    Pictures that come after the last packet get the times that would follow.
    """
    if picture.dts is not None:
        return picture.dts
    return picture.pts if last is None else last + (picture.duration or 1)


def pyav_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Every frame that FFmpeg can decode and that has a time; those without a time are counted.

    AVI stores decoding times only. They become the frames' times, as in ffmpeg: steps are correct,
    and all frames may be late by the same few. Times that libraries derive from them where B-frames
    are reordered are not trusted.
    """
    converter, display_matrix = Converter(), probed.display_matrix
    planes_reader = PlanesReader(converter, display_matrix)
    is_turned = display_matrix[0] == 0
    clock = probed.clock
    index, last = 0, None
    with open_container(path, probed.container, tally.demuxer_errors) as container:
        stream = video_stream_at(container, probed.stream_index)
        for picture in av_frames(container, stream, tally):
            ticks = _decoding_time(picture, last) if probed.container == "avi" else _time(picture)
            last = ticks
            # A frame without a time can be in no window.
            if ticks is None:
                tally.timeless_frames += 1
                continue
            yield DecodedFrame(
                index=index,
                pts_seconds=clock.at(ticks),
                duration_seconds=clock.lasts(picture.duration) if picture.duration else None,
                width=picture.height if is_turned else picture.width,
                height=picture.width if is_turned else picture.height,
                to_rgb=partial(_upright_rgb, converter, picture, display_matrix),
                to_planes=partial(planes_reader, picture),
            )
            index += 1
