"""Heatmaps of one picture's persons → keypoints, and the features under them.

Source: `heatmaps_to_keypoints` of facebookresearch/detectron2, whose score is a softmax value
normalised by the 56×56 grid (torchvision's is the raw logit).

Letters: N persons, K = 17 keypoints; boxes and keypoints in pixels of the resized picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def decode_keypoints(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """`(N, K, 56, 56)` logits over `(N, 4)` boxes → `(N, K, 3)` x, y, score.

    A keypoint is the centre of the highest pixel, after bicubic enlargement to the box's size.
    """
    keypoints = heatmaps.new_zeros(len(boxes), heatmaps.shape[1], 3)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # (N, 2) width, height
    whole_sizes = sizes.ceil()
    pixel_sizes = sizes / whole_sizes
    # Person by person: each heatmap is enlarged to another size.
    for person, (width, height) in enumerate(whole_sizes.long().tolist()):
        enlarged = functional.interpolate(
            heatmaps[[person]], (height, width), mode="bicubic", align_corners=False
        )
        flat = enlarged[0].flatten(1)  # (K, height * width)
        highest = flat.amax(dim=1)  # (K,)
        index = flat.argmax(dim=1)  # (K,)
        column_row = torch.stack((index % width, index // width), dim=1)  # (K, 2)
        keypoints[person, :, :2] = (column_row + 0.5) * pixel_sizes[person] + boxes[person, :2]
        # The score is a softmax over the small grid: exp(highest - highest), which is 1, over this.
        total = (heatmaps[person] - highest[:, None, None]).exp().sum((1, 2))
        keypoints[person, :, 2] = 1 / total
    return keypoints


def features_at_keypoints(maps: Tensor, keypoints: Tensor, boxes: Tensor) -> Tensor:
    """`(N, C, 14, 14)` maps over the boxes, read bilinearly at `(N, K, 2 or more)` → `(N, K, C)`.

    Cell i of a map covers `[i, i + 1)` fourteenths of its box, and its value stands in the middle,
    as ROIAlign made it; beyond the outermost middles their value holds.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    offsets = keypoints[..., :2] - boxes[:, None, :2]
    shares = offsets / sizes[:, None]  # (N, K, 2), 0 to 1 within the box
    grid = (2 * shares - 1)[:, :, None]  # (N, K, 1, 2), the layout of grid_sample
    read = functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return read[..., 0].transpose(1, 2)  # (N, C, K, 1) → (N, K, C)
