"""Frames by PyAV: packet by packet, past damage, one thread. The reference of the other backends,
and their rescue.

Refuses to know samplings, rows and processes. PyAV's wheel brings its own FFmpeg.
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
    """Decoded pictures → rgb24 as `ffmpeg -pix_fmt rgb24` writes it.

    Through a filter graph, as ffmpeg does it: PyAV's own `reformat` gives other pixels for 10-bit
    and interlaced pictures (up to 107 and 255 levels off), and costs the same.
    """

    def __init__(self) -> None:
        self._kind: tuple[object, ...] = ()
        self._graph = av.filter.Graph()

    def __call__(self, picture: av.video.frame.VideoFrame) -> NDArray[np.uint8]:
        """Pixels as stored, `(H, W, 3)`; they lie where FFmpeg wrote them, for as long as the array
        is held.
        """
        kind = _kind(picture)
        if kind != self._kind:
            self._kind, self._graph = kind, _graph_for(picture)
        self._graph.vpush(picture)
        made = self._graph.vpull()
        rows = np.frombuffer(memoryview(made.planes[0]), np.uint8).reshape(made.height, -1)
        return rows[:, : 3 * made.width].reshape(made.height, made.width, 3)


def _graph_for(picture: av.video.frame.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    base = picture.time_base or Fraction(1, av.time_base)
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, name="in", time_base=base
    )
    scale, rgb = graph.add("scale", "flags=bicubic"), graph.add("format", "pix_fmts=rgb24")
    # A GPU's order of the same numbers: brought into the usual one, for swscale converts each by
    # code of its own.
    planar = (
        [graph.add("scale"), graph.add("format", "pix_fmts=yuv420p")]
        if picture.format.name == "nv12"
        else []
    )
    graph.link_nodes(source, *planar, scale, rgb, graph.add("buffersink")).configure()
    return graph


def turn_upright(pixels: NDArray[np.uint8], signs: tuple[int, int, int, int]) -> Frame:
    """Apply a display matrix's signs (a, b, c, d) to stored pixels `(H, W, 3)`, as FFmpeg's
    autorotate does.
    """
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
"""FFmpeg's numbers of colour spaces (2 is unknown: 601 to swscale) → names of
`models.extractors.base.yuv`.
"""
RANGES = {0: False, 1: False, 2: True}
"""FFmpeg's numbers of colour ranges → whether luma is 0 to 255; 0 is unknown."""
AS_STORED = (1, 0, 0, 1)


class Planar:
    """Decoded pictures → their planes, where this FFmpeg makes of them what
    `models.extractors.base.yuv` says.

    That is checked on the first picture of each kind in a process: on another processor FFmpeg may
    compute by other code.
    """

    exact: ClassVar[dict[tuple[object, ...], bool]] = {}

    def __init__(self, converter: Converter, signs: tuple[int, int, int, int]) -> None:
        self._converter = converter
        self._signs = signs
        self._pixels = np.empty((0, 0), np.uint8)

    def __call__(self, picture: av.video.frame.VideoFrame) -> Planes | None:
        """None where RGB has to do. Valid until the next picture's are asked for: memory that is
        fresh for each picture costs as much as filling it.
        """
        kind = _kind(picture)
        even = picture.width % 2 == picture.height % 2 == 0
        known = picture.colorspace in MATRICES and picture.color_range in RANGES
        if not (even and known and picture.format.name == "yuv420p" and self._signs == AS_STORED):
            return None
        if picture.interlaced_frame:  # its chroma belongs to every second line
            return None
        shape = (picture.height * 3 // 2, picture.width)
        if self._pixels.shape != shape:
            self._pixels = np.empty(shape, np.uint8)
        _fill(self._pixels, picture)
        planes = Planes(self._pixels, MATRICES[picture.colorspace], RANGES[picture.color_range])
        if kind not in self.exact:
            self.exact[kind] = bool(np.array_equal(to_rgb(planes), self._converter(picture)))
        return planes if self.exact[kind] else None


def _kind(picture: av.video.frame.VideoFrame) -> tuple[object, ...]:
    """Pictures of one kind are converted by the same code."""
    return (
        picture.width,
        picture.height,
        picture.format.name,
        picture.colorspace,
        picture.color_range,
    )


def _fill(pixels: NDArray[np.uint8], picture: av.video.frame.VideoFrame) -> None:
    """Planes one below the other, as `to_ndarray` gives them, into memory that is there."""
    height, width = picture.height, picture.width
    flat, start = pixels.reshape(-1), 0
    for plane, (rows, columns) in zip(
        picture.planes, ((height, width), *[(height // 2, width // 2)] * 2), strict=True
    ):
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        flat[start : start + rows * columns].reshape(rows, columns)[...] = stored[:rows, :columns]
        start += rows * columns


def _time(picture: av.video.frame.VideoFrame) -> int | None:
    return picture.dts if picture.pts is None else picture.pts


def _decoding_time(picture: av.video.frame.VideoFrame, last: int | None) -> int | None:
    """That of the packet that let the picture out; of those that come when all packets were read,
    the next.
    """
    if picture.dts is not None:
        return picture.dts
    return picture.pts if last is None else last + (picture.duration or 1)


def pyav_frames(path: Path, probed: Probe, tally: Tally) -> Iterator[DecodedFrame]:
    """Every frame FFmpeg can give that has a time; those without one are counted.

    Where a container stores decoding times only (AVI), those give the frames' times, as in ffmpeg:
    steps are right, and all frames may be late by the same few. What libraries make of them where
    B-frames are reordered is not believed.
    """
    converter, signs = Converter(), probed.display_matrix
    planar = Planar(converter, signs)
    turned = signs[0] == 0
    clock = probed.clock
    index, last = 0, None
    with open_container(path, probed.container, tally.demuxer_errors) as container:
        for picture in av_frames(container, video_stream_at(container, probed.stream_index), tally):
            ticks = _decoding_time(picture, last) if probed.container == "avi" else _time(picture)
            last = ticks
            if ticks is None:
                tally.timeless_frames += 1
                continue
            yield DecodedFrame(
                index=index,
                pts_seconds=clock.at(ticks),
                duration_seconds=clock.lasts(picture.duration) if picture.duration else None,
                width=picture.height if turned else picture.width,
                height=picture.width if turned else picture.height,
                to_rgb=partial(_upright_rgb, converter, picture, signs),
                to_planes=partial(planar, picture),
            )
            index += 1
