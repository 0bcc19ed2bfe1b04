"""A HighlightMe-style ranker: frames score high that help most to reconstruct all poses.

It reads neither users nor labels.

Source: U. Bhattacharya, G. Wu, S. Petrangeli, V. Swaminathan, D. Manocha, "HighlightMe: Detecting
Highlights from Human-Centric Videos", ICCV 2021 (arXiv 2110.01774), known here from its abstract
and its authors' summary: poses and faces as graphs with edges along bones, between the same joints
of the persons of a frame, and along time; an autoencoder of spatial-temporal graph convolutions;
one score a frame by how representative it is, where few frames should score high and yet the
weighted representations should reconstruct the video. No code was published.

Ours, because the sources leave it open: widths, depth and kernel; latent codes are bounded by tanh,
so that large codes cannot undo a score near 0; only poses, without face landmarks; coordinates are
divided by the largest of the video; the k-th person of a frame is the k-th best scored, so edges
along time join ranks, not tracked persons; training on the target dataset, not on AVA-Kinetics. A
frame without persons scores 0. Published numbers (PHD2 .200) are not comparable.

Letters in shapes: those of `contract.py`; P persons, J = 17 keypoints, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import masked_mean
from models.highlight.base.skeleton import bone_weights
from models.validation import layer_widths, odd


@dataclass(frozen=True)
class HighlightMeSettings:
    """Sizes of encoder and decoder, which mirror each other; all are ours."""

    widths: tuple[int, ...] = (32, 64)
    kernel_frames: int = 9
    """Frames of a convolution along time; an odd number (9 as in ST-GCN)."""

    def __post_init__(self) -> None:
        layer_widths("widths", self.widths)
        odd("kernel_frames", self.kernel_frames)


class GraphUnit(nn.Module):
    """A residual graph convolution: along bones, between persons, then along time."""

    bones: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_frames: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, outputs)
        self.along_bones = nn.Linear(inputs, outputs, bias=False)
        self.between_persons = nn.Linear(inputs, outputs, bias=False)
        self.along_time = nn.Conv1d(outputs, outputs, kernel_frames, padding=kernel_frames // 2)
        self.residual = nn.Linear(inputs, outputs, bias=False)
        self.register_buffer("bones", bone_weights(), persistent=False)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """`(B, T, P, J, inputs)` and `present` `(B, T, P)` → `(B, T, P, J, outputs)`.

        Both are zero where `present` is false.
        """
        other_persons = (present.sum(dim=2, keepdim=True) - 1).clamp(min=1)
        mean_of_others = x.sum(dim=2, keepdim=True) - x
        mean_of_others = mean_of_others / other_persons[..., None, None]
        absent = ~present[..., None, None]
        y = self.own(x) + self.along_bones(self.bones @ x) + self.between_persons(mean_of_others)
        y = torch.relu(y).masked_fill(absent, 0)
        batch, frames, persons, keypoints, channels = y.shape
        # (B·P·J, C, T): a convolution along time for each keypoint of each person.
        tracks = y.permute(0, 2, 3, 4, 1).reshape(-1, channels, frames)
        convolved = self.along_time(tracks).view(batch, persons, keypoints, channels, frames)
        y = torch.relu(convolved.permute(0, 4, 1, 2, 3))
        out: Tensor = (y + self.residual(x)).masked_fill(absent, 0)
        return out


class HighlightMe(nn.Module):
    """Encoder, scorer and decoder over poses."""

    def __init__(self, key: str, settings: HighlightMeSettings) -> None:
        super().__init__()
        self.key = key
        widths = (2, *settings.widths)
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(GraphUnit(*pair, settings.kernel_frames) for pair in pairs)
        self.scorer = nn.Linear(widths[-1], 1)
        self.decoder = nn.ModuleList(
            GraphUnit(*pair[::-1], settings.kernel_frames) for pair in reversed(pairs[1:])
        )
        self.last = nn.Linear(widths[1], 2)

    def forward(self, batch: Batch) -> Scores:
        """Scores from 0 to 1.

        `parts` has `poses` and `reconstruction` `(B, T, P, J, 2)`, and `present` `(B, T, P)` bool.
        Keypoints are `(B, T, P, J, 3)`; a person whose numbers are all zero is absent.
        """
        poses, present = self._poses(batch)
        codes = poses
        for unit in self.encoder:
            codes = unit(codes, present)
        codes = torch.tanh(codes)
        frame_codes = masked_mean(codes.mean(dim=3), present)  # (B, T, C)
        scores = torch.sigmoid(self.scorer(frame_codes)).squeeze(-1)  # (B, T)
        scores = scores.masked_fill(~present.any(dim=2), 0)
        # A frame that scores 0 contributes nothing to the reconstruction.
        decoded = codes * scores[..., None, None, None]
        for unit in self.decoder:
            decoded = unit(decoded, present)
        parts = {"poses": poses, "reconstruction": self.last(decoded), "present": present}
        return Scores(scores.float(), parts)

    def _poses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions as shares of the video's largest coordinate, minus a half."""
        keypoints = batch.features[self.key]
        present = keypoints.ne(0).flatten(3).any(dim=-1) & batch.mask.unsqueeze(-1)
        absent = ~present[..., None, None]
        positions = keypoints[..., :2].masked_fill(absent, 0)
        largest = positions.abs().flatten(1).amax(dim=1).clamp(min=1)  # (B,) pixels
        shares = positions / largest[:, None, None, None, None]
        return (shares - 0.5).masked_fill(absent, 0), present


def _build(settings: HighlightMeSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    expected = (len(KEYPOINTS), 3)
    arrays = list(shapes.items())
    is_poses = len(arrays) == 1 and len(arrays[0][1]) == 3 and arrays[0][1][1:] == expected
    if not is_poses:
        raise ValueError(
            "this model reads exactly one array, with the shape "
            f"(persons, {expected[0]}, 3) for each position; got {dict(shapes)}"
        )
    return HighlightMe(arrays[0][0], settings)


SPEC = ModelSpec(
    name="highlight_me",
    source="HighlightMe (ICCV 2021), poses only, from its abstract",
    arrays=("keypoint_rcnn/joints",),
    unit="row",
    history="none",
    settings=HighlightMeSettings,
    build=_build,
)
