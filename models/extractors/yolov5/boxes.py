"""What YOLOv5's releases do around the network: frames made small and padded, boxes chosen and
brought back.

Source: `letterbox`, `non_max_suppression` and `scale_boxes` of ultralytics/yolov5 at v5.0 and v7.0,
and of the ultralytics package. Refuses to know networks and weights.

Letters: B pictures, N boxes. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import nms

from models.extractors.base.contract import Frame
from models.extractors.base.inference import resize_bilinear
from models.extractors.yolov5.settings import STRIDE_PIXELS

PADDING_VALUE = 114
MAX_CANDIDATES = 30_000
CLASS_OFFSET_PIXELS = {"v5.0": 4096, "v7.0": 7680, "u": 7680}
"""Boxes of class k are moved by k times this before suppression, so that no two classes meet. It is
part of the result: a large offset leaves fewer bits for the box.
"""

Size = tuple[int, int]


def _gain(frame_size: Size, input_size: Size) -> float:
    return min(input_size[0] / frame_size[0], input_size[1] / frame_size[1])


def _scaled(frame_size: Size, gain: float) -> Size:
    """In whole pixels, at least one: the original releases fail on a frame so thin that a side
    would vanish.
    """
    return max(round(frame_size[0] * gain), 1), max(round(frame_size[1] * gain), 1)


def letterbox(frame: Frame, input_pixels: int) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8 → its longer side `input_pixels`, as OpenCV resizes by default, padded with
    grey to sides that are multiples of 32, half on each side.
    """
    size = (frame.shape[0], frame.shape[1])
    height, width = _inner_size(size, input_pixels)
    if size != (height, width):
        frame = np.asarray(
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8
        )
    pads = (
        _halves((input_pixels - height) % STRIDE_PIXELS),
        _halves((input_pixels - width) % STRIDE_PIXELS),
        (0, 0),
    )
    return np.pad(frame, pads, constant_values=PADDING_VALUE)


def letterbox_on_device(frames: Tensor, input_pixels: int) -> Tensor:
    """The same for `(N, 3, H, W)` uint8 on a device, up to one step of 255 where torch rounds
    otherwise than OpenCV.
    """
    height, width = _inner_size((frames.shape[2], frames.shape[3]), input_pixels)
    top, bottom = _halves((input_pixels - height) % STRIDE_PIXELS)
    left, right = _halves((input_pixels - width) % STRIDE_PIXELS)
    return pad(
        resize_bilinear(frames, height, width), (left, right, top, bottom), value=PADDING_VALUE
    )


def _inner_size(size: Size, input_pixels: int) -> Size:
    return _scaled(size, _gain(size, (input_pixels, input_pixels)))


def _halves(pixels: int) -> tuple[int, int]:
    """An odd pixel goes to the end."""
    return pixels // 2, pixels - pixels // 2


@dataclass(frozen=True)
class NmsSettings:
    """Which boxes are detections."""

    score_threshold: float
    nms_threshold: float
    class_offset: float
    limit: int
    """So many of a picture, at most, best first."""


def best_detections(boxes: Tensor, scores: Tensor, choice: NmsSettings) -> list[Tensor]:
    """`(B, N, 4)` boxes x, y, width, height and `(B, N, classes)` scores → of each picture `(n,
    6)`: x1, y1, x2, y2, score, class. Each box stands for its best class alone.
    """
    best, classes = scores.max(2)
    picture, place = (best > choice.score_threshold).nonzero(as_tuple=True)
    kept, score = boxes[picture, place], best[picture, place, None]
    centres, halves = kept[:, :2], kept[:, 2:] / 2
    found = torch.cat(
        (centres - halves, centres + halves, score, classes[picture, place, None].to(boxes.dtype)),
        1,
    )
    counts = torch.bincount(picture, minlength=len(boxes)).tolist()
    return [_unsuppressed(some, choice) for some in torch.split(found, counts)]


def unknown_where_not_finite(detections: Sequence[Tensor], *outputs: Tensor) -> list[Tensor]:
    """Each picture's detections; a single one, no number in it, where the network's own `(B, ...)`
    outputs hold what is no number.

    Thresholds and suppression drop such boxes silently: a picture that a broken network saw would
    look like an empty one.
    """
    finite = torch.stack([output.flatten(1).isfinite().all(1) for output in outputs]).all(0)
    pairs = zip(detections, finite.tolist(), strict=True)
    return [found if is_finite else found.new_full((1, 6), torch.nan) for found, is_finite in pairs]


def _unsuppressed(found: Tensor, choice: NmsSettings) -> Tensor:
    found = found[found[:, 4].argsort(descending=True, stable=True)[:MAX_CANDIDATES]]
    moved = found[:, :4] + found[:, 5:] * choice.class_offset
    return found[nms(moved, found[:, 4], choice.nms_threshold)[: choice.limit]]


def to_frame(found: Tensor, input_size: Size, frame_size: Size) -> Tensor:
    """`(n, 6)` detections in pixels of the padded picture → in pixels of the frame, cut to it.

    The original releases undo the ideal scale and half the padding, not the whole pixels that
    `letterbox` rounded to.
    """
    gain = _gain(frame_size, input_size)
    pads = tuple(
        (inside - outside * gain) / 2
        for inside, outside in zip(input_size, frame_size, strict=True)
    )
    return _unscaled(found, pads, (gain, gain), frame_size)


def to_frame_by_rounded_size(found: Tensor, input_size: Size, frame_size: Size) -> Tensor:
    """The same, undoing the whole pixels that `letterbox` rounded to, as the ultralytics package
    does.
    """
    scaled = _scaled(frame_size, _gain(frame_size, input_size))
    gains = (scaled[0] / frame_size[0], scaled[1] / frame_size[1])
    pads = tuple(
        (inside - outside) // 2 for inside, outside in zip(input_size, scaled, strict=True)
    )
    return _unscaled(found, pads, gains, frame_size)


def _unscaled(
    found: Tensor, pads: tuple[float, ...], gains: tuple[float, float], frame_size: Size
) -> Tensor:
    out = found.clone()
    for axis in (0, 1):  # y, x
        columns = slice(1 - axis, 4 - axis, 2)
        out[:, columns] = ((out[:, columns] - pads[axis]) / gains[axis]).clamp(0, frame_size[axis])
    return out
