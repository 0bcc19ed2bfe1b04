"""ST-GCN: graph convolutions over skeletons in time, and the partitions of COCO's skeleton.

Source: S. Yan, Y. Xiong, D. Lin, "Spatial Temporal Graph Convolutional Networks for Skeleton-Based
Action Recognition", AAAI 2018, and its release (yysijie/st-gcn), whose unit this is, extended by a
mask of positions.

Letters: N skeletons, T positions, V keypoints, K partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.masking import MaskedBatchNorm
from models.highlight.base.skeleton import BONES

COCO_LINKS = tuple((KEYPOINTS.index(one), KEYPOINTS.index(other)) for one, other in BONES)

COCO_CENTER = (KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("right_shoulder"))
"""Ours: the shoulders, because COCO lacks the neck, the centre of the release's graphs."""

_TRUNK = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_hip right_hip"
)
_CHAINS = (
    _TRUNK,
    *(f"{side}_shoulder {side}_elbow {side}_wrist" for side in ("left", "right")),
    *(f"{side}_hip {side}_knee {side}_ankle" for side in ("left", "right")),
)
COCO_CHAINS = tuple(tuple(map(KEYPOINTS.index, chain.split())) for chain in _CHAINS)
"""Trunk, two arms, two legs. Ours: their keypoints; a limb includes its joint of the trunk."""


def spatial_partition(
    keypoints: int,
    links: Sequence[tuple[int, int]],
    center: Sequence[int],
    *,
    farthest: int | None = None,
) -> NDArray[np.float64]:
    """`(3, V, V)`: the weights between keypoints, by distance from the (nearest) centre.

    Entry `[k, j, i]` is the weight of keypoint j for keypoint i: 1 / (number of i's neighbours,
    itself included), in the one of three partitions that holds the pair: i itself (0); j at least
    as far from the centre as i (1); j nearer (2). This is the paper's rule. The release treats all
    distances above 1 as equal, so it only distinguishes links of the centre and of its neighbours;
    `farthest=1` gives its numbers.
    """
    adjacent = np.eye(keypoints, dtype=bool)
    for a, b in links:
        adjacent[a, b] = adjacent[b, a] = True
    share = adjacent / adjacent.sum(0)  # columns sum to 1
    distance = _hops(adjacent, center)
    if farthest is not None:
        distance = np.where(distance > farthest, np.inf, distance)
    itself = np.eye(keypoints, dtype=bool)
    nearer = distance[:, None] < distance[None, :]
    return np.stack([share * itself, share * (~itself & ~nearer), share * (~itself & nearer)])


def _hops(adjacent: NDArray[np.bool_], center: Sequence[int]) -> NDArray[np.float64]:
    """`(V,)`: links between each keypoint and the nearest centre."""
    distance = np.full(len(adjacent), np.inf)
    reached = np.isin(np.arange(len(adjacent)), center)
    for hops in range(len(adjacent)):
        distance[reached & np.isinf(distance)] = hops
        reached = adjacent @ reached
    return distance


class STGCNUnit(nn.Module):
    """Graph convolution, then convolution in time, with norms and a residual; T does not change.

    `partition` is `(K, V, V)`. The release's `edge_importance` belongs to each unit here: a factor
    for each entry, beginning at 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        partition: Tensor,
        *,
        kernel: int = 9,
        residual: bool = True,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("partition", partition, persistent=False)
        self.importance = nn.Parameter(torch.ones_like(partition))
        self.spatial = nn.Conv2d(inputs, outputs * len(partition), 1)
        self.spatial_norm = MaskedBatchNorm(outputs)
        self.temporal = nn.Conv2d(outputs, outputs, (kernel, 1), padding=(kernel // 2, 0))
        self.temporal_norm = MaskedBatchNorm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual
        changes = residual and inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if changes else None
        self.shortcut_norm = MaskedBatchNorm(outputs) if changes else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, inputs, T, V)`, zero outside the mask `(N, T)` → `(N, outputs, T, V)`, likewise."""
        shortcut = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            shortcut = self.shortcut_norm(self.shortcut(x), mask)
        weights = self.get_buffer("partition") * self.importance
        x = self.spatial(x)  # (N, K * outputs, T, V)
        x = x.reshape(len(x), len(weights), x.shape[1] // len(weights), *x.shape[2:])
        # Each keypoint v gives to w by the weights of their partition k.
        x = torch.relu(self.spatial_norm(torch.einsum("nkctv,kvw->nctw", x, weights), mask))
        x = self.dropout(self.temporal_norm(self.temporal(x), mask))
        return torch.relu(x + shortcut if self.residual else x)
