"""The first layers of MHA+Fusion: maps of objects, and joints of persons, become one narrow vector
a frame.

Source: the MHA+Fusion paper (ACM Multimedia 2022), section 3.1, eq. 2 and 3. Depths and widths
stand in its Fig. 3 and 4 at best; they and all that is marked `ours` are not in the text. Refuses
to know attention and users.

Letters: N sequences, T frames, P places for persons, V = 17 joints, C channels, g cells on a side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.masking import MaskedBatchNorm
from models.highlight.base.st_gcn import (
    COCO_CENTER,
    COCO_CHAINS,
    COCO_LINKS,
    STGCNUnit,
    spatial_partition,
)


class PrimingConv3D(nn.Module):
    """Eq. 2: convolutions over time and both sides of the map, each with batch norm and ReLU.

    Ours: kernels of 3×3×3, and the mean over the cells at the end.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        sides = [channels, *widths]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(before, after, 3, padding=1, bias=False)
            for before, after in zip(sides, widths, strict=False)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for width in widths)
        self.width = sides[-1]
        """d_z."""

    def forward(self, maps: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, C, g, g)`, zero outside the mask `(N, T)` → z, `(N, T, d_z)`, likewise."""
        x = maps.transpose(1, 2)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = torch.relu(norm(convolution(x), mask))
        return x.mean((3, 4)).transpose(1, 2)


class PrimingSTGCN(nn.Module):
    """Eq. 3: ST-GCN units over each person's skeleton, joints pooled on the five chains, chains
    side by side.

    Ours: the mean over a chain's joints, and over the persons of a frame; a frame without persons
    is zero. As in the release the first unit has no residual, and a norm comes first. Persons are
    followed by their place in the array, the order of their scores: nothing tells who is who in the
    next frame.

    `sees_padding` counts every place as a person, and every frame as there, as zero-padding without
    a mask would.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        dropout: float = 0,
        sees_padding: bool = False,
    ) -> None:
        super().__init__()
        self.sees_padding = sees_padding
        partition = torch.from_numpy(
            spatial_partition(len(KEYPOINTS), COCO_LINKS, COCO_CENTER)
        ).float()
        self.input_norm = MaskedBatchNorm(len(KEYPOINTS) * channels)
        sides = [channels, *widths]
        self.units = nn.ModuleList(
            STGCNUnit(before, after, partition, residual=number > 0, dropout=dropout)
            for number, (before, after) in enumerate(zip(sides, widths, strict=False))
        )
        pooling = torch.zeros(len(KEYPOINTS), len(COCO_CHAINS))
        for number, chain in enumerate(COCO_CHAINS):
            pooling[list(chain), number] = 1 / len(chain)
        self.register_buffer("pooling", pooling, persistent=False)
        self.width = len(COCO_CHAINS) * sides[-1]
        """d_y."""

    def forward(self, persons: Tensor, present: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, P, V, C)`, who is there `(N, T, P)`, frames `(N, T)` → y, `(N, T, d_y)`, zero
        outside the mask.
        """
        present = torch.ones_like(present) if self.sees_padding else present & mask.unsqueeze(2)
        places = present.transpose(1, 2).flatten(0, 1)  # (N·P, T)
        someone = places.any(1)
        x = persons.permute(0, 2, 4, 1, 3).flatten(0, 1)[someone]  # (M, C, T, V)
        chains = self._chains(x, places[someone])
        everyone = chains.new_zeros(*places.shape, self.width)
        everyone[someone] = chains
        total = everyone.reshape(len(persons), persons.shape[2], *everyone.shape[1:]).sum(1)
        return total / present.sum(2).clamp(min=1).unsqueeze(-1)

    def _chains(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(M, C, T, V)` and `(M, T)` → `(M, T, d_y)`."""
        by_joint = x.transpose(2, 3)  # (M, C, V, T)
        x = self.input_norm(by_joint.flatten(1, 2), mask).reshape(by_joint.shape).transpose(2, 3)
        for unit in self.units:
            x = unit(x, mask)
        pooled: Tensor = x @ self.get_buffer("pooling")
        return pooled.permute(0, 2, 1, 3).flatten(2)


def center_keypoints(joints: Tensor) -> Tensor:
    """x and y in pixels → in sizes of the person, from the middle of the joints; `(..., V, 3)`,
    zeros stay zeros.

    Ours: the paper does not say, and pixels would tie what is learned to one size of picture. The
    score stays as it is.
    """
    places, score = joints[..., :2], joints[..., 2:]
    middle = places.mean(-2, keepdim=True)
    size = (places.amax(-2, keepdim=True) - places.amin(-2, keepdim=True)).amax(-1, keepdim=True)
    return torch.cat(((places - middle) / size.clamp(min=1), score), -1)
