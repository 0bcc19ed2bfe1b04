"""YOLOv5's pre- and postprocessing: letterbox, non-maximum suppression, boxes scaled back.

Source: `letterbox`, `non_max_suppression` and `scale_boxes` of ultralytics/yolov5 at v5.0 and v7.0,
and of the ultralytics package.

Letters: B pictures, N boxes. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torchvision.ops import nms

from models.extractors.base.contract import Frame
from models.extractors.base.inference import resize_bilinear
from models.extractors.base.resizing_extractor import resize_like_opencv
from models.extractors.yolov5.settings import STRIDE_PIXELS

PADDING_VALUE = 114
MAX_CANDIDATES = 30_000
CLASS_OFFSET_PIXELS = {"v5.0": 4096, "v7.0": 7680, "u": 7680}
"""Boxes of class k are moved by k times this before suppression, so that classes do not overlap.

It is part of the result: a large offset leaves fewer bits for the box.
"""

Size = tuple[int, int]


def _gain(frame_size: Size, input_size: Size) -> float:
    return min(input_size[0] / frame_size[0], input_size[1] / frame_size[1])


def _scaled(frame_size: Size, gain: float) -> Size:
    """In whole pixels, at least one per side."""
    # The original releases fail on a frame so thin that a side would have no pixel.
    return max(round(frame_size[0] * gain), 1), max(round(frame_size[1] * gain), 1)


def letterbox(frame: Frame, input_pixels: int) -> NDArray[np.uint8]:
    """`(H, W, 3)` uint8 → a picture whose longer side is `input_pixels`.

    Resized as OpenCV does by default, then padded with grey on both sides to multiples of 32.
    """
    size = (frame.shape[0], frame.shape[1])
    height, width = _inner_size(size, input_pixels)
    if size != (height, width):
        frame = resize_like_opencv(frame, height, width)
    pads = (*_paddings(height, width, input_pixels), (0, 0))
    return np.pad(frame, pads, constant_values=PADDING_VALUE)


def letterbox_on_device(frames: Tensor, input_pixels: int) -> Tensor:
    """The same for `(N, 3, H, W)` uint8 on a device.

    Differs by up to one step of 255, because torch rounds otherwise than OpenCV.
    """
    height, width = _inner_size((frames.shape[2], frames.shape[3]), input_pixels)
    (top, bottom), (left, right) = _paddings(height, width, input_pixels)
    return pad(
        resize_bilinear(frames, height, width), (left, right, top, bottom), value=PADDING_VALUE
    )


def _inner_size(size: Size, input_pixels: int) -> Size:
    return _scaled(size, _gain(size, (input_pixels, input_pixels)))


def _paddings(
    height: int, width: int, input_pixels: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, bottom) and (left, right), up to the next multiple of 32."""
    vertical = (input_pixels - height) % STRIDE_PIXELS
    horizontal = (input_pixels - width) % STRIDE_PIXELS
    return _halves(vertical), _halves(horizontal)


def _halves(pixels: int) -> tuple[int, int]:
    """An odd pixel goes to the end."""
    return pixels // 2, pixels - pixels // 2


@dataclass(frozen=True)
class NmsSettings:
    """Settings of non-maximum suppression."""

    score_threshold: float
    nms_threshold: float
    class_offset: float
    limit: int
    """Most detections of a picture, the best ones."""


def best_detections(boxes: Tensor, scores: Tensor, settings: NmsSettings) -> list[Tensor]:
    """`(B, N, 4)` boxes x, y, width, height and `(B, N, classes)` scores → detections.

    Each picture's are `(n, 6)`: x1, y1, x2, y2, score, class. A box counts only for its best class.
    """
    best_scores, classes = scores.max(2)  # (B, N) each
    picture, box = (best_scores > settings.score_threshold).nonzero(as_tuple=True)
    kept = boxes[picture, box]
    centres, halves = kept[:, :2], kept[:, 2:] / 2
    score = best_scores[picture, box, None]
    class_number = classes[picture, box, None].to(boxes.dtype)
    candidates = torch.cat((centres - halves, centres + halves, score, class_number), 1)
    # `nonzero` goes picture by picture, so a split by counts gives each picture its own.
    counts = torch.bincount(picture, minlength=len(boxes)).tolist()
    return [_suppress(of_picture, settings) for of_picture in torch.split(candidates, counts)]


def mark_not_finite(detections: Sequence[Tensor], *outputs: Tensor) -> list[Tensor]:
    """Each picture's detections; a single one of NaN if its `(B, ...)` outputs are not finite.

    Thresholds and suppression drop such boxes silently: a picture that a broken network saw would
    look like an empty one.
    """
    finite = torch.stack([output.flatten(1).isfinite().all(1) for output in outputs]).all(0)
    marked = []
    for of_picture, is_finite in zip(detections, finite.tolist(), strict=True):
        marked.append(of_picture if is_finite else of_picture.new_full((1, 6), torch.nan))
    return marked


def _suppress(candidates: Tensor, settings: NmsSettings) -> Tensor:
    # Stable, so that equal scores keep the order of places on every device.
    best_first = candidates[:, 4].argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    candidates = candidates[best_first]
    # One call for all classes: the offset keeps boxes of different classes apart.
    moved = candidates[:, :4] + candidates[:, 5:] * settings.class_offset
    return candidates[nms(moved, candidates[:, 4], settings.nms_threshold)[: settings.limit]]


def to_frame(detections: Tensor, input_size: Size, frame_size: Size) -> Tensor:
    """`(n, 6)` detections in pixels of the padded picture → in pixels of the frame, clipped to it.

    The original releases undo the ideal scale and half the padding, not the whole pixels that
    `letterbox` rounded to.
    """
    gain = _gain(frame_size, input_size)
    pads = tuple(
        (inside - outside * gain) / 2
        for inside, outside in zip(input_size, frame_size, strict=True)
    )
    return _unscale(detections, pads, (gain, gain), frame_size)


def to_frame_by_rounded_size(detections: Tensor, input_size: Size, frame_size: Size) -> Tensor:
    """The same, but undoes the whole pixels of `letterbox`, as the ultralytics package does."""
    scaled = _scaled(frame_size, _gain(frame_size, input_size))
    gains = (scaled[0] / frame_size[0], scaled[1] / frame_size[1])
    pads = tuple(
        (inside - outside) // 2 for inside, outside in zip(input_size, scaled, strict=True)
    )
    return _unscale(detections, pads, gains, frame_size)


def _unscale(
    detections: Tensor, pads: tuple[float, ...], gains: tuple[float, float], frame_size: Size
) -> Tensor:
    out = detections.clone()
    for axis in (0, 1):  # y, x
        columns = slice(1 - axis, 4 - axis, 2)
        out[:, columns] = ((out[:, columns] - pads[axis]) / gains[axis]).clamp(0, frame_size[axis])
    return out
