"""PLD-VHD's loss: maps against pseudo-labels made of highlights and saliency.

Source: the PLD-VHD paper (CVPR 2022), eq. 1 to 5. Reads `distinctions` of
`models/highlight/generic/pld_vhd.py` by name, and the saliency from the batch. Refuses to know how
either was made.

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
"""β of eq. 4, on the raw sigmoid map: far below the smallest step of a saved picture, 1/255."""
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
    """Mean squared error over a map's pixels (eq. 2 and 5), and the mean of that over the positions
    of a batch.

    `spatial=False` is "w/o spatial" of tables 4 and 5 (eq. 1) and reads no saliency. `saliency` is
    the batch's key; ValueError if the batch lacks it.
    """
    maps = scores.parts["distinctions"][batch.mask]
    positive = targets.positive[batch.mask]
    if spatial:
        if saliency not in batch.features:
            raise ValueError(
                f"the batch has no {saliency}, but {', '.join(batch.features)}; or set spatial = false"
            )
        wanted = distinction_labels(
            positive, batch.features[saliency][batch.mask], map_size(maps), beta=beta
        )
    else:
        wanted = positive[:, None, None].expand_as(maps)
    return (maps - wanted.to(maps.dtype)).square().mean() if len(maps) else maps.sum()


def distinction_labels(
    positive: Tensor, saliency: Tensor, size: tuple[int, int], *, beta: float = BETA
) -> Tensor:
    """`(N,)` bool and `(N, h, w)` → `(N, H, W)` bool: eq. 4 in highlights, false everywhere outside
    them.

    A borderline segment (label 0 of YouTube Highlights) is no highlight (section 4.1.1), and so are
    positions that nobody marked. Saliency is brought to H×W first and compared with β after:
    bilinearly, and where it shrinks averaged over what a pixel covers (ours; the paper's maps and
    frames have one size). ValueError for a β outside [0, 1).
    """
    if not 0 <= beta < 1:
        raise ValueError(
            f"beta is 0 to below 1, on the raw map of the saliency network; got {beta}"
        )
    if saliency.ndim != 3:
        raise ValueError(f"saliency is (N, h, w), got {tuple(saliency.shape)}")
    resized = functional.interpolate(
        saliency[:, None].float(), size, mode="bilinear", align_corners=False, antialias=True
    )
    return (resized[:, 0] > beta) & positive[:, None, None]


def map_size(maps: Tensor) -> tuple[int, int]:
    """H and W of `(..., H, W)`."""
    return int(maps.shape[-2]), int(maps.shape[-1])


def intersection_over_union(found: Tensor, wanted: Tensor) -> Tensor:
    """`(N, H, W)` bool twice → `(N,)` float32: how well a map covers an object; 1 where both are
    empty.
    """
    shared = (found & wanted).sum((1, 2)).float()
    either = (found | wanted).sum((1, 2)).float()
    return torch.where(either > 0, shared / either.clamp(min=1), 1.0)
