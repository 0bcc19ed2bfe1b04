"""Boxes of Detectron2's R-CNN as tensor functions: anchors, deltas, proposals, persons, pooling.

Source: facebookresearch/detectron2 at its published test settings. Where torchvision's own detector
differs (anchors rounded, ROIAlign not aligned and with two samples a bin, levels chosen with
another epsilon, tiny boxes dropped) this follows Detectron2.

Letters: N boxes, each (x1, y1, x2, y2) in pixels of the resized picture; C channels; H, W of a map.
Functions take one picture, except `pool_boxes`, which takes B pictures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, roi_align

ANCHOR_SIZES = (32, 64, 128, 256, 512)
ANCHOR_STRIDES = (4, 8, 16, 32, 64)
ASPECT_RATIOS = (0.5, 1.0, 2.0)
POOLED_STRIDES = (4, 8, 16, 32)
PROPOSAL_NMS_THRESHOLD = 0.7
PROPOSALS_PER_LEVEL = 1000
PROPOSALS = 1000
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
MAX_LOG_SCALE = math.log(1000 / 16)
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4


def cell_anchors(size: int) -> Tensor:
    """The `(3, 4)` anchors of one cell around (0, 0), one per aspect ratio (height / width)."""
    anchors = []
    for ratio in ASPECT_RATIOS:
        width = math.sqrt(size**2 / ratio)
        height = ratio * width
        anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(anchors)


def grid_anchors(height: int, width: int, level: int) -> Tensor:
    """`(H * W * 3, 4)` anchors of pyramid level p2 + `level`, by row, column and aspect ratio."""
    stride = ANCHOR_STRIDES[level]
    ys, xs = torch.meshgrid(
        torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij"
    )
    shifts = torch.stack((xs, ys, xs, ys), dim=-1).reshape(-1, 1, 4).float()
    return (shifts + cell_anchors(ANCHOR_SIZES[level])).reshape(-1, 4)


def anchors_on(device: torch.device, height: int, width: int, level: int) -> Tensor:
    """`grid_anchors` on a device, computed once for all pictures of a size."""
    anchors = _cached_anchors(device, height, width, level)
    if anchors.is_cuda:
        # Another stream may have made them: their memory must not be reused before this stream has
        # read them.
        anchors.record_stream(torch.cuda.current_stream(anchors.device))
    return anchors


@functools.lru_cache(maxsize=64)
def _cached_anchors(device: torch.device, height: int, width: int, level: int) -> Tensor:
    # Inference tensors could not be used by a later caller that trains.
    with torch.inference_mode(False):
        return grid_anchors(height, width, level).to(device)


def apply_deltas(
    deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]
) -> Tensor:
    """`(N, 4)` corrections (dx, dy, dw, dh), divided by `weights`, applied to `(N, 4)` boxes."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sizes
    shift = deltas[:, :2] / deltas.new_tensor(weights[:2])
    log_scale = (deltas[:, 2:] / deltas.new_tensor(weights[2:])).clamp(max=MAX_LOG_SCALE)
    # The clamp above keeps a wild prediction from overflowing in exp.
    new_centres = shift * sizes + centres
    new_sizes = log_scale.exp() * sizes
    return torch.cat((new_centres - 0.5 * new_sizes, new_centres + 0.5 * new_sizes), dim=1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut to a picture of `size` (height, width)."""
    height, width = size
    return torch.stack(
        (
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ),
        dim=1,
    )


def is_nonempty(boxes: Tensor) -> Tensor:
    """Which of the boxes have a width and a height above 0."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def best_proposals(
    logits: Sequence[Tensor], deltas: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    """At most 1000 boxes that may hold an object, best first.

    `logits` (3, H, W) and `deltas` (12, H, W) are those of each pyramid level, p2 to p6. The 1000
    best of each level are clipped to the picture of `size` (height, width), and suppressed within
    their level.
    """
    boxes, scores, levels = [], [], []
    for level, (level_logits, level_deltas) in enumerate(zip(logits, deltas, strict=True)):
        per_cell, height, width = level_logits.shape
        # Both in the order of `grid_anchors`: row, column, aspect ratio.
        flat_logits = level_logits.permute(1, 2, 0).flatten()  # (H * W * 3,)
        by_anchor = level_deltas.view(per_cell, 4, height, width).permute(2, 3, 0, 1)
        flat_deltas = by_anchor.reshape(-1, 4)  # (H * W * 3, 4)
        anchors = anchors_on(flat_deltas.device, height, width, level)
        moved = apply_deltas(flat_deltas, anchors, (1.0, 1.0, 1.0, 1.0))
        best, order = flat_logits.topk(min(len(flat_logits), PROPOSALS_PER_LEVEL))
        boxes.append(moved[order])
        scores.append(best)
        levels.append(torch.full_like(order, level))
    all_boxes, all_scores, all_levels = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    # Before clipping, which would turn an infinite corner into a corner of the picture.
    finite = all_boxes.isfinite().all(dim=1) & all_scores.isfinite()
    clipped = clip_boxes(all_boxes, size)
    kept = finite & is_nonempty(clipped)
    clipped, all_scores, all_levels = clipped[kept], all_scores[kept], all_levels[kept]
    best_first = batched_nms(clipped, all_scores, all_levels, PROPOSAL_NMS_THRESHOLD)
    return clipped[best_first[:PROPOSALS]]


def best_persons(
    boxes: Tensor,
    probabilities: Tensor,
    size: tuple[int, int],
    *,
    score_threshold: float,
    nms_threshold: float,
) -> tuple[Tensor, Tensor]:
    """`(N, 4)` boxes and `(N,)` probabilities → the persons, clipped to the picture, best first."""
    finite = boxes.isfinite().all(dim=1) & probabilities.isfinite()
    kept = finite & (probabilities > score_threshold)
    clipped, scores = clip_boxes(boxes[kept], size), probabilities[kept]
    # There is one class, but Detectron2 calls batched_nms, and nms rounds differently.
    order = batched_nms(clipped, scores, torch.zeros_like(scores, dtype=torch.int64), nms_threshold)
    return clipped[order], scores[order]


def pyramid_levels(boxes: Tensor) -> Tensor:
    """The level that each box is pooled from, 0 to 3 for p2 to p5 (equation 1 of FPN)."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(CANONICAL_LEVEL + torch.log2(areas.sqrt() / CANONICAL_SIZE + 1e-8))
    return level.clamp(2, 5).to(torch.int64) - 2


def pool_boxes(maps: Sequence[Tensor], boxes: Sequence[Tensor], side: int) -> Tensor:
    """ROIAlign of `(B, C, H, W)` maps p2 to p5 under each picture's `(N, 4)` boxes.

    Gives `(sum of N, C, side, side)`. Aligned, with as many samples in a bin as it has cells.
    """
    # (sum of N, 5): the picture's number, as roi_align expects it, then the box.
    rois = torch.cat(
        [
            functional.pad(of_picture, (1, 0), value=float(picture))
            for picture, of_picture in enumerate(boxes)
        ]
    )
    pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], side, side)
    levels = pyramid_levels(rois[:, 1:])
    for level, stride in enumerate(POOLED_STRIDES):
        chosen = (levels == level).nonzero()[:, 0]
        pooled[chosen] = roi_align(
            maps[level], rois[chosen], side, 1 / stride, sampling_ratio=0, aligned=True
        )
    return pooled
