"""PLD-VHD's loss: distinction maps against pseudo-labels from highlights and saliency.

Source: the PLD-VHD paper (CVPR 2022), eq. 1 to 5. Reads `distinctions` of
`models/highlight/generic/pld_vhd.py` by name, and the saliency maps from the batch.

Letters in shapes: those of `contract.py`; H and W pixels of a distinction map, h and w values of a
saliency map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.highlight.base.contract import Batch, Scores
from trainer.base.targets import Targets

BETA = 5e-4
"""β of eq. 4, on the raw sigmoid map: far below 1/255, the smallest step of a saved image."""
SALIENCY = "tased/saliency"


def pld_vhd(
    scores: Scores,
    batch: Batch,
    targets: Targets,
    *,
    spatial: bool = True,
    beta: float = BETA,
    saliency: str = SALIENCY,
) -> Tensor:
    """Mean squared error over the pixels of a map (eq. 2 and 5), averaged over a batch's positions.

    `spatial=False` is "w/o spatial" of tables 4 and 5 (eq. 1) and reads no saliency. `saliency` is
    the array key in the batch; ValueError if the batch lacks it.
    """
    maps = scores.parts["distinctions"][batch.mask]
    positive = targets.positive[batch.mask]
    if spatial:
        if saliency not in batch.features:
            raise ValueError(
                f"the batch has no {saliency}, but {', '.join(batch.features)}; "
                "add it to data.arrays, or set spatial = false"
            )
        saliency_maps = batch.features[saliency][batch.mask]
        labels = distinction_labels(positive, saliency_maps, map_size(maps), beta=beta)
    else:
        labels = positive[:, None, None].expand_as(maps)
    if not len(maps):
        return maps.sum()  # 0 with a gradient: the mean of nothing would be NaN
    return (maps - labels.to(maps.dtype)).square().mean()


def distinction_labels(
    positive: Tensor, saliency: Tensor, size: tuple[int, int], *, beta: float = BETA
) -> Tensor:
    """Highlights `(N,)` bool and saliency `(N, h, w)` → `(N, H, W)` bool: eq. 4.

    Positions outside highlights are false everywhere: borderline segments (label 0 of YouTube
    Highlights, section 4.1.1) and positions without annotation. Saliency is resized to H×W before
    the comparison with β, bilinearly with antialiasing (ours; the paper's maps and frames have one
    size). ValueError for a β outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(
            f"beta must be at least 0 and below 1, as the raw saliency maps are; got {beta}"
        )
    if saliency.ndim != 3:
        raise ValueError(f"saliency must have shape (N, h, w), got {tuple(saliency.shape)}")
    resized = functional.interpolate(
        saliency[:, None].float(), size, mode="bilinear", align_corners=False, antialias=True
    )
    return (resized[:, 0] > beta) & positive[:, None, None]


def map_size(maps: Tensor) -> tuple[int, int]:
    """H and W of maps `(..., H, W)`."""
    return int(maps.shape[-2]), int(maps.shape[-1])


def intersection_over_union(predicted: Tensor, actual: Tensor) -> Tensor:
    """IoU of masks, `(N, H, W)` bool twice → `(N,)` float32; 1 where both masks are empty."""
    intersection = (predicted & actual).sum((1, 2)).float()
    union = (predicted | actual).sum((1, 2)).float()
    return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
