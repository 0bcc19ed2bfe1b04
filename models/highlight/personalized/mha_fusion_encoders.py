"""The encoders of MHA+Fusion: maps of objects, and keypoints of persons, to a vector per frame.

Source: the MHA+Fusion paper (ACM Multimedia 2022), section 3.1, eq. 2 and 3. Depths and widths
are at best in its Fig. 3 and 4; they and all that is marked `ours` are not in the text.

Letters: N sequences, T frames, P slots for persons, V = 17 keypoints, C channels, g cells per side.
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
    """Eq. 3: ST-GCN units over each person's skeleton, keypoints pooled on five chains.

    Ours: the mean over a chain's keypoints, and over the persons of a frame; a frame without
    persons is zero. As in the release the first unit has no residual, and a norm comes first. A
    person is followed through time by the slot in the array, which is the order of scores: nothing
    identifies persons between frames.

    `sees_padding` counts every slot as a person, and every frame as present, as zero-padding
    without a mask would.
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
        """`(N, T, P, V, C)`, persons `(N, T, P)` and frames `(N, T)` that exist → y `(N, T, d_y)`.

        Zero outside the mask.
        """
        present = torch.ones_like(present) if self.sees_padding else present & mask.unsqueeze(2)
        slots = present.transpose(1, 2).flatten(0, 1)  # (N·P, T)
        # Slots that are empty in all frames are left out: on most videos they are the majority.
        is_used = slots.any(1)
        x = persons.permute(0, 2, 4, 1, 3).flatten(0, 1)[is_used]  # (M, C, T, V)
        used_chains = self._chains(x, slots[is_used])
        chains = used_chains.new_zeros(*slots.shape, self.width)
        chains[is_used] = used_chains
        total = chains.reshape(len(persons), persons.shape[2], *chains.shape[1:]).sum(1)
        return total / present.sum(2).clamp(min=1).unsqueeze(-1)

    def _chains(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(M, C, T, V)` and `(M, T)` → `(M, T, d_y)`."""
        by_keypoint = x.transpose(2, 3)  # (M, C, V, T)
        normed = self.input_norm(by_keypoint.flatten(1, 2), mask).reshape(by_keypoint.shape)
        x = normed.transpose(2, 3)
        for unit in self.units:
            x = unit(x, mask)
        pooled: Tensor = x @ self.get_buffer("pooling")
        return pooled.permute(0, 2, 1, 3).flatten(2)


def center_keypoints(keypoints: Tensor) -> Tensor:
    """`(..., V, 3)` in pixels → in sizes of the person, from the mean of the keypoints.

    Scores, and persons of zeros, stay. Ours: the paper does not say, and pixels would bind what is
    learned to one size of picture.
    """
    positions, score = keypoints[..., :2], keypoints[..., 2:]
    centre = positions.mean(-2, keepdim=True)
    extent = positions.amax(-2, keepdim=True) - positions.amin(-2, keepdim=True)
    size = extent.amax(-1, keepdim=True)
    return torch.cat(((positions - centre) / size.clamp(min=1), score), -1)
