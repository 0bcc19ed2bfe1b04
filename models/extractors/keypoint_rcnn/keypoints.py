"""Heatmaps of one picture's persons → joints, and the features that lie under them.

Source: `heatmaps_to_keypoints` of facebookresearch/detectron2, whose score is a softmax value
normalised by the 56×56 grid (torchvision's is the raw logit). Refuses to know networks.

Letters: N persons, K = 17 joints; boxes and joints in pixels of the resized picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def decode_keypoints(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """`(N, K, 56, 56)` logits over `(N, 4)` boxes → `(N, K, 3)` x, y, score: the highest pixel,
    bicubic, its centre.
    """
    joints = heatmaps.new_zeros(len(boxes), heatmaps.shape[1], 3)
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # (N, 2) width, height
    whole = sizes.ceil()
    steps = sizes / whole
    for person, (width, height) in enumerate(whole.long().tolist()):
        enlarged = functional.interpolate(
            heatmaps[[person]], (height, width), mode="bicubic", align_corners=False
        )
        highest = enlarged[0].flatten(1).amax(dim=1)  # (K,)
        place = enlarged[0].flatten(1).argmax(dim=1)  # (K,)
        total = (heatmaps[person] - highest[:, None, None]).exp().sum((1, 2))
        place_xy = torch.stack((place % width, place // width), dim=1)  # (K, 2)
        joints[person, :, :2] = (place_xy + 0.5) * steps[person] + boxes[person, :2]
        joints[person, :, 2] = 1 / total  # exp(highest - highest) over the grid's sum
    return joints


def features_at_keypoints(maps: Tensor, joints: Tensor, boxes: Tensor) -> Tensor:
    """`(N, C, 14, 14)` maps over the boxes, read bilinearly at `(N, K, 2 or more)` joints → `(N, K,
    C)`.

    Cell i of a map covers `[i, i + 1)` fourteenths of its box, and its value stands in the middle,
    as ROIAlign made it; beyond the outer middles the outermost value holds.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    places = (joints[..., :2] - boxes[:, None, :2]) / sizes[
        :, None
    ]  # (N, K, 2), 0 to 1 within the box
    grid = (2 * places - 1)[:, :, None]  # (N, K, 1, 2), as grid_sample wants it
    read = functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return read[..., 0].transpose(1, 2)  # (N, C, K, 1) → (N, K, C)
